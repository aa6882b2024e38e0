/* hidden.c - hidden states of one model beside those of another: written to the caller's memory,
 * and the distance from what is there, added to a loss,
 *
 *     y    = keep * loss + weight * scale * sum over rows of |x_i - t_i|^2 / |t_i|^2
 *     dx_i = 2 weight scale (x_i - t_i) / |t_i|^2 dy,  dloss = keep dy.
 *
 * A row counts by its own size: a few tokens have states a hundred times as long as the others',
 * and would be all that is learnt. The backward reads the differences, which stay in fp32: x may
 * have been rounded to bf16 for it, by more than it is apart. */
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <string.h>

enum { X, LOSS };
static const double least = 1e-12; /* of a row's square, for a row of zeros */

/* ---- out ---- */

static void out_forward(struct node *n)
{
    real *const *to = n->args;

    memcpy(*to, tensor_real(n->in[X]), (size_t)tensor_count(n->in[X]) * sizeof(real));
    *tensor_real(n->out) = 0;
}

const struct op rows_out_op = {"rows_out", out_forward, NULL};

struct tensor *op_rows_out(struct tape *t, struct tensor *x, real *to)
{
    real **args = tape_new_array(t, real *, 1);
    struct node *n = tape_node(t, &rows_out_op, &x, 1, 1, 1);

    *args = to;
    n->args = args;
    return n->out;
}

/* ---- distance ---- */

/* A row's distance, |x - t|^2 / |t|^2; each: (x - t) / |t|^2. */
static double row_apart(const real *x, const real *to, int64_t n, real *each)
{
    double square = 0, apart = 0;

#pragma omp simd reduction(+ : square, apart)
    for (int64_t c = 0; c < n; c++) {
        const double d = (double)x[c] - (double)to[c];
        square += (double)to[c] * (double)to[c];
        apart += d * d;
    }
    square = square > least ? square : least;
    for (int64_t c = 0; c < n; c++)
        each[c] = (real)(((double)x[c] - (double)to[c]) / square);
    return apart / square;
}

static void distance_forward(struct node *n)
{
    const struct row_distance *a = n->args;
    const struct tensor *x = n->in[X];
    double *apart = n->scratch, sum = 0;

#pragma omp parallel for schedule(static) if (tensor_count(x) > 1 << 14)
    for (int64_t i = 0; i < x->rows; i++)
        apart[i] = row_apart(tensor_real(x) + i * x->cols, a->to + i * x->cols, x->cols,
                             tensor_real(n->aux) + i * x->cols);
    for (int64_t i = 0; i < x->rows; i++)
        sum += apart[i];
    const double loss = (double)*tensor_real(n->in[LOSS]);
    if (a->term) *a->term += a->scale * sum;
    if (a->before) *a->before += loss;
    *tensor_real(n->out) = (real)(a->keep * loss + a->weight * a->scale * sum);
}

static void distance_backward(struct node *n)
{
    const struct row_distance *a = n->args;
    struct tensor *x = n->in[X], *loss = n->in[LOSS];
    const real dy = *n->out->grad, f = (real)(2 * a->weight * a->scale) * dy;

    if (loss->needs_grad)
        *loss->grad = (real)a->keep * dy + (tape_grad_adds(loss) ? *loss->grad : 0);
    if (!x->needs_grad) return;
    const bool adds = tape_grad_adds(x);
#pragma omp parallel for schedule(static) if (tensor_count(x) > 1 << 14)
    for (int64_t i = 0; i < x->rows; i++) {
        const real *each = tensor_real(n->aux) + i * x->cols;
        real *d = x->grad + i * x->cols;
        if (!adds) memset(d, 0, (size_t)x->cols * sizeof *d);
        for (int64_t c = 0; c < x->cols; c++)
            d[c] += f * each[c];
    }
}

const struct op row_distance_op = {"row_distance", distance_forward, distance_backward};

struct tensor *op_row_distance(struct tape *t, struct tensor *x, struct tensor *loss,
                               const struct row_distance *d)
{
    struct row_distance *a = tape_new_array(t, struct row_distance, 1);

    CHECK(loss->rows == 1 && loss->cols == 1);
    *a = *d;
    struct node *n = tape_node(t, &row_distance_op, (struct tensor *[]){x, loss}, 2, 1, 1);
    n->args = a;
    tape_aux(t, x->rows, x->cols);
    n->reads = x->needs_grad ? READS_AUX : 0;
    n->scratch_bytes = (size_t)x->rows * sizeof(double);
    return n->out;
}
