/* gemm.c - matrix products: of few rows by our own loops (narrow.h), others built from
 * single-threaded calls to OpenBLAS or oneDNN: C is cut into a grid, and each thread computes its
 * part. So the library needs no threads of its own, which would spin against OpenMP's, and the
 * order of every sum is fixed by the shape and the number of threads. bf16 products are
 * gemm_packed.c's, or left to oneDNN, including their threads. */
#include "autograd/gemm.h"
#include "autograd/gemm_parts.h"
#include "autograd/narrow_bf16.h"
#include "autograd/onednn.h"
#include "autograd/operand.h"
#include "autograd/product_bf16.h"
#include "base/bf16.h"
#include "base/signals.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

enum { CONVERT_BYTES = 8 << 20 }; /* of a converted block: fits the cores' combined caches */
enum { PACK_FROM = 32 };          /* rows of A from which it pays to pack B */
static const double serial_work = 1 << 17; /* multiplications below which threads cost more */

static struct {
    bool onednn;      /* fp32 products */
    bool bf16;        /* inputs are rounded to bf16 */
    bool bf16_native; /* and the CPU multiplies bf16 itself */
    bool packed;      /* from operands that are packed for its vector instructions */
    bool narrow_bf16; /* of few rows by our own, with these instructions */
    bool apart;       /* the bits of a row do not depend on the other rows */
} setup;

void gemm_single_blas(void)
{
    openblas_set_num_threads(1);
}

#ifdef AUTOGRAD_DOUBLE
static void product(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b,
                    bool add, real *c, int64_t ldc)
{
    cblas_dgemm(CblasRowMajor, a.trans ? CblasTrans : CblasNoTrans,
                b.trans ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K, alpha, a.data,
                (int)a.ld, b.data, (int)b.ld, add, c, (int)ldc);
}
#else
/* Vector width in bits used by OpenBLAS's kernels for a core; cores not listed: 128. */
static const struct {
    const char *core;
    int bits;
} cores[] = {
    {"Haswell", 256},  {"Zen", 256},        {"Excavator", 256},
    {"SkylakeX", 512}, {"Cooperlake", 512}, {"SapphireRapids", 512},
};

static int openblas_bits(void)
{
    const char *core = openblas_get_corename();

    for (size_t i = 0; i < sizeof cores / sizeof *cores; i++)
        if (strcmp(core, cores[i].core) == 0) return cores[i].bits;
    return 128;
}

/* 0 if nothing is known about the CPU: OpenBLAS knows better. */
static int cpu_bits(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return 512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 256;
#endif
    return 0;
}

void gemm_setup(enum gemm_library library, enum gemm_compute compute)
{
    setup.onednn = library == GEMM_ONEDNN || (library == GEMM_AUTO && openblas_bits() < cpu_bits());
    setup.bf16 = compute == GEMM_BF16;
    setup.bf16_native = setup.bf16 && onednn_has_bf16();
    setup.narrow_bf16 = setup.bf16_native && product_bf16_has();
    setup.packed = setup.narrow_bf16 && !onednn_has_amx();
    setup.apart = false;
    /* also needed for small products outside parallel regions, which oneDNN may
     * parallelise itself */
#pragma omp parallel if (setup.onednn)
    signals_own_stack();
}

const char *gemm_describe(char text[GEMM_TEXT])
{
    const char *bf16 = !setup.bf16         ? ""
                       : setup.packed      ? "; bf16 by AVX-512"
                       : setup.bf16_native ? "; bf16 by oneDNN"
                                           : "; bf16 inputs, multiplied in fp32: this CPU has no "
                                             "instructions for bf16";

    snprintf(text, GEMM_TEXT, "fp32 by %s (OpenBLAS's kernels: %s)%s",
             setup.onednn ? "oneDNN" : "OpenBLAS", openblas_get_corename(), bf16);
    return text;
}

static void product(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b,
                    bool add, real *c, int64_t ldc)
{
    if (setup.onednn)
        onednn_sgemm(M, N, K, alpha, a.data, a.ld, a.trans, b.data, b.ld, b.trans, add, c, ldc);
    else if (M == 1) /* OpenBLAS's gemm would copy all of B to use it once */
        cblas_sgemv(CblasRowMajor, b.trans ? CblasNoTrans : CblasTrans, (int)(b.trans ? N : K),
                    (int)(b.trans ? K : N), alpha, b.data, (int)b.ld, a.data,
                    a.trans ? (int)a.ld : 1, add, c, 1);
    else
        cblas_sgemm(CblasRowMajor, a.trans ? CblasTrans : CblasNoTrans,
                    b.trans ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K, alpha, a.data,
                    (int)a.ld, b.data, (int)b.ld, add, c, (int)ldc);
}
#endif

enum gemm_few gemm_few(void)
{
    return setup.narrow_bf16 ? FEW_BF16 : setup.bf16 ? FEW_ROUNDED : FEW_F32;
}

void gemm_rows_apart(void)
{
    CHECK(!setup.bf16);
    setup.apart = true;
}

bool gemm_is_apart(int64_t M)
{
    return setup.apart && M <= GEMM_APART;
}

void gemm_serial(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b, bool add,
                 real *c, int64_t ldc)
{
    if (M == 0 || N == 0) return;
    for (int64_t i = 0; i < M && K == 0 && !add; i++)
        memset(c + i * ldc, 0, (size_t)N * sizeof *c);
    if (K == 0) return;
    CHECK(a.dtype == DT_REAL && b.dtype == DT_REAL);
    /* BLAS sizes are int: 2^31 rows of activations would be terabytes. */
    CHECK(M <= INT32_MAX && N <= INT32_MAX && K <= INT32_MAX && a.ld <= INT32_MAX &&
          b.ld <= INT32_MAX && ldc <= INT32_MAX);
    product(M, N, K, alpha, a, b, add, c, ldc);
}

/* The grid of `threads` parts that minimises the pieces of A and B to be read. */
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

enum { VECTOR = 16 }; /* floats, the longest */

void gemm_real(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, bool add, real *c,
               int64_t ldc)
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
        int64_t m0 = part_begin(M, gm, i / gn, VECTOR), m1 = part_begin(M, gm, i / gn + 1, VECTOR);
        int64_t n0 = part_begin(N, gn, i % gn, VECTOR), n1 = part_begin(N, gn, i % gn + 1, VECTOR);
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

/* Bytes of B converted at a time, of N*K values stored in rows of N or K. */
static size_t block_bytes(int64_t N, int64_t K)
{
    size_t by_n = aligned(block_rows(K, N) * N, sizeof(real));
    size_t by_k = aligned(block_rows(N, K) * K, sizeof(real));

    return by_n > by_k ? by_n : by_k;
}

/* Whether a product with M rows is worth packing B for. */
static bool packs(int64_t M)
{
    return setup.packed && M >= PACK_FROM;
}

size_t gemm_scratch(int64_t M, int64_t N, int64_t K, enum dtype b)
{
    if (packs(M)) return gemm_packed_scratch(M, N, K);
    if (setup.bf16_native) {
        const int64_t words = M <= NARROW_ROWS ? (int64_t)bf16_words_count(M, K) : M * K;
        return aligned(words, 2) + (b == DT_BF16 ? 0 : aligned(N * K, 2));
    }
    return (setup.bf16 ? aligned(M * K, sizeof(real)) : 0) +
           (setup.bf16 || b != DT_REAL ? block_bytes(N, K) : 0);
}

size_t gemm_linear_scratch(int64_t T, const struct tensor *w, bool x_needs_grad)
{
    int64_t out = w->rows, in = w->cols;
    size_t most = gemm_scratch(T, out, in, w->dtype);
    size_t dx = x_needs_grad ? gemm_scratch(T, in, out, w->dtype) : 0;
    size_t dw = w->needs_grad ? gemm_scratch(out, in, T, DT_REAL) : 0;

    most = dx > most ? dx : most;
    return dw > most ? dw : most;
}

static void round_to_bf16(real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = bf16_round((float)x[i]);
}

/* Rows first.. of m (as stored, with `cols` columns each) as contiguous reals; rounded if
 * products use bf16 inputs. */
static void convert_rows(struct mat m, int64_t first, int64_t rows, int64_t cols, real *to)
{
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 15)
    for (int64_t i = 0; i < rows; i++) {
        const struct tensor t = tensor_leaf(m.dtype, first + rows, m.ld, m.data);
        tensor_to_real(&t, (first + i) * m.ld, cols, to + i * cols);
        if (setup.bf16 && m.dtype != DT_BF16) round_to_bf16(to + i * cols, cols);
    }
}

/* Converts B to real block by block. */
static void gemm_blocks(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, bool add,
                        real *c, int64_t ldc, real *block)
{
    int64_t rows = b.trans ? N : K, cols = b.trans ? K : N; /* of B as stored */
    int64_t step = block_rows(rows, cols);

    for (int64_t r = 0; r < rows; r += step) {
        int64_t n = rows - r < step ? rows - r : step;
        convert_rows(b, r, n, cols, block);
        if (b.trans) /* stored rows are columns of C */
            gemm_real(M, n, K, a, mat_of(block, cols, true), add, c + r, ldc);
        else /* stored rows are a slice of the sum */
            gemm_real(M, N, n, mat_at(a, 0, r), mat_of(block, cols, false), add || r > 0, c, ldc);
    }
}

/* C[M,N] = what its product is added to. */
static void begin(int64_t M, int64_t N, struct base base, real *c, int64_t ldc)
{
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++)
            c[i * ldc + j] =
                (base.matrix ? base.matrix[i * ldc + j] : 0) + (base.row ? base.row[j] : 0);
}

const uint16_t *mat_bf16(const struct mat *m, int64_t at, int64_t n, uint16_t *room)
{
    const float *f32 = m->data;
    const uint16_t *f16 = m->data;

    CHECK(m->dtype != DT_F64);
    if (m->dtype == DT_BF16) return f16 + at;
    for (int64_t i = 0; i < n; i++)
        room[i] = bf16_from_f32(m->dtype == DT_F16 ? f16_to_f32(f16[at + i]) : f32[at + i]);
    return room;
}

#ifndef AUTOGRAD_DOUBLE
/* m as stored, not as bf16, as contiguous rows of bf16. */
static void to_bf16(struct mat m, int64_t rows, int64_t cols, uint16_t *to)
{
#pragma omp parallel for schedule(static) if (rows * cols > 1 << 15)
    for (int64_t i = 0; i < rows; i++)
        mat_bf16(&m, i * m.ld, cols, to + i * cols);
}

static void gemm_bf16(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, bool add,
                      real *c, int64_t ldc, void *scratch)
{
    uint16_t *a16 = scratch, *b16 = (void *)((char *)scratch + aligned(M * K, 2));
    int64_t a_cols = a.trans ? M : K, b_cols = b.trans ? K : N;

    to_bf16(a, a.trans ? K : M, a_cols, a16);
    if (b.dtype == DT_BF16)
        onednn_bf16_gemm(M, N, K, a16, a_cols, a.trans, b.data, b.ld, b.trans, add, c, ldc);
    else {
        to_bf16(b, b.trans ? N : K, b_cols, b16);
        onednn_bf16_gemm(M, N, K, a16, a_cols, a.trans, b16, b_cols, b.trans, add, c, ldc);
    }
}
#endif

/* Few rows, each by itself. */
static void narrow(const struct narrow_dots *p, uint16_t *words)
{
    if (!setup.narrow_bf16) {
        narrow_dots(p);
        return;
    }
    bf16_words(p, words);
    bf16_dots(p, words);
}

void gemm(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, bool add, real *c,
          int64_t ldc, void *scratch)
{
    CHECK(b.dtype == DT_REAL || b.ld == (b.trans ? K : N));
    if (M == 0 || N == 0) return;
    if (M <= NARROW_ROWS && !a.trans && b.trans) {
        CHECK(a.dtype == DT_REAL);
        narrow(&(struct narrow_dots){M, N, K, a.data, a.ld, b, add, setup.bf16, c, ldc}, scratch);
        return;
    }
    if (K == 0 || (!setup.bf16 && b.dtype == DT_REAL)) {
        gemm_real(M, N, K, a, b, add, c, ldc);
        return;
    }
    CHECK(scratch);
    if (packs(M)) {
        gemm_packed(M, N, K, a, b, (struct base){.matrix = add ? c : NULL}, c, ldc, scratch);
        return;
    }
#ifndef AUTOGRAD_DOUBLE
    if (setup.bf16_native) {
        gemm_bf16(M, N, K, a, b, add, c, ldc, scratch);
        return;
    }
#endif
    real *block = scratch;
    if (setup.bf16) {
        int64_t cols = a.trans ? M : K;
        convert_rows(a, 0, a.trans ? K : M, cols, block);
        a = mat_of(block, cols, a.trans);
        block += aligned(M * K, sizeof(real)) / sizeof(real);
    }
    gemm_blocks(M, N, K, a, b, add, c, ldc, block);
}

void gemm_onto(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, struct base base,
               real *c, int64_t ldc, void *scratch)
{
    if (packs(M) && K > 0) {
        gemm_packed(M, N, K, a, b, base, c, ldc, scratch);
        return;
    }
    if ((base.row || base.matrix)) {
#pragma omp parallel for schedule(static) if (M * N > 1 << 14)
        for (int64_t i = 0; i < M; i++)
            begin(1, N, base_at(base, i, 0, ldc), c + i * ldc, ldc);
    }
    gemm(M, N, K, a, b, (base.row || base.matrix), c, ldc, scratch);
}

size_t operand_bytes(int64_t rows, int64_t cols)
{
    size_t left = words_bytes(rows, cols), right = pack_bytes(rows, cols);
    size_t other = words_bytes(cols, rows);

    if (!setup.bf16) return 0;
    if (!setup.packed) return aligned(rows * cols, sizeof(real));
    left = left > other ? left : other;
    other = pack_bytes(cols, rows);
    right = right > other ? right : other;
    return aligned((int64_t)(left > right ? left : right), 1);
}

/* The matrix with its values rounded to bf16, for products in fp32. */
static struct operand rounded(struct mat m, int64_t rows, int64_t cols, void *room, bool fill)
{
    if (fill) convert_rows(m, 0, m.trans ? cols : rows, m.trans ? rows : cols, room);
    return (struct operand){.m = mat_of(room, m.trans ? rows : cols, m.trans)};
}

struct operand operand_left(struct mat a, int64_t M, int64_t K, void *room, bool fill)
{
    if (!setup.bf16) return (struct operand){.m = a};
    if (!setup.packed) return rounded(a, M, K, room, fill);
    if (fill) pack_left(a, M, K, room);
    return (struct operand){.words = words_of(room, K)};
}

struct operand operand_right(struct mat b, int64_t K, int64_t N, void *room, bool fill)
{
    if (!setup.bf16) return (struct operand){.m = b};
    if (!setup.packed) return rounded(b, K, N, room, fill);
    if (fill) pack_right(b, K, 0, N, room);
    return (struct operand){.panels = panels_of(room, K)};
}

void gemm_operands(int64_t M, int64_t N, int64_t K, real alpha, struct operand a, struct operand b,
                   bool add, real *c, int64_t ldc)
{
    if (setup.packed) {
        product_bf16(M, N, K, alpha, a.words, b.panels, (struct base){.matrix = add ? c : NULL}, c,
                     ldc);
        return;
    }
    gemm_serial(M, N, K, alpha, a.m, b.m, add, c, ldc);
}
