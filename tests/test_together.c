/* test_together.c - answers that are made together do not depend on each other: the bits of a
 * product's row, and of a sequence's logits, are those that it has alone. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <omp.h>

#include "tests/backend.h"
#include "tests/tiny_convert.h"
#include "tests/tiny_variants.h"

#include "base/bf16.h"
#include "model/generate.h"

static int apart_setup(void **state)
{
    (void)state;
    gemm_setup(backend_library(), GEMM_F32);
    gemm_rows_apart();
    return 0;
}

/* ---- products ---- */

static const enum dtype dtypes[] = {DT_F32, DT_BF16, DT_F16};

/* w[n] in a dtype. */
static void *stored(const float *w, int64_t n, enum dtype t)
{
    uint16_t *h = malloc((size_t)n * sizeof(float));

    assert_non_null(h);
    if (t == DT_F32) return memcpy(h, w, (size_t)n * sizeof *w);
    for (int64_t i = 0; i < n; i++)
        h[i] = t == DT_BF16 ? bf16_from_f32(w[i]) : f16_from_f32(w[i]);
    return h;
}

/* Rows of x[M,K] times w[N,K], with a base: each as alone, whatever the number of threads. */
static void check_product(struct rng *r, int64_t N, int64_t K, enum dtype t)
{
    float *x = tiny_values(r, GEMM_APART * K, 1), *w = tiny_values(r, N * K, 1);
    float *bias = tiny_values(r, N, 1), *one = tiny_values(r, N, 1);
    float *all = tiny_values(r, GEMM_APART * N, 1);
    void *b = stored(w, N * K, t), *scratch = malloc(gemm_scratch(GEMM_APART, N, K, t) + 64);
    const struct base base = {.row = bias};

    for (int64_t M = 2; M <= GEMM_APART; M += 3) {
        omp_set_num_threads(3);
        gemm_onto(M, N, K, mat_of(x, K, false), (struct mat){b, t, K, true}, base, all, N, scratch);
        for (int64_t i = 0; i < M; i++) {
            omp_set_num_threads(1 + (int)(i % 3));
            gemm_onto(1, N, K, mat_of(x + i * K, K, false), (struct mat){b, t, K, true}, base, one,
                      N, scratch);
            assert_memory_equal(one, all + i * N, (size_t)N * sizeof *one);
        }
    }
    free(x);
    free(w);
    free(b);
    free(bias);
    free(one);
    free(all);
    free(scratch);
}

static void test_products(void **state)
{
    static const int64_t shapes[][2] = {{1, 1},     {7, 5},      {40, 33},   {100, 64},
                                        {446, 128}, {1000, 300}, {129, 5000}};
    struct rng r;

    (void)state;
    rng_seed(&r, 1, 1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = 0; t < 3; t++)
            check_product(&r, shapes[i][0], shapes[i][1], dtypes[t]);
}

/* ---- models ---- */

enum { STEPS = 5 };

/* A cache of all sequences, each of whose prompts was computed by itself. */
static void open_cache(struct kv_cache *c, struct model *m, struct tape *t, struct tiny_batch *all)
{
    struct generator g = {.m = m, .t = t};
    struct err e = {0};

    must(kv_cache_new(c, m, NULL, SAMPLES, 64, &e), &e);
    for (int64_t s = 0; s < SAMPLES; s++) {
        struct forward f = all->f;
        must(batch_fill(&all->b, &all->s[s], 1, true, &e), &e);
        all->leaf.rows = all->b.batch.image_tokens;
        for (int64_t i = 0; i < all->b.batch.images; i++)
            all->b.shapes[i].tokens = TINY_PICTURE;
        f.features = all->b.batch.image_tokens ? &all->leaf : NULL;
        f.cache = c;
        f.seq = &s;
        must(generate_logits(&g, &f, &e), &e);
    }
}

/* One token for the sequences [from, to); their logits go to out[sequence]. */
static void step(struct model *m, struct tape *t, struct kv_cache *c, struct running *r, int k,
                 int64_t from, int64_t to, float (*out)[TINY_VOCAB])
{
    struct generator g = {.m = m, .t = t};
    struct err e = {0};

    r->n = 0;
    for (int64_t s = from; s < to; s++)
        running_add(r, s, (int32_t)(7 * s + 3 * k + 1) % (TINY_VOCAB - 1), c->next[s]);
    const struct batch b = running_batch(r);
    const struct forward f = {.batch = &b, .cache = c, .seq = r->seq};
    struct tensor *got = generate_logits(&g, &f, &e);
    must(got, &e);
    memcpy(out[from], got->data, (size_t)(to - from) * sizeof *out);
}

/* All together give what each gives alone, and what they give when one joins later. */
static void check_model(struct model *m, struct tiny_batch *all)
{
    struct tape *t = new_tape();
    struct kv_cache together, alone;
    struct running r;
    struct err e = {0};
    float one[SAMPLES][TINY_VOCAB], many[SAMPLES][TINY_VOCAB];

    must(running_new(&r, SAMPLES, m, &e), &e);
    open_cache(&together, m, t, all);
    open_cache(&alone, m, t, all);
    for (int k = 0; k < STEPS; k++) {
        const int64_t from = k == 0, to = k == 3 ? SAMPLES - 1 : SAMPLES;
        step(m, t, &together, &r, k, from, to, many);
        for (int64_t s = from; s < to; s++) {
            step(m, t, &alone, &r, k, s, s + 1, one);
            assert_memory_equal(one[s], many[s], sizeof one[s]);
        }
    }
    running_free(&r);
    kv_cache_free(&together);
    kv_cache_free(&alone);
    tape_free(t);
}

static void test_models(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++)
        for (int threads = 1; threads <= 3; threads += 2) {
            struct tiny_batch all;
            struct model m;
            omp_set_num_threads(threads);
            open_variant(&m, &all, &variants[v]);
            check_model(&m, &all);
            tiny_partial(&m, 4);
            check_model(&m, &all);
            model_close(&m);
            tiny_batch_free(&all);
        }
}

static void test_methods(void **state)
{
    (void)state;
    omp_set_num_threads(2);
    for (int v = 0; v < VARIANTS; v++)
        for (int method = KV_JOINT; method < KV_METHODS; method++)
            for (int decoupled = 0; decoupled < (variants[v].type ? 1 : 2); decoupled++) {
                struct tiny_batch all;
                struct model m;
                open_variant(&m, &all, &variants[v]);
                tiny_partial(&m, 4);
                tiny_mla(&m, (enum kv_method)method, decoupled, variants[v].kv_heads + 1);
                check_model(&m, &all);
                model_close(&m);
                tiny_batch_free(&all);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_methods),
    };

    return cmocka_run_group_tests_name("together", tests, apart_setup, NULL);
}
