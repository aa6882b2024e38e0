/* test_narrow_bf16.c - products of few rows in bf16, as in decoding: against sums in double of
 * rounded inputs, and each row's bits those that it gets alone, whatever the other
 * rows and the threads. */
#include "autograd/gemm.h"
#include "autograd/narrow.h"
#include "tests/backend.h"
#include "tests/ops_bench.h"

#include <omp.h>

static int in_bf16(void **state)
{
    (void)state;
    gemm_setup(backend_library(), GEMM_BF16);
    return 0;
}

static double rounded(double v)
{
    return (double)bf16_round((float)v);
}

/* Terms are about 1 and every addition rounds to 2^-24 of the sum so far, as in test_gemm.c. */
static double bound(int64_t K)
{
    return 0x1p-22 * (double)(K + 8);
}

static const enum dtype dtypes[] = {DT_F32, DT_BF16, DT_F16};

static void check_rows(int64_t N, int64_t K, enum dtype dtype)
{
    struct bench b;

    bench_open(&b);
    const struct matrix *x = fresh(&b, DT_F32, NARROW_ROWS, K, 1), *w = fresh(&b, dtype, N, K, 1);
    const struct matrix *bias = fresh(&b, DT_F32, 1, N, 1);
    const struct mat right = {w->leaf.data, dtype, K, true};
    const struct base base = {.row = tensor_real(&bias->leaf)};
    real *all = zeroed(NARROW_ROWS * N, sizeof *all), *one = zeroed(N, sizeof *one);
    void *scratch = aligned_alloc(64, (gemm_scratch(NARROW_ROWS, N, K, dtype) + 64) / 64 * 64);

    assert_non_null(scratch);
    for (int64_t M = 1; M <= NARROW_ROWS; M++) {
        omp_set_num_threads(1 + (int)(M % 3));
        gemm_onto(M, N, K, mat_of(x->leaf.data, K, false), right, base, all, N, scratch);
        for (int64_t i = 0; i < M; i++) {
            omp_set_num_threads(1 + (int)((M + i) % 3));
            gemm_onto(1, N, K, mat_of(tensor_real(&x->leaf) + i * K, K, false), right, base, one, N,
                      scratch);
            assert_memory_equal(one, all + i * N, (size_t)N * sizeof *one);
        }
    }
    for (int64_t i = 0; i < NARROW_ROWS * N; i++) {
        double want = bias->ref[i % N];
        for (int64_t k = 0; k < K; k++)
            want += rounded(x->ref[i / N * K + k]) * rounded(w->ref[i % N * K + k]);
        assert_true(fabs((double)all[i] - want) <= bound(K));
    }
    free(all);
    free(one);
    free(scratch);
    bench_close(&b);
}

/* Rests of tiles and of vectors, several parts of K, and enough work for threads. */
static void test_rows(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {7, 5},     {40, 33},    {100, 64},
                                        {9, 1}, {446, 128}, {300, 1000}, {129, 2081}};
    const int threads = omp_get_max_threads();

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = 0; t < 3; t++)
            check_rows(shapes[i][0], shapes[i][1], dtypes[t]);
    omp_set_num_threads(threads);
}

/* A matrix for each group of heads, read as it is or transposed: of T rows, then of each alone. */
static void check_heads(int64_t H, int64_t G, int64_t a, int64_t b_cols, bool trans,
                        enum dtype dtype)
{
    enum { T = 5, COL = 3 };
    struct bench b;
    struct tensor *y[1 + T];

    bench_open(&b);
    const int64_t cols = COL + H * a;
    struct matrix *x = fresh(&b, DT_F32, T, cols, 1), one[T];
    struct matrix *w = fresh(&b, dtype, G * (trans ? b_cols : a), trans ? a : b_cols, 1);
    y[0] = op_head_linear(b.t, &x->leaf, COL, &w->leaf, H, G, trans);
    for (int i = 0; i < T; i++) {
        one[i] = *x;
        one[i].leaf.rows = 1;
        one[i].leaf.data = tensor_real(&x->leaf) + i * cols;
        y[1 + i] = op_head_linear(b.t, &one[i].leaf, COL, &w->leaf, H, G, trans);
    }
    for (int i = 0; i <= T; i++)
        tape_keep(y[i]);
    compute(&b);
    for (int64_t i = 0; i < T * H * b_cols; i++) {
        const int64_t t = i / (H * b_cols), h = i / b_cols % H, c = i % b_cols, g = h / (H / G);
        double want = 0;
        for (int64_t k = 0; k < a; k++)
            want += rounded(x->ref[t * cols + COL + h * a + k]) *
                    rounded(w->ref[g * a * b_cols + (trans ? c * a + k : k * b_cols + c)]);
        assert_true(fabs((double)tensor_real(y[0])[i] - want) <= bound(a));
    }
    for (int i = 0; i < T; i++)
        assert_memory_equal(y[1 + i]->data, tensor_real(y[0]) + i * H * b_cols,
                            (size_t)(H * b_cols) * sizeof(real));
    bench_close(&b);
}

static void test_heads(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * 3; i++) {
        check_heads(4, 4, 96, 200, i % 2, dtypes[i / 2]);
        check_heads(6, 2, 33, 7, i % 2, dtypes[i / 2]);
        check_heads(3, 1, 1, 1, i % 2, dtypes[i / 2]);
        check_heads(2, 2, 1100, 40, i % 2, dtypes[i / 2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_heads)};

    return cmocka_run_group_tests_name("narrow_bf16", tests, in_bf16, NULL);
}
