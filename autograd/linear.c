/* linear.c - y = x w^T + b + residual. The backward reads x only if w is trained, and w only if x
 * needs a gradient; the residual's gradient is y's, so that the tape lets both share memory. */
#include "autograd/gemm.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <string.h>

enum { X, W, B, RESIDUAL };
enum { CHUNKS = 16 }; /* partial sums of a bias gradient: the same for any number of threads */

/* The bias, or its partial sums, after the products' scratch. */
static real *bias_scratch_of(struct node *n)
{
    const struct tensor *x = n->in[X];

    return (real *)n->scratch +
           gemm_linear_scratch(x->rows, n->in[W], x->needs_grad) / sizeof(real);
}

static real *bias_of(struct node *n)
{
    struct tensor *b = n->in[B];

    if (b->dtype == DT_REAL) return b->data;
    tensor_to_real(b, 0, b->cols, bias_scratch_of(n));
    return bias_scratch_of(n);
}

static void forward(struct node *n)
{
    struct tensor *x = n->in[X], *w = n->in[W], *res = n->in[RESIDUAL], *y = n->out;
    struct base base = {n->in[B] ? bias_of(n) : NULL, res ? tensor_real(res) : NULL};
    int64_t T = x->rows, O = w->rows, I = w->cols;

    gemm_onto(T, O, I, mat_of(tensor_real(x), I, false), (struct mat){w->data, w->dtype, I, true},
              base, tensor_real(y), O, n->scratch);
}

void bias_backward(const real *dy, int64_t T, int64_t O, struct tensor *b, real *partial)
{
    bool adds = tape_grad_adds(b);
    int64_t rows = (T + CHUNKS - 1) / CHUNKS;

#pragma omp parallel for schedule(static) if (T * O > 1 << 14)
    for (int64_t c = 0; c < CHUNKS; c++) {
        real *sum = partial + c * O;
        int64_t end = (c + 1) * rows < T ? (c + 1) * rows : T;
        memset(sum, 0, (size_t)O * sizeof(real));
        for (int64_t i = c * rows; i < end; i++)
            for (int64_t j = 0; j < O; j++)
                sum[j] += dy[i * O + j];
    }
    if (!adds) memset(b->grad, 0, (size_t)O * sizeof(real));
    for (int64_t c = 0; c < CHUNKS; c++)
        for (int64_t j = 0; j < O; j++)
            b->grad[j] += partial[c * O + j];
}

static void backward(struct node *n)
{
    struct tensor *x = n->in[X], *w = n->in[W], *b = n->in[B];
    int64_t T = x->rows, O = w->rows, I = w->cols;
    const real *dy = n->out->grad;

    if (x->needs_grad)
        gemm(T, I, O, mat_of(dy, O, false), (struct mat){w->data, w->dtype, I, false},
             tape_grad_adds(x), x->grad, I, n->scratch);
    if (w->needs_grad)
        gemm(O, I, T, mat_of(dy, O, true), mat_of(tensor_real(x), I, false), tape_grad_adds(w),
             w->grad, I, n->scratch);
    if (b && b->needs_grad) bias_backward(dy, T, O, b, bias_scratch_of(n));
    if (n->in[RESIDUAL]) tape_pass_grad(n, RESIDUAL);
}

const struct op linear_op = {"linear", forward, backward};

size_t bias_scratch(const struct tensor *b)
{
    size_t row = (size_t)b->cols * sizeof(real);

    return b->needs_grad ? CHUNKS * row : row;
}

struct tensor *op_linear(struct tape *t, struct tensor *x, struct tensor *w, struct tensor *b,
                         struct tensor *residual)
{
    CHECK(x->cols == w->cols);
    CHECK(!b || (b->rows == 1 && b->cols == w->rows));
    CHECK(!residual || (residual->rows == x->rows && residual->cols == w->rows));
    struct node *n =
        tape_node(t, &linear_op, (struct tensor *[]){x, w, b, residual}, 4, x->rows, w->rows);
    n->reads = (w->needs_grad ? 1u << X : 0) | (x->needs_grad ? 1u << W : 0);
    n->scratch_bytes = gemm_linear_scratch(x->rows, w, x->needs_grad) + (b ? bias_scratch(b) : 0);
    n->passes = residual ? RESIDUAL : -1;
    return n->out;
}
