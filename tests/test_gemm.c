/* test_gemm.c - matrix products by each library and with each kind of input against sums in double,
 * and what bf16 inputs do to a model's loss and gradients. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/operand.h"
#include "tests/backend.h"
#include "base/bf16.h"

#include "tests/tiny_convert.h"
#include "tests/tiny_model.h"

static const enum dtype dtypes[] = {DT_F32, DT_BF16, DT_F16};

/* n values of a pool, in steps from a random place: drawing them all anew would take most of the
 * time. The steps differ, or a row could be another one shifted. */
static float *some_values(struct rng *r, int64_t n)
{
    enum { POOL = 1 << 16 };
    static float *pool;
    float *v = malloc((size_t)(n + 1) * sizeof *v);
    int64_t from = (int64_t)(rng_u64(r) % POOL), step = (int64_t)(rng_u64(r) % POOL) | 1;

    if (!pool) pool = tiny_values(r, POOL, 1);
    assert_true(pool && v);
    for (int64_t i = 0; i < n; i++)
        v[i] = pool[(from + i * step) % POOL];
    return v;
}

/* v[rows,cols] as stored in `type`: rows `ld` apart, or columns; what lies between them is 100. */
static void *stored(const float *v, int64_t rows, int64_t cols, int64_t ld, bool by_columns,
                    enum dtype type)
{
    const int64_t n = (by_columns ? cols : rows) * ld;
    float *f = malloc((size_t)n * sizeof *f + 1);
    uint16_t *h = malloc((size_t)n * sizeof *h + 1);

    assert_true(f && h);
    for (int64_t i = 0; i < n; i++)
        f[i] = 100;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            f[by_columns ? c * ld + r : r * ld + c] = v[r * cols + c];
    for (int64_t i = 0; i < n; i++)
        h[i] = type == DT_BF16 ? bf16_from_f32(f[i]) : f16_from_f32(f[i]);
    free(type == DT_F32 ? (void *)h : f);
    return type == DT_F32 ? (void *)f : h;
}

static double rounded(double v, enum gemm_compute compute)
{
    return compute == GEMM_BF16 ? bf16_to_f32(bf16_from_f32((float)v)) : v;
}

/* want[N,M] = b[N,K] a[M,K]^T, a few columns of `a` at a time so that they stay in the cache. */
static double *product_of(const double *a, const double *b, int64_t M, int64_t N, int64_t K)
{
    enum { PART = 512 };
    double *want = calloc((size_t)(M * N + 1), sizeof *want);

    assert_non_null(want);
#pragma omp parallel for
    for (int64_t n = 0; n < N; n++)
        for (int64_t from = 0; from < K; from += PART)
            for (int64_t m = 0; m < M; m++) {
                int64_t end = from + PART < K ? from + PART : K;
                double sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t k = from; k < end; k++)
                    sum += a[m * K + k] * b[n * K + k];
                want[n * M + m] += sum;
            }
    return want;
}

struct product {
    int64_t M, N, K;
    bool ta, tb, add;
    enum dtype b;
};

/* The values of both sides, a[M,K] and b[N,K], which however they are stored have one product. */
struct terms {
    float *a, *b;
    double *want; /* [N,M] */
};

static double *widened(const float *v, int64_t n, enum gemm_compute compute)
{
    double *w = malloc((size_t)(n + 1) * sizeof *w);

    assert_non_null(w);
    for (int64_t i = 0; i < n; i++)
        w[i] = rounded(v[i], compute);
    return w;
}

static struct terms terms_new(const struct product *p, enum gemm_compute compute, struct rng *r)
{
    struct terms f = {.a = some_values(r, p->M * p->K), .b = some_values(r, p->N * p->K)};
    double *a, *b;

    for (int64_t i = 0; i < p->N * p->K; i++)
        f.b[i] = p->b == DT_BF16  ? bf16_to_f32(bf16_from_f32(f.b[i]))
                 : p->b == DT_F16 ? f16_to_f32(f16_from_f32(f.b[i]))
                                  : f.b[i];
    a = widened(f.a, p->M * p->K, compute);
    b = widened(f.b, p->N * p->K, compute);
    f.want = product_of(a, b, p->M, p->N, p->K);
    free(a);
    free(b);
    return f;
}

static void terms_free(struct terms *f)
{
    free(f->a);
    free(f->b);
    free(f->want);
}

/* Terms are about 1 and every addition rounds to 2^-24 of the sum so far: 2^-22 (K + 8) is some ten
 * times the measured error, and a missing term would be off by 1. The inputs are rounded as they
 * should be, so that this holds for bf16 too. */
static void check_product(const struct product *p, const struct terms *f, struct rng *r)
{
    int64_t lda = (p->ta ? p->M : p->K) + 3, ldb = p->tb ? p->K : p->N, ldc = p->N + 5;
    float *a = stored(f->a, p->M, p->K, lda, p->ta, DT_F32), *c = some_values(r, p->M * ldc);
    void *b = stored(f->b, p->N, p->K, ldb, !p->tb, p->b);
    float *before = malloc((size_t)(p->M * ldc) * sizeof *before);
    size_t bytes = gemm_scratch(p->M, p->N, p->K, p->b);
    char *scratch = aligned_alloc(64, (bytes + 127) & ~(size_t)63);
    double bound = 0x1p-22 * (double)(p->K + 8);

    assert_true(before && scratch);
    memcpy(before, c, (size_t)(p->M * ldc) * sizeof *c);
    memset(scratch + bytes, 0x5a, 32);
    gemm(p->M, p->N, p->K, mat_of(a, lda, p->ta), (struct mat){b, p->b, ldb, p->tb}, p->add, c, ldc,
         bytes ? scratch : NULL);
    for (int i = 0; i < 32; i++)
        assert_int_equal(scratch[bytes + (size_t)i], 0x5a);
    for (int64_t i = 0; i < p->M; i++)
        for (int64_t j = 0; j < ldc; j++) {
            double want = before[i * ldc + j];
            if (j < p->N) want = (p->add ? want : 0) + f->want[j * p->M + i];
            if (!(fabs(want - c[i * ldc + j]) <= (j < p->N ? bound : 0)))
                fail_msg("%ld x %ld x %ld%s%s%s, dtype %d, [%ld, %ld]: %g is not %g", (long)p->M,
                         (long)p->N, (long)p->K, p->ta ? " ta" : "", p->tb ? " tb" : "",
                         p->add ? " add" : "", p->b, (long)i, (long)j, (double)c[i * ldc + j],
                         want);
        }
    free(a);
    free(b);
    free(c);
    free(before);
    free(scratch);
}

static void check_products(enum gemm_library library, enum gemm_compute compute)
{
    static const int64_t sizes[][3] = {
        {1, 1, 1},      {3, 5, 7},       {16, 16, 16},    {33, 47, 65},   {70, 129, 3},
        {128, 64, 96},  {1, 200, 64},    {5, 4, 0},       {0, 4, 5},      {16, 130, 2048},
        {13, 70, 1100}, {2, 1100, 2100}, {77, 321, 7001}, {200, 70, 1300}};
    struct rng r;

    rng_seed(&r, 1, 1);
    gemm_setup(library, compute);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t t = 0; t < sizeof dtypes / sizeof *dtypes; t++) {
            struct product p = {sizes[s][0], sizes[s][1], sizes[s][2], .b = dtypes[t]};
            struct terms f = terms_new(&p, compute, &r);
            for (int how = 0; how < 8; how++) {
                p.ta = how & 1;
                p.tb = how & 2;
                p.add = how & 4;
                check_product(&p, &f, &r);
            }
            terms_free(&f);
        }
    gemm_setup(backend_library(), GEMM_F32);
}

static void test_openblas(void **state)
{
    (void)state;
    check_products(GEMM_OPENBLAS, GEMM_F32);
}

static void test_onednn(void **state)
{
    (void)state;
    check_products(GEMM_ONEDNN, GEMM_F32);
}

static void test_bf16(void **state)
{
    (void)state;
    check_products(GEMM_OPENBLAS, GEMM_BF16);
    check_products(GEMM_ONEDNN, GEMM_BF16);
}

/* Right operands for more keys and columns than are multiplied, as attention has them: what lies
 * behind must not count. Inputs are exact in bf16 and sums in fp32, so that every mode gives the
 * same bits. */
static void test_operands(void **state)
{
    enum { M = 13, N = 150, K = 75, USED_N = 101, USED_K = 70 };
    real a[M * K], b[N * K], c[M * N];
    void *left = aligned_alloc(64, 1 << 20), *right = aligned_alloc(64, 1 << 20);

    (void)state;
    assert_true(left && right);
    for (int i = 0; i < M * K; i++)
        a[i] = (real)(i * 7 % 23 - 11);
    for (int i = 0; i < N * K; i++)
        b[i] = (real)(i * 5 % 19 - 9) / 4;
    for (int how = 0; how < 8; how++) {
        bool ta = how & 1, tb = how & 2;
        gemm_setup(backend_library(), how & 4 ? GEMM_BF16 : GEMM_F32);
        assert_true(operand_bytes(M, K) <= 1 << 20 && operand_bytes(K, N) <= 1 << 20);
        operand_right(mat_of(b, tb ? K : N, tb), K, N, right, true);
        for (int i = 0; i < M * N; i++)
            c[i] = 100;
        gemm_operands(M, USED_N, USED_K, 2,
                      operand_left(mat_of(a, ta ? M : K, ta), M, USED_K, left, true),
                      operand_right(mat_of(b, tb ? K : N, tb), K, N, right, false), true, c, N);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) {
                real want = 100;
                for (int k = 0; k < USED_K && j < USED_N; k++)
                    want += 2 * a[ta ? k * M + i : i * K + k] * b[tb ? j * K + k : k * N + j];
                assert_true(c[i * N + j] == want);
            }
    }
    gemm_setup(backend_library(), GEMM_F32);
    free(left);
    free(right);
}

/* Each value alone, times one: whatever converts it must round it as bf16_round does, on either
 * side and stored either way. */
static void test_rounding(void **state)
{
    static const uint32_t bits[] = {
        0x3f808000, 0x3f818000, 0xbf808000, /* halfway: to even, which is below, above, and below */
        0x3f808001, 0x3f807fff, 0xc1237fff, /* beside halfway */
        0x3fffffff, 0x7f7f8000, 0xff7fffff, /* the next power of two; infinity */
        0x7f7f7fff, 0x7f800000, 0x7fc00001, /* the largest; infinity; not a number */
        0x00808000, 0x80000000, 0x3eaaaaab,
    };
    enum { N = 70, VALUES = sizeof bits / sizeof *bits };
    real x[N * N], one[N * N], c[N * N];

    (void)state;
    for (int how = 0; how < 16; how++) {
        const bool left = how & 1, ta = how & 2, tb = how & 4;
        gemm_setup(how & 8 ? GEMM_ONEDNN : GEMM_OPENBLAS, GEMM_BF16);
        memset(x, 0, sizeof x);
        memset(one, 0, sizeof one);
        for (int i = 0; i < N; i++) {
            float value;
            memcpy(&value, &bits[i % VALUES], sizeof value);
            x[i * N + i] = (real)value;
            one[i * N + i] = 1;
        }
        void *scratch = aligned_alloc(64, (gemm_scratch(N, N, N, DT_REAL) + 63) / 64 * 64 + 64);
        assert_non_null(scratch);
        gemm(N, N, N, mat_of(left ? x : one, N, ta), mat_of(left ? one : x, N, tb), false, c, N,
             scratch);
        for (int i = 0; i < N; i++) {
            const float want = bf16_round((float)x[i * N + i]);
            assert_true(isnan(want) ? isnan(c[i * N + i]) : (float)c[i * N + i] == want);
        }
        free(scratch);
    }
    gemm_setup(backend_library(), GEMM_F32);
}

/* A packed product may have the scratch of a larger one: of more rows, columns or
 * values of the sum. */
static void test_scratch(void **state)
{
    static const int64_t sizes[] = {31, 32, 100, 500, 700, 1000, 1024, 1100, 4096, 11008};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    char text[GEMM_TEXT];

    (void)state;
    gemm_setup(backend_library(), GEMM_BF16);
    if (!strstr(gemm_describe(text), "AVX-512")) {
        gemm_setup(backend_library(), GEMM_F32);
        skip();
    }
    for (int i = 0; i < SIZES * SIZES * SIZES; i++) {
        const int at[3] = {i % SIZES, i / SIZES % SIZES, i / SIZES / SIZES};
        size_t bytes = gemm_scratch(sizes[at[0]], sizes[at[1]], sizes[at[2]], DT_BF16);
        for (int d = 0; d < 3; d++) {
            int64_t more[3] = {sizes[at[0]], sizes[at[1]], sizes[at[2]]};
            if (at[d] + 1 == SIZES || (d == 0 && at[0] == 0)) continue; /* 31: not packed */
            more[d] = sizes[at[d] + 1];
            assert_true(gemm_scratch(more[0], more[1], more[2], DT_BF16) >= bytes);
        }
    }
    gemm_setup(backend_library(), GEMM_F32);
}

/* However a bf16 product is shared out among threads, which depends on its rows and columns, each
 * value is the same to the bit: the order of its sum depends on K alone. */
static void test_sharing_out(void **state)
{
    enum { M = 2100, N = 1100, K = 1100 };
    static const int64_t parts[][2] = {{100, N}, {200, 70}, {M, 64}, {40, 1}};
    char text[GEMM_TEXT];
    struct rng r;

    (void)state;
    gemm_setup(backend_library(), GEMM_BF16);
    if (!strstr(gemm_describe(text), "AVX-512")) {
        gemm_setup(backend_library(), GEMM_F32);
        skip();
    }
    rng_seed(&r, 1, 1);
    float *a = some_values(&r, M * K), *b = some_values(&r, N * K);
    float *c = some_values(&r, M * N), *part = some_values(&r, M * N);
    void *scratch = aligned_alloc(64, (gemm_scratch(M, N, K, DT_REAL) + 63) / 64 * 64);
    assert_non_null(scratch);
    gemm(M, N, K, mat_of(a, K, false), mat_of(b, K, true), false, c, N, scratch);
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        gemm(parts[p][0], parts[p][1], K, mat_of(a, K, false), mat_of(b, K, true), false, part, N,
             scratch);
        for (int64_t i = 0; i < parts[p][0]; i++)
            assert_memory_equal(part + i * N, c + i * N, (size_t)parts[p][1] * sizeof *c);
    }
    gemm_setup(backend_library(), GEMM_F32);
    free(a);
    free(b);
    free(c);
    free(part);
    free(scratch);
}

/* c[M,N] = a b twice, which must be the same bits; how far the first is from
 * `want` (NULL: nowhere). */
static float repeated(const struct product *p, const float *a, const float *b, float *c,
                      const float *want)
{
    float *again = malloc((size_t)(p->M * p->N) * sizeof *again), off = 0;

    assert_non_null(again);
    for (int i = 0; i < 2; i++)
        gemm_real(p->M, p->N, p->K, mat_of(a, p->ta ? p->M : p->K, p->ta),
                  mat_of(b, p->tb ? p->K : p->N, p->tb), false, i ? again : c, p->N);
    assert_memory_equal(c, again, (size_t)(p->M * p->N) * sizeof *c);
    for (int64_t i = 0; want && i < p->M * p->N; i++)
        off = fmaxf(off, fabsf(c[i] - want[i]));
    free(again);
    return off;
}

/* At a number of threads the bits repeat, at any width. Between numbers they may differ, which is
 * what the pages promise: a library's order of sums depends on the widths that a thread gets. Terms
 * are about 1, so that the bound is check_product's, once for each of the two. */
static void test_threads(void **state)
{
    static const int64_t widths[] = {1, 7, 17, 24, 33, 40, 100};
    enum { WIDTHS = sizeof widths / sizeof *widths, MOST = 100, K = 1301, THREADS = 3 };
    const int threads = omp_get_max_threads();
    float *c[THREADS];
    struct rng r;

    (void)state;
    rng_seed(&r, 2, 1);
    float *a = some_values(&r, MOST * K), *b = some_values(&r, MOST * K);
    for (int t = 0; t < THREADS; t++)
        c[t] = some_values(&r, MOST * MOST);
    for (int i = 0; i < 2 * 4 * WIDTHS * WIDTHS; i++) {
        const struct product p = {.M = widths[i / 8 / WIDTHS],
                                  .N = widths[i / 8 % WIDTHS],
                                  .K = K,
                                  .ta = i & 1,
                                  .tb = i & 2};
        gemm_setup(i & 4 ? GEMM_ONEDNN : GEMM_OPENBLAS, GEMM_F32);
        for (int t = 0; t < THREADS; t++) {
            omp_set_num_threads(t + 1);
            const float off = repeated(&p, a, b, c[t], t ? c[0] : NULL);
            if (!(off <= 0x1p-21f * (K + 8)))
                fail_msg("%ld x %ld, %d threads: off by %g", (long)p.M, (long)p.N, t + 1, off);
        }
    }
    omp_set_num_threads(threads);
    gemm_setup(backend_library(), GEMM_F32);
    for (int t = 0; t < THREADS; t++)
        free(c[t]);
    free(a);
    free(b);
}

static void test_describe(void **state)
{
    char text[GEMM_TEXT];

    (void)state;
    gemm_setup(GEMM_ONEDNN, GEMM_F32);
    assert_non_null(strstr(gemm_describe(text), "fp32 by oneDNN"));
    assert_null(strstr(text, "bf16"));
    gemm_setup(GEMM_OPENBLAS, GEMM_BF16);
    assert_non_null(strstr(gemm_describe(text), "fp32 by OpenBLAS"));
    assert_non_null(strstr(text, "bf16"));
    gemm_setup(backend_library(), GEMM_F32);
}

/* ---- a model ---- */

static const char *const mixed[] = {"tttitt|TTT", "ttt|TTTT", "itti|TT"};
enum { MIXED = 3 };

/* The loss and all gradients, end to end, of an MLA model with everything trained. */
static float *gradients(enum gemm_compute compute, bool stash, int64_t recompute, double *loss,
                        int64_t *n)
{
    struct tiny_batch b;
    struct model m;
    struct err e = {0};
    struct tape *t = tape_new(&e);
    float *all, *at;

    must(t, &e);
    gemm_setup(backend_library(), compute);
    tiny_model(&m, 2, true, 4);
    tiny_partial(&m, 4);
    tiny_mla(&m, KV_JOINT, true, 6);
    must(model_train(&m, (1u << PARAM_KINDS) - 1, &e), &e);
    tiny_batch(&b, mixed, MIXED, 8);
    b.f.recompute = recompute;
    tape_stash_bf16(t, stash);
    tape_begin(t, true);
    struct tensor *out = model_loss(&m, t, &b.f, 1.0 / (double)b.b.batch.labels);
    must(tape_plan(t, 0, &e), &e);
    tape_forward(t);
    tape_backward(t, out);
    *loss = (double)tensor_real(out)[0];
    *n = 0;
    for (int64_t i = 0; i < m.n_params; i++)
        *n += tensor_count(&m.params[i].t);
    all = at = malloc((size_t)*n * sizeof *all);
    assert_non_null(all);
    for (int64_t i = 0; i < m.n_params; at += tensor_count(&m.params[i++].t))
        memcpy(at, m.params[i].t.grad, (size_t)tensor_count(&m.params[i].t) * sizeof *at);
    tiny_batch_free(&b);
    model_close(&m);
    tape_free(t);
    gemm_setup(backend_library(), GEMM_F32);
    return all;
}

/* bf16 keeps 8 bits: an input is off by up to 0.4 %. Through two layers and back, the loss is
 * within 1 % and the gradient as a whole within 3 % of fp32's; with its layers recomputed it
 * has the same bits. */
static void check_model(enum gemm_compute compute, bool stash)
{
    double loss[3], diff = 0, size = 0;
    int64_t n;
    float *f32 = gradients(GEMM_F32, false, 0, &loss[0], &n);
    float *bf16 = gradients(compute, stash, 0, &loss[1], &n);
    float *again = gradients(compute, stash, TINY_LAYERS, &loss[2], &n);

    assert_memory_equal(bf16, again, (size_t)n * sizeof *bf16);
    assert_true(loss[1] == loss[2] && loss[1] != loss[0]);
    assert_true(fabs(loss[1] - loss[0]) < 0.01 * loss[0]);
    for (int64_t i = 0; i < n; i++) {
        diff += pow((double)f32[i] - (double)bf16[i], 2);
        size += pow((double)f32[i], 2);
    }
    if (!(diff > 0 && sqrt(diff) < 0.03 * sqrt(size)))
        fail_msg("the gradient differs by %g of %g", sqrt(diff), sqrt(size));
    free(f32);
    free(bf16);
    free(again);
}

static void test_model_in_bf16(void **state)
{
    (void)state;
    check_model(GEMM_BF16, false);
    check_model(GEMM_F32, true);
    check_model(GEMM_BF16, true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_openblas),      cmocka_unit_test(test_onednn),
        cmocka_unit_test(test_bf16),          cmocka_unit_test(test_operands),
        cmocka_unit_test(test_scratch),       cmocka_unit_test(test_sharing_out),
        cmocka_unit_test(test_threads),       cmocka_unit_test(test_describe),
        cmocka_unit_test(test_model_in_bf16), cmocka_unit_test(test_rounding),
    };

    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
