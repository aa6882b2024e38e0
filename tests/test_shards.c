/* test_shards.c - what each of several processes owns, the cut of a batch, and that stepping parts
 * is stepping the whole: all of it in one process. What they say to each other: tests/cluster. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/rng.h"
#include "cluster/cluster.h"
#include "cluster/exchange.h"
#include "cluster/share.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMS = 5, MOST = 20000 };
/* A vector, matrices of whole and of broken blocks, one value. */
static const int64_t shapes[PARAMS][2] = {{1, 300}, {64, 256}, {100, 131}, {1, 1}, {40, 128}};

struct values {
    float p[PARAMS][MOST], g[PARAMS][MOST];
    struct tensor t[PARAMS];
    struct tensor *list[PARAMS];
};

static struct values *make_values(uint64_t seed)
{
    struct values *v = calloc(1, sizeof *v);
    struct rng r;

    assert_non_null(v);
    rng_seed(&r, seed, 0);
    for (int i = 0; i < PARAMS; i++) {
        v->t[i] = tensor_leaf(DT_F32, shapes[i][0], shapes[i][1], v->p[i]);
        v->t[i].needs_grad = true;
        v->t[i].grad = v->g[i];
        v->list[i] = &v->t[i];
        for (int64_t k = 0; k < tensor_count(&v->t[i]); k++)
            v->p[i][k] = (float)rng_normal(&r);
    }
    return v;
}

static void set_gradients(struct values *v, uint64_t seed)
{
    struct rng r;

    rng_seed(&r, seed, 1);
    for (int i = 0; i < PARAMS; i++)
        for (int64_t k = 0; k < tensor_count(&v->t[i]); k++)
            v->g[i][k] = (float)rng_normal(&r);
}

/* Each value has one owner, owners are in the order of ranks, and their parts are of whole blocks,
 * of which all have as many but for one: of each parameter, and of all together. */
static void test_owners(void **state)
{
    struct values *v = make_values(1);
    struct shards s;
    struct err e;

    (void)state;
    assert_true(shards_init(&s, v->list, PARAMS, &e));
    for (int size = 1; size <= 300; size++) {
        int64_t all[300] = {0};
        for (int i = 0; i < PARAMS; i++) {
            const int64_t even = (s.begin[i + 1] - s.begin[i]) / size;
            int64_t next = 0;
            for (int rank = 0; rank < size; rank++) {
                const struct adamw_part p = shards_part(&s, size, rank, i);
                assert_true(p.n >= 0 && p.first % MOMENT_BLOCK == 0);
                assert_true(p.n == 0 || p.first == next);
                assert_in_range(moment_blocks(p.n), even, even + 1);
                next += p.n;
                all[rank] += moment_blocks(p.n);
            }
            assert_int_equal(next, tensor_count(&v->t[i]));
        }
        for (int rank = 0; rank < size; rank++)
            assert_in_range(all[rank], s.begin[PARAMS] / size, s.begin[PARAMS] / size + 1);
    }
    shards_free(&s);
    free(v);
}

/* The optimisers of all processes of a size, in turn on the same values. */
static double step_parts(struct values *v, enum moment_type type, int size, int steps)
{
    struct adamw *o = calloc((size_t)size, sizeof *o);
    double most = 0, all = 0;
    struct shards s;
    struct err e;

    assert_true(o && shards_init(&s, v->list, PARAMS, &e));
    for (int rank = 0; rank < size; rank++) {
        struct adamw_part parts[PARAMS];
        for (int i = 0; i < PARAMS; i++)
            parts[i] = shards_part(&s, size, rank, i);
        assert_true(adamw_init(&o[rank], v->list, parts, PARAMS, type, &e));
        o[rank].seed = 7;
        most = fmax(most, adamw_state_bytes(&o[rank]));
        all += adamw_state_bytes(&o[rank]);
    }
    for (int step = 0; step < steps; step++) {
        double squares = 0;
        set_gradients(v, (uint64_t)step);
        for (int rank = 0; rank < size; rank++)
            squares += adamw_grad_squares(&o[rank]);
        assert_true(fabs(squares / 48000 - 1) < 0.5); /* of about as many values of variance 1 */
        for (int rank = 0; rank < size; rank++)
            adamw_step(&o[rank], 1e-2, 0.5);
    }
    for (int rank = 0; rank < size; rank++)
        adamw_free(&o[rank]);
    /* equal parts but for one block of 256 values, 2 moments of 4 bytes at most, and what the last
     * block of each parameter lacks */
    assert_true(most <= all / size + 2 * 4 * MOMENT_BLOCK * (1 + (double)PARAMS / size));
    shards_free(&s);
    free(o);
    return all;
}

/* To the last bit, in every storage: rounding by chance goes by a value's place, not its owner. The
 * state of all together takes what that of one takes. */
static void test_parts_are_the_whole(void **state)
{
    (void)state;
    for (enum moment_type type = 0; type < MOMENT_TYPES; type++) {
        struct values *one = make_values(2);
        const double bytes = step_parts(one, type, 1, 3);

        for (int size = 2; size <= 8; size++) {
            struct values *v = make_values(2);
            assert_true(step_parts(v, type, size, 3) == bytes);
            for (int i = 0; i < PARAMS; i++)
                assert_memory_equal(v->p[i], one->p[i], sizeof v->p[i]);
            free(v);
        }
        free(one);
    }
}

static void test_share(void **state)
{
    static const int64_t cost[] = {7, 900, 30, 30, 512, 1, 77, 64, 300, 2, 450, 90};
    enum { N = sizeof cost / sizeof *cost };
    int64_t load[16], all = 0;
    int32_t owner[N];

    (void)state;
    for (int i = 0; i < N; i++)
        all += cost[i];
    for (int size = 1; size <= 16; size++) {
        int64_t most = 0, sums[16] = {0};
        const int64_t even = (all + size - 1) / size, best = even > 900 ? even : 900;

        share_by_cost(owner, cost, N, load, size);
        for (int i = 0; i < N; i++) {
            assert_in_range(owner[i], 0, size - 1);
            sums[owner[i]] += cost[i];
        }
        for (int r = 0; r < size; r++) {
            assert_int_equal(sums[r], load[r]);
            assert_true(size > N || sums[r] > 0); /* nobody is idle */
            most = most > sums[r] ? most : sums[r];
        }
        assert_true(3 * most <= 4 * best); /* Graham's bound */
    }
}

/* One process: nothing is cut, sent or changed. */
static void test_alone(void **state)
{
    struct values *v = make_values(3);
    double sums[] = {1.5, -2};
    struct exchange *x;
    size_t bytes;
    void *text;
    struct err e = {0};

    (void)state;
    assert_int_equal(cluster_size(), 1);
    assert_true(cluster_first() && cluster_agree(true, &e) && cluster_sum(sums, 2, &e));
    assert_true(sums[0] == 1.5 && sums[1] == -2);
    err_set(&e, "why");
    assert_false(cluster_agree(false, &e) || cluster_go_on(false, &e));
    assert_string_equal(e.msg, "why");
    assert_true(cluster_gather("one", 3, &text, &bytes, &e));
    assert_true(bytes == 3 && memcmp(text, "one", 3) == 0);
    free(text);
    x = exchange_new(v->list, PARAMS, WIRE_BF16, &e);
    assert_non_null(x);
    set_gradients(v, 4);
    v->g[1][0] = 1.00001f; /* not a bf16 */
    exchange_begin(x);
    exchange_final(x, &v->t[1]);
    exchange_finish(x);
    exchange_values(x);
    assert_true(v->g[1][0] == 1.00001f && exchange_theory(x) == 0);
    assert_true(exchange_sent(x).gradients == 0 && exchange_sent(x).values == 0);
    for (int i = 0; i < PARAMS; i++)
        assert_true(exchange_parts(x)[i].first == 0 &&
                    exchange_parts(x)[i].n == tensor_count(&v->t[i]));
    exchange_free(x);
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_owners),
                                       cmocka_unit_test(test_parts_are_the_whole),
                                       cmocka_unit_test(test_share), cmocka_unit_test(test_alone)};

    return cmocka_run_group_tests_name("shards", tests, NULL, NULL);
}
