/* eigen.h - the top eigenpairs of a symmetric matrix in double, on the calling thread: with more,
 * the order of BLAS's sums, and with it the last bits, would change. Callers turn OpenBLAS's
 * threads off. LAPACK is column-major: a lower triangle stored by rows is its upper triangle stored
 * by columns, and eigenvectors come out as rows. */
#ifndef CONVERT_EIGEN_H
#define CONVERT_EIGEN_H

#include "base/err.h"

#include <stdint.h>

/* The top k eigenpairs of the symmetric a[n,n] (lower triangle, destroyed): lambda[k] decreasing,
 * vec[k,n]. The same as LAPACK's dsyevd, except that only the k vectors wanted are transformed back
 * from the basis in which a is tridiagonal. Takes n (n + 3) doubles and LAPACK's work space. */
bool eigen_top(double *a, int64_t n, int64_t k, double *lambda, double *vec, struct err *e);

/* Fixes the sign of row[n]: its largest element (the first if several) becomes positive. Returns
 * the factor, 1 or -1. */
double eigen_fix_sign(double *row, int64_t n);

/* Whether LAPACKE ran out of memory for its own work space. */
bool eigen_no_memory(int info);

double *doubles_new(int64_t rows, int64_t cols, struct err *e); /* zeroed, for free() */

#endif
