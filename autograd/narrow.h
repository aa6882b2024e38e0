/* narrow.h - products of few rows, as in decoding: a row of B meets a few rows of A only, so that
 * copying B first, as libraries for large products do, would be much of the work. */
#ifndef AUTOGRAD_NARROW_H
#define AUTOGRAD_NARROW_H

#include "autograd/gemm.h"

/* C[M,N] = A B^T (+ C) for up to NARROW_ROWS rows of A, on all threads: B's rows, [N,K], are in any
 * dtype. An element's sum has an order that depends on K alone: so a row's bits are those that it gets
 * alone, whatever the other rows and the threads. */
enum { NARROW_ROWS = 16 };
struct narrow_dots {
    int64_t M, N, K;
    const real *a;
    int64_t lda;
    struct mat b; /* read transposed */
    bool add;
    real *c;
    int64_t ldc;
};
void narrow_dots(const struct narrow_dots *p);

/* C[M,N] = alpha A B (+ C) by the calling thread, of reals; B is not transposed. An element's sum has
 * an order that depends on K alone. */
void narrow_sums(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b, bool add,
                 real *c, int64_t ldc);

/* Scores of keys by heads, c[key][head] = alpha q_head . k_key,group (+ c): `per` heads share the columns
 * of a group, heads * width / per in all. */
struct narrow_heads {
    int64_t heads, per, width;
    const real *q; /* [heads, width] */
    const real *k; /* [keys, ldk] */
    int64_t keys, ldk;
    real alpha;
    bool add;
    real *c; /* [keys, heads] */
};
void narrow_heads(const struct narrow_heads *p);

#endif
