/* gemm.h - matrix products: the one place that knows BLAS and oneDNN. All
 * matrices are row-major. */
#ifndef AUTOGRAD_GEMM_H
#define AUTOGRAD_GEMM_H

#include "autograd/tensor.h"

/* Which library multiplies fp32, and whether the inputs of products are fp32 or bf16; sums are fp32
 * in both cases. AUTO means OpenBLAS, or oneDNN if OpenBLAS has chosen kernels with narrower
 * vectors than the CPU has: an old release on a new CPU, or OPENBLAS_CORETYPE. bf16 products are
 * our own or oneDNN's if the CPU has instructions for them; otherwise inputs are rounded to bf16
 * and multiplied in fp32, which is slower but gives the same up to the order of sums. Call it
 * before any graph is planned. The double build knows only OpenBLAS and its own precision. */
enum gemm_library { GEMM_AUTO, GEMM_OPENBLAS, GEMM_ONEDNN };
#define GEMM_LIBRARY_NAMES "auto", "openblas", "onednn" /* of the settings, in order */
enum gemm_compute { GEMM_F32, GEMM_BF16 };
#define GEMM_COMPUTE_NAMES "f32", "bf16"
void gemm_setup(enum gemm_library library, enum gemm_compute compute);

/* Products of up to NARROW_ROWS rows (narrow.h), in fp32 or bf16, with a matrix that is read
 * transposed, as those of decoding, give each row the bits that it gets alone, whatever the others.
 * From now on so do those of up to GEMM_APART rows with a matrix for each head: for answers that
 * are made together and must not depend on each other. gemm_setup ends it. */
enum { GEMM_APART = 8 };
void gemm_rows_apart(void);
bool gemm_is_apart(int64_t M); /* whether it holds for products of M rows */

/* How our own products of few rows multiply, as gemm_setup has chosen: by the CPU's instructions
 * for bf16, or in fp32, of inputs as they are or rounded to bf16. */
enum gemm_few { FEW_F32, FEW_ROUNDED, FEW_BF16 };
enum gemm_few gemm_few(void);

/* Describes gemm_setup's choices in one line. */
enum { GEMM_TEXT = 160 };
const char *gemm_describe(char text[GEMM_TEXT]);

/* An operand as it is in memory: [rows, ld], read transposed if trans is set. */
struct mat {
    const void *data;
    enum dtype dtype;
    int64_t ld;
    bool trans;
};

static inline struct mat mat_of(const real *p, int64_t ld, bool trans)
{
    return (struct mat){p, DT_REAL, ld, trans};
}

/* n values of a matrix of any dtype but F64, from element `at` on, as bf16: in `room`, which has
 * that many, or where they are if that is their dtype. */
const uint16_t *mat_bf16(const struct mat *m, int64_t at, int64_t n, uint16_t *room);

/* C[M,N] = A[M,K] B[K,N] + (add ? C : 0), on all threads, as chosen by gemm_setup. A is real;
 * B may have any dtype, and must be contiguous unless it is real. Conversions go to
 * `scratch`: gemm_scratch bytes for that very shape (a larger one can need less: another way). C
 * must not overlap A or B.
 * Sizes of zero are fine. */
void gemm(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, bool add, real *c,
          int64_t ldc, void *scratch);
size_t gemm_scratch(int64_t M, int64_t N, int64_t K, enum dtype b);

/* The same, but a row for each of C's, a matrix of its ld (or C itself), both or neither is what A
 * B is added to. */
struct base {
    const real *row, *matrix; /* [N]; [M, ldc] */
};
void gemm_onto(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, struct base base,
               real *c, int64_t ldc, void *scratch);

/* Scratch for the three products of y[T,O] = x[T,I] w[O,I]^T: y, dx if x needs a gradient,
 * dw if w is trained. */
size_t gemm_linear_scratch(int64_t T, const struct tensor *w, bool x_needs_grad);

/* C = A B + (add ? C : 0) of real matrices in real, regardless of gemm_setup, on all threads. */
void gemm_real(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, bool add, real *c,
               int64_t ldc);

/* The same on the calling thread, with A B scaled by alpha: for use inside parallel regions. */
void gemm_serial(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b, bool add,
                 real *c, int64_t ldc);

/* Turns off OpenBLAS's own threads: they would spin against OpenMP's. */
void gemm_single_blas(void);

#endif
