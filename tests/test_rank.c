/* test_rank.c - RoPE-pair rankings against a naive definition in double, row orders against golden
 * ones made with boolean masks (tests/data/convert/make_golden.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "convert/rank.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAXT = 48 };

/* A random sample: image tokens first, then text, with RoPE angles of base 10000. */
struct sample {
    float *q, *k, *cos, *sin;
    uint8_t modality[MAXT];
    struct rank_sample view;
};

static void sample_make(struct sample *s, const struct rank_dims *n, int64_t T, int64_t images,
                        double size, uint64_t seed)
{
    const int64_t P = n->dh / 2;
    struct rng r;

    rng_seed(&r, seed, 0);
    s->q = malloc((size_t)(T * n->H * n->dh) * sizeof(float));
    s->k = malloc((size_t)(T * n->G * n->dh) * sizeof(float));
    s->cos = malloc((size_t)(T * P) * sizeof(float));
    s->sin = malloc((size_t)(T * P) * sizeof(float));
    for (int64_t j = 0; j < T * n->H * n->dh; j++)
        s->q[j] = (float)(size * rng_normal(&r));
    for (int64_t j = 0; j < T * n->G * n->dh; j++)
        s->k[j] = (float)(size * rng_normal(&r));
    for (int64_t t = 0; t < T; t++) {
        s->modality[t] = t < images;
        for (int64_t i = 0; i < P; i++) {
            const double angle = (double)t * pow(10000, -(double)i / (double)P);
            s->cos[t * P + i] = (float)cos(angle);
            s->sin[t * P + i] = (float)sin(angle);
        }
    }
    s->view = (struct rank_sample){s->q, s->k, s->cos, s->sin, s->modality, T, 1};
}

static void sample_free(struct sample *s)
{
    free(s->q);
    free(s->k);
    free(s->cos);
    free(s->sin);
}

/* What pair i contributes to the logit of query t, head h, and key u; rotated or not. */
static double pair_dot(const struct sample *s, const struct rank_dims *n, int64_t h, int64_t t,
                       int64_t u, int64_t i, bool rotated)
{
    const int64_t P = n->dh / 2, g = h / (n->H / n->G);
    const float *q = s->q + (t * n->H + h) * n->dh, *k = s->k + (u * n->G + g) * n->dh;
    const double ct = s->cos[t * P + i], st = s->sin[t * P + i];
    const double cu = s->cos[u * P + i], su = s->sin[u * P + i];
    const double qa = q[i], qb = q[P + i], ka = k[i], kb = k[P + i];

    if (!rotated) return s->view.scale * s->view.scale * (qa * ka + qb * kb);
    return (qa * ct - qb * st) * (ka * cu - kb * su) + (qb * ct + qa * st) * (kb * cu + ka * su);
}

static void softmax(double *p, const double *s, int64_t n)
{
    double top = s[0], z = 0;

    for (int64_t j = 0; j < n; j++)
        top = fmax(top, s[j]);
    for (int64_t j = 0; j < n; j++)
        z += p[j] = exp(s[j] - top);
    for (int64_t j = 0; j < n; j++)
        p[j] /= z;
}

/* The definition, literally: both distributions in full, KL = sum p log(p / p_i). */
static double naive_kl(const struct sample *s, const struct rank_dims *n, int64_t h, int64_t t,
                       int64_t pair, bool mask)
{
    double full[MAXT] = {0}, changed[MAXT] = {0}, p[MAXT], pi[MAXT], kl = 0;

    for (int64_t u = 0; u <= t; u++) {
        for (int64_t i = 0; i < n->dh / 2; i++) {
            const double rotated = pair_dot(s, n, h, t, u, i, true);
            full[u] += rotated;
            if (i != pair)
                changed[u] += rotated;
            else if (!mask)
                changed[u] += pair_dot(s, n, h, t, u, i, false);
        }
        full[u] /= sqrt((double)n->dh);
        changed[u] /= sqrt((double)n->dh);
    }
    softmax(p, full, t + 1);
    softmax(pi, changed, t + 1);
    for (int64_t u = 0; u <= t; u++)
        if (p[u] > 0) kl += p[u] * log(p[u] / pi[u]);
    return kl;
}

/* The score of (g, pair) over `count` samples, from every query. */
static double naive_score(const struct sample *s, int count, const struct rank_dims *n, int64_t g,
                          int64_t pair, bool mask)
{
    double sum[2] = {0, 0}, queries[2] = {0, 0}, score = 0;

    for (int c = 0; c < count; c++)
        for (int64_t t = 0; t < s[c].view.T; t++) {
            queries[s[c].modality[t]] += 1;
            for (int64_t h = g * (n->H / n->G); h < (g + 1) * (n->H / n->G); h++)
                sum[s[c].modality[t]] += naive_kl(&s[c], n, h, t, pair, mask);
        }
    for (int m = 0; m < 2; m++)
        if (queries[m] > 0) score += sum[m] / queries[m] / ((queries[0] > 0) + (queries[1] > 0));
    return score;
}

static void run(enum rank_strategy st, const struct rank_dims *n, int64_t max_queries,
                const struct sample *s, int count, int32_t *rank, double *scores)
{
    struct err e;
    struct rank_acc *a = rank_acc_new(st, n, max_queries, &e);

    assert_non_null(a);
    for (int c = 0; c < count; c++)
        for (int64_t l = 0; l < n->L; l++)
            assert_true(rank_acc_add(a, l, &s[c].view, &e));
    assert_true(rank_acc_finish(a, rank, scores, &e));
    rank_acc_free(a);
}

/* size: of the elements of queries and keys. Logits grow with its square, and so does fp32's
 * absolute error in the small difference of two logits. */
static void compare_with_naive(enum rank_strategy st, const struct rank_dims *n,
                               const struct sample *s, int count, double size)
{
    const int64_t P = n->dh / 2;
    int32_t rank[64];
    double scores[64];

    run(st, n, 0, s, count, rank, scores);
    for (int64_t g = 0; g < n->G; g++)
        for (int64_t i = 0; i < P; i++) {
            const double want = naive_score(s, count, n, g, i, st == RANK_MKL_MASK);
            assert_true(fabs(scores[g * P + i] - want) <= 2e-5 * want + 1e-8 * size * size);
            assert_in_range(rank[g * P + i], 0, P - 1);
            for (int64_t j = 0; j < P; j++)
                if (scores[g * P + i] > scores[g * P + j])
                    assert_true(rank[g * P + i] < rank[g * P + j]);
        }
}

static void test_mkl_is_the_definition(void **state)
{
    const struct rank_dims n = {1, 4, 2, 16};
    const double sizes[] = {0.3, 1, 6, 40}; /* from flat attention to logits in the hundreds */
    struct sample s[2];

    (void)state;
    for (int j = 0; j < 4; j++) {
        sample_make(&s[0], &n, 45, 20, sizes[j], 1);
        sample_make(&s[1], &n, 17, 3, sizes[j], 2);
        compare_with_naive(RANK_MKL, &n, s, 2, sizes[j]);
        compare_with_naive(RANK_MKL_MASK, &n, s, 2, sizes[j]);
        sample_free(&s[0]);
        sample_free(&s[1]);
    }
}

/* If cos and sin include a scale, an unrotated pair is multiplied by its square: both sides of the
 * KL are those of queries that much larger. */
static void test_mkl_with_a_scale(void **state)
{
    const struct rank_dims n = {1, 4, 2, 16};
    struct sample s;

    (void)state;
    sample_make(&s, &n, 33, 12, 1, 9);
    s.view.scale = 1.3;
    for (int64_t i = 0; i < 33 * n.dh / 2; i++) {
        s.cos[i] *= 1.3f;
        s.sin[i] *= 1.3f;
    }
    compare_with_naive(RANK_MKL, &n, &s, 1, 1.3);
    compare_with_naive(RANK_MKL_MASK, &n, &s, 1, 1.3);
    sample_free(&s);
}

static void test_one_modality_counts_alone(void **state)
{
    const struct rank_dims n = {1, 2, 1, 8};
    struct sample s;

    (void)state;
    for (int64_t images = 0; images <= 12; images += 12) {
        sample_make(&s, &n, 12, images, 1, 3);
        compare_with_naive(RANK_MKL, &n, &s, 1, 1);
        sample_free(&s);
    }
}

/* 30 image queries that ignore position against 2 text queries that depend on it: the text's mean
 * must count as much as the image's. */
static void test_modalities_weigh_the_same(void **state)
{
    const struct rank_dims n = {1, 1, 1, 8};
    struct sample s;
    int32_t rank[4];
    double scores[4], text = 0;

    (void)state;
    sample_make(&s, &n, 32, 30, 1, 4);
    memset(s.q, 0, 30 * 8 * sizeof(float));
    run(RANK_MKL, &n, 0, &s, 1, rank, scores);
    for (int64_t t = 30; t < 32; t++)
        text += naive_kl(&s, &n, 0, t, 0, false) / 2;
    assert_true(text > 1e-3);
    assert_true(fabs(scores[0] - text / 2) < 1e-4 * text);
    sample_free(&s);
}

/* Only pair 5 of kv head 1 has nonzero queries and keys, all alike: without rotation its logits are
 * flat, so only this pair distinguishes positions. */
static void test_the_positional_pair_ranks_first(void **state)
{
    const struct rank_dims n = {2, 4, 2, 16};
    const enum rank_strategy all[] = {RANK_MKL, RANK_MKL_MASK, RANK_2NORM};
    const int64_t P = 8, T = 40;
    struct sample s;
    int32_t rank[2 * 2 * 8];

    (void)state;
    sample_make(&s, &n, T, 20, 1e-3, 5);
    for (int64_t t = 0; t < T; t++) {
        s.q[(t * 4 + 2) * 16 + 5] = s.q[(t * 4 + 3) * 16 + 5] = 8;
        s.k[(t * 2 + 1) * 16 + 5] = 8;
    }
    for (int j = 0; j < 3; j++) {
        run(all[j], &n, 0, &s, 1, rank, NULL);
        assert_int_equal(rank[0 * 2 * P + P + 5], 0);
        assert_int_equal(rank[1 * 2 * P + P + 5], 0);
    }
    sample_free(&s);
}

static void test_2norm(void **state)
{
    const struct rank_dims n = {1, 4, 2, 8};
    const int64_t P = 4;
    struct sample s[2];
    int32_t rank[8];
    double scores[8];

    (void)state;
    sample_make(&s[0], &n, 20, 5, 1, 6);
    sample_make(&s[1], &n, 7, 7, 2, 7);
    run(RANK_2NORM, &n, 0, s, 2, rank, scores);
    for (int64_t h2 = 0; h2 < n.G; h2++)
        for (int64_t i = 0; i < P; i++) {
            double want = 0, k = 0;
            for (int c = 0; c < 2; c++)
                for (int64_t t = 0; t < s[c].view.T; t++)
                    k += hypot(s[c].k[(t * 2 + h2) * 8 + i], s[c].k[(t * 2 + h2) * 8 + 4 + i]) /
                         (double)s[c].view.T / 2;
            for (int64_t h = 2 * h2; h < 2 * h2 + 2; h++) {
                double q = 0;
                for (int c = 0; c < 2; c++)
                    for (int64_t t = 0; t < s[c].view.T; t++)
                        q += hypot(s[c].q[(t * 4 + h) * 8 + i], s[c].q[(t * 4 + h) * 8 + 4 + i]) /
                             (double)s[c].view.T / 2;
                want += q * k;
            }
            assert_true(fabs(scores[h2 * P + i] - want) < 1e-6 * want);
        }
    sample_free(&s[0]);
    sample_free(&s[1]);
}

/* Without queries every score is 0: the ranks must be the pair indices. */
static void test_ties_go_by_index(void **state)
{
    const struct rank_dims n = {1, 2, 1, 12};
    const enum rank_strategy all[] = {RANK_MKL, RANK_MKL_MASK, RANK_2NORM};
    struct sample s;
    int32_t rank[6];

    (void)state;
    sample_make(&s, &n, 9, 4, 1, 8);
    memset(s.q, 0, 9 * 2 * 12 * sizeof(float));
    for (int j = 0; j < 3; j++) {
        run(all[j], &n, 0, &s, 1, rank, NULL);
        for (int i = 0; i < 6; i++)
            assert_int_equal(rank[i], i);
    }
    sample_free(&s);
}

static void test_threads_do_not_matter(void **state)
{
    const struct rank_dims n = {1, 4, 2, 16};
    const int threads = omp_get_max_threads();
    struct sample s;
    int32_t rank[2][16];
    double scores[2][16];

    (void)state;
    sample_make(&s, &n, 48, 30, 1, 9);
    for (int j = 0; j < 2; j++) {
        omp_set_num_threads(j == 0 ? 1 : 3);
        run(RANK_MKL, &n, 0, &s, 1, rank[j], scores[j]);
    }
    omp_set_num_threads(threads);
    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    sample_free(&s);
}

/* max_queries 3 of 10 tokens uses positions 2, 5 and 9. */
static void test_max_queries(void **state)
{
    const struct rank_dims n = {1, 1, 1, 8};
    struct sample s;
    int32_t rank[4];
    double scores[4];

    (void)state;
    sample_make(&s, &n, 10, 0, 1, 10);
    run(RANK_MKL, &n, 3, &s, 1, rank, scores);
    for (int64_t i = 0; i < 4; i++) {
        const double want = (naive_kl(&s, &n, 0, 2, i, false) + naive_kl(&s, &n, 0, 5, i, false) +
                             naive_kl(&s, &n, 0, 9, i, false)) /
                            3;
        assert_true(fabs(scores[i] - want) < 1e-5 * want + 1e-9);
    }
    sample_free(&s);
}

/* A sample adds to plain sums: of two, either may come first. */
static void test_samples_add_up(void **state)
{
    const struct rank_dims n = {2, 2, 1, 8};
    struct sample s[2], turned[2];
    int32_t rank[8];
    double scores[8], others[8];

    (void)state;
    for (int c = 0; c < 2; c++) {
        sample_make(&s[c], &n, 14 + c, 5, 1, (uint64_t)(11 + c));
        turned[1 - c] = s[c];
    }
    for (int k = 0; k < 2; k++) {
        const enum rank_strategy strategy = k ? RANK_2NORM : RANK_MKL;
        run(strategy, &n, 0, s, 2, rank, scores);
        run(strategy, &n, 0, turned, 2, rank, others);
        assert_memory_equal(scores, others, sizeof scores);
    }
    for (int c = 0; c < 2; c++)
        sample_free(&s[c]);
}

static void test_bad_input_is_named(void **state)
{
    const struct rank_dims n = {2, 2, 1, 8};
    const enum rank_strategy all[] = {RANK_MKL, RANK_2NORM};
    const float bad[] = {NAN, INFINITY};
    struct sample s;
    int32_t rank[8];
    struct err e;

    (void)state;
    for (int j = 0; j < 4; j++) {
        struct rank_acc *a = rank_acc_new(all[j / 2], &n, 0, &e);
        sample_make(&s, &n, 9, 4, 1, 13);
        assert_true(rank_acc_add(a, 0, &s.view, &e));
        assert_false(rank_acc_finish(a, rank, NULL, &e));
        assert_non_null(strstr(e.msg, "layer 1"));
        s.k[3] = bad[j % 2];
        assert_false(rank_acc_add(a, 1, &s.view, &e));
        assert_non_null(strstr(e.msg, "layer 1"));
        assert_non_null(strstr(e.msg, "not finite"));
        s.k[3] = 0; /* the refused sample had no effect */
        assert_true(rank_acc_add(a, 1, &s.view, &e));
        assert_true(rank_acc_finish(a, rank, NULL, &e));
        rank_acc_free(a);
        sample_free(&s);
    }
}

static void test_names_and_limits(void **state)
{
    static const char *const names[] = {"high", "low",      "uniform", "2-norm",
                                        "mkl",  "mkl-mask", "logit",   "file"};
    const struct rank_dims n = {1, 4, 2, 16};
    const struct {
        struct rank_dims n;
        int64_t rope_dim;
    } bad[] = {{{1, 3, 2, 16}, 4}, {{0, 4, 2, 16}, 4},  {{1, 4, 2, 15}, 4},
               {{1, 4, 2, 16}, 0}, {{1, 4, 2, 16}, 18}, {{1, 4, 2, 16}, 5}};
    enum rank_strategy s;
    int32_t rank[16];
    struct err e;

    (void)state;
    for (int j = 0; j < 8; j++) {
        s = rank_strategy_of(names[j]);
        assert_string_equal(rank_strategy_name(s), names[j]);
        assert_int_equal(rank_strategy_kind(s), j < 3   ? RANK_KIND_FIXED
                                                : j < 7 ? RANK_KIND_MEASURED
                                                        : RANK_KIND_GIVEN);
    }
    for (size_t j = 0; j < sizeof bad / sizeof *bad; j++)
        assert_false(rank_check(&bad[j].n, bad[j].rope_dim, &e));
    /* A step of 16/6 or 16/12 is not an integer; a start beyond the step would lose pairs. */
    assert_false(rank_fixed(rank, RANK_UNIFORM, &n, 6, 0, &e));
    assert_false(rank_fixed(rank, RANK_UNIFORM, &n, 12, 0, &e));
    assert_false(rank_fixed(rank, RANK_UNIFORM, &n, 4, 4, &e));
    assert_false(rank_fixed(rank, RANK_UNIFORM, &n, 4, -1, &e));
    assert_true(rank_fixed(rank, RANK_UNIFORM, &n, 4, 3, &e));
}

static void test_orders_by_hand(void **state)
{
    /* Two kv heads of 8 dims, each shared by two query heads; ranks 0 and 1 are kept. */
    const struct rank_dims n = {1, 4, 2, 8};
    const int32_t rank[8] = {3, 0, 2, 1, /**/ 1, 3, 0, 2}, want_kept[4] = {1, 3, 0, 2};
    const int64_t want_k[16] = {1, 3, 5, 7, 8, 10, 12, 14, /**/ 0, 2, 4, 6, 9, 11, 13, 15};
    int32_t kept[4];
    int64_t k[16], q[32];

    (void)state;
    rank_select(kept, rank, &n, 4);
    assert_memory_equal(kept, want_kept, sizeof kept);
    rank_rows(k, kept, 2, 2, 8, 4);
    assert_memory_equal(k, want_k, sizeof k);
    rank_rows(q, kept, 4, 2, 8, 4);
    assert_int_equal(q[4], 8 + 1);        /* head 1 shares kv head 0's pairs */
    assert_int_equal(q[8], 16 + 0);       /* head 2 has kv head 1's pairs */
    assert_int_equal(q[16 + 12], 24 + 1); /* head 3's first NoPE row */
}

static void read_row(FILE *fp, int64_t *row, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        long long v;
        assert_int_equal(fscanf(fp, "%lld", &v), 1);
        row[j] = v;
    }
}

static void test_orders_are_the_masks(void **state)
{
    FILE *fp = fopen("tests/data/convert/orders.txt", "r");
    int cases;
    struct err e;

    (void)state;
    assert_non_null(fp);
    assert_int_equal(fscanf(fp, "%d", &cases), 1);
    assert_true(cases >= 8);
    while (cases-- > 0) {
        char name[16];
        int64_t v[5], row[256], got[256];
        int32_t rank[64], kept[64];
        enum rank_strategy s;

        assert_int_equal(fscanf(fp, "%15s", name), 1);
        read_row(fp, v, 5);
        const struct rank_dims n = {1, v[0], v[1], v[2]};
        s = rank_strategy_of(name);
        if (s == RANK_FILE) {
            read_row(fp, row, n.G * n.dh / 2);
            for (int64_t j = 0; j < n.G * n.dh / 2; j++)
                rank[j] = (int32_t)row[j];
        } else {
            assert_true(rank_fixed(rank, s, &n, v[3], v[4], &e));
        }
        rank_select(kept, rank, &n, v[3]);
        rank_rows(got, kept, n.H, n.G, n.dh, v[3]);
        read_row(fp, row, n.H * n.dh);
        assert_memory_equal(got, row, (size_t)(n.H * n.dh) * sizeof *row);
        rank_rows(got, kept, n.G, n.G, n.dh, v[3]);
        read_row(fp, row, n.G * n.dh);
        assert_memory_equal(got, row, (size_t)(n.G * n.dh) * sizeof *row);
    }
    fclose(fp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mkl_is_the_definition),
        cmocka_unit_test(test_mkl_with_a_scale),
        cmocka_unit_test(test_one_modality_counts_alone),
        cmocka_unit_test(test_modalities_weigh_the_same),
        cmocka_unit_test(test_the_positional_pair_ranks_first),
        cmocka_unit_test(test_2norm),
        cmocka_unit_test(test_ties_go_by_index),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_max_queries),
        cmocka_unit_test(test_samples_add_up),
        cmocka_unit_test(test_bad_input_is_named),
        cmocka_unit_test(test_names_and_limits),
        cmocka_unit_test(test_orders_by_hand),
        cmocka_unit_test(test_orders_are_the_masks),
    };

    return cmocka_run_group_tests_name("rank", tests, NULL, NULL);
}
