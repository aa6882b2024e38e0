/* ops_bench.h - for tests of ops: random matrices as leaves, with the values that they hold (after
 * rounding to their dtype) in double for the reference. */
#ifndef TESTS_OPS_BENCH_H
#define TESTS_OPS_BENCH_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/ops.h"
#include "base/bf16.h"
#include "base/rng.h"

enum { MATRICES = 32 };
struct bench {
    struct tape *t;
    struct rng rng;
    int n;
    struct matrix {
        struct tensor leaf;
        double *ref;
    } m[MATRICES];
};

static inline void *zeroed(int64_t n, size_t size)
{
    void *p = calloc((size_t)n + 1, size);

    assert_non_null(p);
    return p;
}

static inline void bench_open(struct bench *b)
{
    struct err e = {0};

    *b = (struct bench){.t = tape_new(&e)};
    assert_non_null(b->t);
    rng_seed(&b->rng, 11, 0);
    tape_begin(b->t, false);
}

static inline void bench_close(struct bench *b)
{
    tape_free(b->t);
    for (int i = 0; i < b->n; i++) {
        free(b->m[i].leaf.data);
        free(b->m[i].leaf.grad);
        free(b->m[i].ref);
    }
}

static inline void store(struct tensor *t, int64_t i, double v)
{
    if (t->dtype == DT_F32) ((float *)t->data)[i] = (float)v;
    if (t->dtype == DT_F64) ((double *)t->data)[i] = v;
    if (t->dtype == DT_BF16) ((uint16_t *)t->data)[i] = bf16_from_f32((float)v);
    if (t->dtype == DT_F16) ((uint16_t *)t->data)[i] = f16_from_f32((float)v);
}

/* A random normal matrix times `size`; .ref has the values as stored. */
static inline struct matrix *fresh(struct bench *b, enum dtype dt, int64_t rows, int64_t cols,
                                   double size)
{
    struct matrix *m = &b->m[b->n++];
    int64_t n = rows * cols;
    float *stored = zeroed(n, sizeof(float));

    assert_true(b->n <= MATRICES);
    m->leaf = tensor_leaf(dt, rows, cols, zeroed(n, dtype_size(dt)));
    m->ref = zeroed(n, sizeof(double));
    for (int64_t i = 0; i < n; i++)
        store(&m->leaf, i, size * rng_normal(&b->rng));
    tensor_to_real(&m->leaf, 0, n, stored);
    for (int64_t i = 0; i < n; i++)
        m->ref[i] = dt == DT_F64 ? (double)(float)((double *)m->leaf.data)[i] : (double)stored[i];
    free(stored);
    return m;
}

static inline void compute(struct bench *b)
{
    struct err e = {0};

    if (!tape_plan(b->t, 0, &e)) fail_msg("%s", e.msg);
    tape_forward(b->t);
}

/* Compares y with ref, relative to the largest value (a sum's error is proportional to its
 * terms). */
static inline void check_close(const struct tensor *y, const double *ref, double tolerance)
{
    double most = 1e-30;

    for (int64_t i = 0; i < tensor_count(y); i++)
        most = fmax(most, fabs(ref[i]));
    for (int64_t i = 0; i < tensor_count(y); i++)
        if (!(fabs((double)tensor_real(y)[i] - ref[i]) <= tolerance * most))
            fail_msg("element %d: %.9g, not %.9g", (int)i, (double)tensor_real(y)[i], ref[i]);
}

/* c[M,N] += a[M,K] b[N,K]^T, or b[K,N] if not `trans`. */
static inline void product(int64_t M, int64_t N, int64_t K, const double *a, int64_t lda,
                           const double *b, bool trans, double *c, int64_t ldc)
{
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++)
            for (int64_t k = 0; k < K; k++)
                c[i * ldc + j] += a[i * lda + k] * (trans ? b[j * K + k] : b[k * N + j]);
}

#endif
