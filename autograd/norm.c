/* norm.c - RMSNorm and LayerNorm over the columns of each row. The forward saves 1/rms (or mean and
 * 1/deviation) per row, so that the backward need not sum the squares again. With
 * xhat = (x - mean) * r and g = dy * w:
 *     dx = r * (g - mean(g) - xhat * mean(g * xhat)),   dw = sum over rows of dy * xhat,
 * where RMSNorm lacks both means that are not multiplied by xhat. dw is computed over blocks of
 * columns, each with its rows in order: same bits for any number of threads. */
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <math.h>
#include <string.h>

enum { X, W, B };
enum { COLUMNS = 64, SMALL = 1 << 14 };

struct norm_args {
    real eps;
};

/* The weights as real; converted into scratch [d] if stored otherwise. */
static const real *vector_of(const struct tensor *v, real *scratch)
{
    if (v->dtype == DT_REAL) return v->data;
    tensor_to_real(v, 0, v->cols, scratch);
    return scratch;
}

static real mean_of(const real *x, int64_t d)
{
    real sum = 0;

#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < d; j++)
        sum += x[j];
    return sum / (real)d;
}

/* 1 / sqrt(mean((x - mean)^2) + eps) */
static real inverse_deviation(const real *x, int64_t d, real mean, real eps)
{
    real sum = 0;

#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < d; j++)
        sum += (x[j] - mean) * (x[j] - mean);
    return 1 / (real)sqrt((double)(sum / (real)d + eps));
}

static void rmsnorm_forward(struct node *n)
{
    const struct tensor *x = n->in[X];
    const real *w = vector_of(n->in[W], n->scratch);
    real eps = ((const struct norm_args *)n->args)->eps;
    int64_t d = x->cols;

#pragma omp parallel for schedule(static) if (tensor_count(x) > SMALL)
    for (int64_t i = 0; i < x->rows; i++) {
        const real *row = tensor_real(x) + i * d;
        real *y = tensor_real(n->out) + i * d, r = inverse_deviation(row, d, 0, eps);
        for (int64_t j = 0; j < d; j++)
            y[j] = row[j] * r * w[j];
        tensor_real(n->aux)[i] = r;
    }
}

static void layernorm_forward(struct node *n)
{
    const struct tensor *x = n->in[X];
    int64_t d = x->cols;
    const real *w = vector_of(n->in[W], n->scratch);
    const real *b = vector_of(n->in[B], (real *)n->scratch + d);
    real eps = ((const struct norm_args *)n->args)->eps;

#pragma omp parallel for schedule(static) if (tensor_count(x) > SMALL)
    for (int64_t i = 0; i < x->rows; i++) {
        const real *row = tensor_real(x) + i * d;
        real *y = tensor_real(n->out) + i * d, *saved = tensor_real(n->aux) + 2 * i;
        real mean = mean_of(row, d), r = inverse_deviation(row, d, mean, eps);
        for (int64_t j = 0; j < d; j++)
            y[j] = (row[j] - mean) * r * w[j] + b[j];
        saved[0] = mean;
        saved[1] = r;
    }
}

/* What the forward saved for row i; RMSNorm's mean is 0. */
static void saved_of(const struct node *n, int64_t i, real *mean, real *r)
{
    const real *saved = tensor_real(n->aux) + i * n->aux->cols;

    *mean = n->aux->cols == 2 ? saved[0] : 0;
    *r = saved[n->aux->cols - 1];
}

static void input_backward(struct node *n, bool centred)
{
    struct tensor *x = n->in[X];
    const real *w = vector_of(n->in[W], n->scratch);
    bool adds = tape_grad_adds(x);
    int64_t d = x->cols;

#pragma omp parallel for schedule(static) if (tensor_count(x) > SMALL)
    for (int64_t i = 0; i < x->rows; i++) {
        const real *row = tensor_real(x) + i * d, *dy = n->out->grad + i * d;
        real *dx = x->grad + i * d, mean, r, g_sum = 0, gx_sum = 0;
        saved_of(n, i, &mean, &r);
#pragma omp simd reduction(+ : g_sum, gx_sum)
        for (int64_t j = 0; j < d; j++) {
            real g = dy[j] * w[j];
            g_sum += g;
            gx_sum += g * (row[j] - mean) * r;
        }
        real g_mean = centred ? g_sum / (real)d : 0, gx_mean = gx_sum / (real)d;
        if (!adds) memset(dx, 0, (size_t)d * sizeof(real));
        for (int64_t j = 0; j < d; j++)
            dx[j] += r * (dy[j] * w[j] - g_mean - (row[j] - mean) * r * gx_mean);
    }
}

/* dw = sum of dy * xhat and db = sum of dy; either may be NULL. */
static void vectors_backward(struct node *n, real *dw, real *db)
{
    const struct tensor *x = n->in[X];
    int64_t d = x->cols;

#pragma omp parallel for schedule(static) if (tensor_count(x) > SMALL)
    for (int64_t c = 0; c < d; c += COLUMNS) {
        int64_t end = c + COLUMNS < d ? c + COLUMNS : d;
        for (int64_t i = 0; i < x->rows; i++) {
            const real *row = tensor_real(x) + i * d, *dy = n->out->grad + i * d;
            real mean, r;
            saved_of(n, i, &mean, &r);
            for (int64_t j = c; dw && j < end; j++)
                dw[j] += dy[j] * (row[j] - mean) * r;
            for (int64_t j = c; db && j < end; j++)
                db[j] += dy[j];
        }
    }
}

/* The gradient of a vector, zeroed if nothing is in it yet; NULL if not wanted. */
static real *vector_grad(struct tensor *v)
{
    if (!v || !v->needs_grad) return NULL;
    if (!tape_grad_adds(v)) memset(v->grad, 0, (size_t)v->cols * sizeof(real));
    return v->grad;
}

static void norm_backward(struct node *n, bool centred)
{
    real *dw = vector_grad(n->in[W]), *db = vector_grad(n->in[B]);

    if (dw || db) vectors_backward(n, dw, db);
    if (n->in[X]->needs_grad) input_backward(n, centred);
}

static void rmsnorm_backward(struct node *n)
{
    norm_backward(n, false);
}

static void layernorm_backward(struct node *n)
{
    norm_backward(n, true);
}

const struct op rmsnorm_op = {"rmsnorm", rmsnorm_forward, rmsnorm_backward};
const struct op layernorm_op = {"layernorm", layernorm_forward, layernorm_backward};

static struct tensor *record(struct tape *t, const struct op *op, struct tensor *const in[3],
                             int64_t saved, double eps)
{
    struct norm_args *a = tape_new_array(t, struct norm_args, 1);
    struct tensor *x = in[X], *w = in[W], *b = in[B];

    CHECK(x->cols > 0 && w->rows == 1 && w->cols == x->cols);
    CHECK(!b || (b->rows == 1 && b->cols == x->cols));
    struct node *n = tape_node(t, op, in, 3, x->rows, x->cols);
    tape_aux(t, x->rows, saved);
    a->eps = (real)eps;
    n->args = a;
    /* db alone would not need x, but whoever trains the bias trains the weight too. */
    n->reads = READS_AUX | 1u << X | (x->needs_grad ? 1u << W : 0);
    n->scratch_bytes = 2 * (size_t)x->cols * sizeof(real);
    return n->out;
}

struct tensor *op_rmsnorm(struct tape *t, struct tensor *x, struct tensor *w, double eps)
{
    return record(t, &rmsnorm_op, (struct tensor *[]){x, w, NULL}, 1, eps);
}

struct tensor *op_layernorm(struct tape *t, struct tensor *x, struct tensor *w, struct tensor *b,
                            double eps)
{
    CHECK(b);
    return record(t, &layernorm_op, (struct tensor *[]){x, w, b}, 2, eps);
}
