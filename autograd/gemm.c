/* gemm.c - OpenBLAS, one thread of it per thread of ours: C is cut into a grid, each thread
 * computes its part. So BLAS needs no threads of its own, which would spin against OpenMP's, and
 * the order of every sum is fixed by the shape and the number of threads. */
#include "autograd/gemm.h"
#include "base/bf16.h"
#include "base/err.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>

enum { CONVERT_BYTES = 8 << 20 }; /* of a converted block: fits the caches of the cores together */
static const double serial_work = 1 << 17; /* multiplications below which threads cost more */

void gemm_blas_threads(int n)
{
    openblas_set_num_threads(n);
}

/* M, N and K of one call fit BLAS's int: 2^31 rows of activations would be terabytes. */
static int blas_int(int64_t n)
{
    CHECK(n >= 0 && n <= INT32_MAX);
    return (int)n;
}

void gemm_serial(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b, bool add,
                 real *c, int64_t ldc)
{
    CBLAS_TRANSPOSE ta = a.trans ? CblasTrans : CblasNoTrans;
    CBLAS_TRANSPOSE tb = b.trans ? CblasTrans : CblasNoTrans;

    if (M == 0 || N == 0) return;
    CHECK(a.dtype == DT_REAL && b.dtype == DT_REAL);
#ifdef AUTOGRAD_DOUBLE
    cblas_dgemm(
#else
    cblas_sgemm(
#endif
        CblasRowMajor, ta, tb, blas_int(M), blas_int(N), blas_int(K), alpha, a.data, blas_int(a.ld),
        b.data, blas_int(b.ld), add, c, blas_int(ldc));
}

/* The element (row, col) of an operand as it is read, transposed or not. */
static struct mat mat_at(struct mat m, int64_t row, int64_t col)
{
    int64_t at = m.trans ? col * m.ld + row : row * m.ld + col;

    m.data = (const char *)m.data + (size_t)at * dtype_size(m.dtype);
    return m;
}

/* The grid of `threads` parts whose pieces of A and B are the least to read. */
static void choose_grid(int64_t M, int64_t N, int threads, int *gm, int *gn)
{
    double best = INFINITY;

    for (int m = 1; m <= threads; m++) {
        if (threads % m) continue;
        int n = threads / m;
        double read = (double)((M + m - 1) / m) + (double)((N + n - 1) / n);
        if (read < best) {
            best = read;
            *gm = m;
            *gn = n;
        }
    }
}

/* Where part i of `parts` of n begins, in steps of 16: whole vectors for all but the last. */
static int64_t part_begin(int64_t n, int parts, int i)
{
    int64_t at = (n * i / parts + 15) / 16 * 16;

    return i == parts || at > n ? n : at;
}

static void gemm_real(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, bool add,
                      real *c, int64_t ldc)
{
    int threads = omp_get_max_threads(), gm = 1, gn = 1;

    if (M == 0 || N == 0) return;
    if (threads == 1 || (double)M * (double)N * (double)K < serial_work) {
        gemm_serial(M, N, K, 1, a, b, add, c, ldc);
        return;
    }
    choose_grid(M, N, threads, &gm, &gn);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int i = 0; i < gm * gn; i++) {
        int64_t m0 = part_begin(M, gm, i / gn), m1 = part_begin(M, gm, i / gn + 1);
        int64_t n0 = part_begin(N, gn, i % gn), n1 = part_begin(N, gn, i % gn + 1);
        gemm_serial(m1 - m0, n1 - n0, K, 1, mat_at(a, m0, 0), mat_at(b, 0, n0), add,
                    c + m0 * ldc + n0, ldc);
    }
}

static int64_t block_rows(int64_t rows, int64_t cols)
{
    int64_t fit = CONVERT_BYTES / (int64_t)sizeof(real) / (cols ? cols : 1);

    fit = fit < 16 ? 16 : fit / 16 * 16;
    return rows < fit ? rows : fit;
}

size_t gemm_scratch(enum dtype b, int64_t rows, int64_t cols)
{
    return b == DT_REAL ? 0 : (size_t)(block_rows(rows, cols) * cols) * sizeof(real);
}

void gemm(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, bool add, real *c,
          int64_t ldc, void *scratch)
{
    int64_t rows = b.trans ? N : K, cols = b.trans ? K : N; /* of B as it is stored */
    int64_t step;
    real *block = scratch;
    struct tensor stored;

    if (b.dtype == DT_REAL) {
        gemm_real(M, N, K, a, b, add, c, ldc);
        return;
    }
    CHECK(scratch && b.ld == cols);
    stored = tensor_leaf(b.dtype, rows, cols, b.data);
    step = block_rows(rows, cols);
    if (rows == 0) gemm_real(M, N, 0, a, mat_of(block, cols, b.trans), add, c, ldc);
    for (int64_t r = 0; r < rows; r += step) {
        int64_t n = rows - r < step ? rows - r : step;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++)
            tensor_to_real(&stored, (r + i) * cols, cols, block + i * cols);
        if (b.trans) /* stored rows are columns of C */
            gemm_real(M, n, K, a, mat_of(block, cols, true), add, c + r, ldc);
        else /* stored rows are a slice of the sum */
            gemm_real(M, N, n, mat_at(a, 0, r), mat_of(block, cols, false), add || r > 0, c, ldc);
    }
}
