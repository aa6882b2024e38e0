/* gemm.h - matrix products: the one place that knows BLAS. All matrices are row-major. */
#ifndef AUTOGRAD_GEMM_H
#define AUTOGRAD_GEMM_H

#include "autograd/tensor.h"

/* An operand as it lies in memory: [rows, ld], read transposed where trans is set. */
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

/* C[M,N] = A[M,K] B[K,N] + (add ? C : 0), on all threads. A is real; B may have any dtype: other
 * than real it is converted block by block in `scratch` (gemm_scratch bytes, may be NULL if 0). C
 * must not overlap A or B. Sizes of zero are fine. */
void gemm(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, bool add, real *c,
          int64_t ldc, void *scratch);
size_t gemm_scratch(enum dtype b, int64_t rows, int64_t cols);

/* The same on the calling thread, scaled by alpha, all real: for use inside parallel regions. */
void gemm_serial(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b, bool add,
                 real *c, int64_t ldc);

/* Gives BLAS n threads of its own outside of gemm() (for LAPACK); gemm() itself needs 1. */
void gemm_blas_threads(int n);

#endif
