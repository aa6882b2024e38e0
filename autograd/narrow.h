/* narrow.h - products of few rows, as in decoding: a row of B meets a few rows of A only, so that
 * copying B first, as libraries for large products do, would be much of the work. */
#ifndef AUTOGRAD_NARROW_H
#define AUTOGRAD_NARROW_H

#include "autograd/gemm.h"

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
