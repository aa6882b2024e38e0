/* tensor.h - a matrix [rows, cols], row-major and contiguous, with its gradient. Everything in the
 * model is one: activations [tokens, width], weights [out, in], vectors [1, n]. Weights may be in a
 * read-only mapped file in their own dtype; activations and gradients are `real`.
 *
 * `real` is float. Compiled with -DAUTOGRAD_DOUBLE, all of autograd/ runs in double: that build is
 * for the gradient checks, so that finite differences test the very code that trains. */
#ifndef AUTOGRAD_TENSOR_H
#define AUTOGRAD_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* DT_PACKED: rows of a cache in a form of their own (row_form.h), which only attention reads. */
enum dtype { DT_F32, DT_F64, DT_BF16, DT_F16, DT_PACKED };

#ifdef AUTOGRAD_DOUBLE
typedef double real;
#define DT_REAL DT_F64
#else
typedef float real;
#define DT_REAL DT_F32
#endif

struct node;
struct row_form;

struct tensor {
    enum dtype dtype;
    bool needs_grad; /* it is trained, or on a path to something that is */
    int64_t rows, cols;
    void *data; /* NULL until the tape has planned it; weights are never written through it */
    real *grad; /* [rows, cols], NULL unless needs_grad */
    const struct row_form *form; /* of DT_PACKED */

    /* Used by the tape. A leaf (parameter, input) has no maker and its memory belongs to the
     * caller; a leaf's gradient accumulates over backward passes until the caller zeroes it. */
    struct node *maker;
    struct tensor *alias; /* the tensor whose memory this one shares: modified in place */
    bool grad_live;       /* grad has been written to in this backward pass */
    bool kept;            /* its data must outlive the forward pass */
    int consumers;
    int writers; /* of a leaf: nodes of the backward pass that are yet to add to grad */
    struct storage *storage, *grad_storage; /* placed by plan.c */
};

size_t dtype_size(enum dtype dt);

/* A leaf around the caller's memory. */
struct tensor tensor_leaf(enum dtype dt, int64_t rows, int64_t cols, const void *data);

static inline int64_t tensor_count(const struct tensor *t)
{
    return t->rows * t->cols;
}

static inline real *tensor_real(const struct tensor *t)
{
    return t->data;
}

/* Copies `n` values of t (any dtype) to dst as real, starting at element `first`. */
void tensor_to_real(const struct tensor *t, int64_t first, int64_t n, real *dst);

#endif
