/* narrow.h - products of few rows, as in decoding: a row of B meets a few rows of A only, so that
 * copying B first, as libraries for large products do, would be much of the work. */
#ifndef AUTOGRAD_NARROW_H
#define AUTOGRAD_NARROW_H

#include "autograd/gemm.h"

/* C[M,N] = A B^T (+ C) for up to NARROW_ROWS rows of A, on all threads: B's rows, [N,K], are in any
 * dtype. An element's sum has an order that depends on K alone: so a row's bits are those that it
 * gets alone, whatever the other rows and the threads. */
enum { NARROW_ROWS = 16 };
struct narrow_dots {
    int64_t M, N, K;
    const real *a;
    int64_t lda;
    struct mat b; /* read transposed */
    bool add;
    bool rounded; /* A and B are rounded to bf16 first */
    real *c;
    int64_t ldc;
};
void narrow_dots(const struct narrow_dots *p);
/* How many rows of B a thread takes at a time, at most NARROW_TASK; whether threads pay. */
enum { NARROW_TASK = 64 };
int64_t narrow_share(int64_t N);
bool narrow_pays(const struct narrow_dots *p);

/* C[M,N] = alpha A B (+ C) by the calling thread, of reals; B is not transposed. An element's sum
 * has an order that depends on K alone, but in the last columns, less than a vector, it may be
 * rounded otherwise than in others. */
void narrow_sums(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b, bool add,
                 real *c, int64_t ldc);

/* Where heads do not share keys, or few do: `per` heads share the columns of a group, heads * width
 * / per in all. By the calling thread; rows of bf16 give the bits of the same rows of reals. */
struct narrow_heads {
    int64_t heads, per, width, keys, ld;
    const void *rows; /* [keys, ld] of keys, or of values; reals, or bf16 */
    bool bf16, add;
    real alpha;
    const real *q; /* [heads, width] */
    real *scores;  /* [keys, heads] */
    real *sums;    /* [heads, width] */
};
/* scores[key][head] = alpha q_head . key_group (+ scores). */
void narrow_scores(const struct narrow_heads *p);
/* sums[head] = sum over keys of scores[key][head] value_group (+ sums). */
void narrow_values(const struct narrow_heads *p);

#endif
