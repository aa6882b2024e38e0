/* eigen.c - see eigen.h. */
#include "convert/eigen.h"

#include "base/mem.h"
#include "base/signals.h"

#include <cblas.h>
#include <inttypes.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool eigen_no_memory(int info)
{
    return info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR;
}

double *doubles_new(int64_t rows, int64_t cols, struct err *e)
{
    return mem_new((size_t)rows, (size_t)cols * sizeof(double), "MD-SVD", e);
}

bool eigen_top(double *a, int64_t n, int64_t k, double *lambda, double *vec, struct err *e)
{
    const lapack_int N = (lapack_int)n, K = (lapack_int)k;
    double *val = doubles_new(n, 1, e), *off = doubles_new(n, 1, e), *tau = doubles_new(n, 1, e),
           *z = doubles_new(n, n, e), *top;
    bool ok = val && off && tau && z;

    if (ok) {
        top = z + (n - k) * n;
        lapack_int info = LAPACKE_dsytrd(LAPACK_COL_MAJOR, 'U', N, a, N, val, off, tau);
        ok = signals_go_on(e);
        if (ok && info == 0) info = LAPACKE_dstedc(LAPACK_COL_MAJOR, 'I', N, val, off, z, N);
        ok = ok && signals_go_on(e);
        if (ok && info == 0)
            info = LAPACKE_dormtr(LAPACK_COL_MAJOR, 'L', 'U', 'N', N, K, a, N, tau, top, N);
        if (ok && info != 0)
            ok = eigen_no_memory(info)
                     ? err_set(e, "out of memory for MD-SVD")
                     : err_set(e,
                               "MD-SVD: LAPACK cannot solve an eigenproblem of size %" PRId64
                               " (status %d)",
                               n, (int)info);
    }
    for (int64_t i = 0; i < k && ok; i++) {
        lambda[i] = val[n - 1 - i];
        memcpy(vec + i * n, z + (n - 1 - i) * n, (size_t)n * sizeof *vec);
    }
    free(val);
    free(off);
    free(tau);
    free(z);
    return ok;
}

double eigen_fix_sign(double *row, int64_t n)
{
    int64_t top = 0;

    for (int64_t j = 1; j < n; j++)
        if (fabs(row[j]) > fabs(row[top])) top = j;
    if (row[top] >= 0) return 1;
    cblas_dscal((int)n, -1.0, row, 1);
    return -1;
}
