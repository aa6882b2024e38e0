/* rows.c - ops that move whole rows: embedding, selecting from two tensors (image features into the
 * text, labelled rows out of the stream), joining two tensors side by side, adding. Where several
 * rows of a gradient are added to the same row, that happens in order, and the threads divide the
 * columns: same bits for any number of threads. */
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <string.h>

enum { A, B };
enum { COLUMNS = 256 };   /* a thread's share of the columns */
enum { SMALL = 1 << 14 }; /* elements below which threads cost more than they gain */

struct rows_args {
    const int32_t *index;
    int64_t pad; /* of the embedding: the row without a gradient, or -1 */
};

/* Row i of t, of any dtype, to dst. */
static void copy_row(const struct tensor *t, int64_t i, real *dst)
{
    CHECK(i >= 0 && i < t->rows);
    tensor_to_real(t, i * t->cols, t->cols, dst);
}

/* The input row that receives the gradient of output row i; negative: none. */
typedef int64_t target_fn(const struct node *n, int64_t i);

static void add_rows(const struct node *n, struct tensor *x, target_fn *target)
{
    int64_t d = x->cols, rows = n->out->rows;
    const real *dy = n->out->grad;

    if (!tape_grad_adds(x)) memset(x->grad, 0, (size_t)tensor_count(x) * sizeof(real));
#pragma omp parallel for schedule(static) if (rows * d > SMALL)
    for (int64_t c = 0; c < d; c += COLUMNS) {
        int64_t end = c + COLUMNS < d ? c + COLUMNS : d;
        for (int64_t i = 0; i < rows; i++) {
            int64_t to = target(n, i);
            for (int64_t j = c; to >= 0 && j < end; j++)
                x->grad[to * d + j] += dy[i * d + j];
        }
    }
}

static int64_t index_of(const struct node *n, int64_t i)
{
    return ((const struct rows_args *)n->args)->index[i];
}

static void embedding_forward(struct node *n)
{
    int64_t d = n->out->cols;

#pragma omp parallel for schedule(static) if (n->out->rows * d > SMALL)
    for (int64_t i = 0; i < n->out->rows; i++)
        copy_row(n->in[A], index_of(n, i), tensor_real(n->out) + i * d);
}

static int64_t trained_index(const struct node *n, int64_t i)
{
    const struct rows_args *a = n->args;

    return a->index[i] == a->pad ? -1 : a->index[i];
}

static void embedding_backward(struct node *n)
{
    add_rows(n, n->in[A], trained_index);
}

const struct op embedding_op = {"embedding", embedding_forward, embedding_backward};

static void select_forward(struct node *n)
{
    int64_t d = n->out->cols;

#pragma omp parallel for schedule(static) if (n->out->rows * d > SMALL)
    for (int64_t i = 0; i < n->out->rows; i++) {
        int64_t from = index_of(n, i);
        copy_row(n->in[from >= 0 ? A : B], from >= 0 ? from : -from - 1,
                 tensor_real(n->out) + i * d);
    }
}

static int64_t index_of_b(const struct node *n, int64_t i)
{
    return -index_of(n, i) - 1;
}

static void select_backward(struct node *n)
{
    if (n->in[A]->needs_grad) add_rows(n, n->in[A], index_of);
    if (n->in[B] && n->in[B]->needs_grad) add_rows(n, n->in[B], index_of_b);
}

const struct op select_rows_op = {"select_rows", select_forward, select_backward};

static void join_forward(struct node *n)
{
    int64_t a = n->in[A]->cols, b = n->in[B]->cols;

#pragma omp parallel for schedule(static) if (tensor_count(n->out) > SMALL)
    for (int64_t i = 0; i < n->out->rows; i++) {
        real *y = tensor_real(n->out) + i * (a + b);
        copy_row(n->in[A], i, y);
        copy_row(n->in[B], i, y + a);
    }
}

/* The columns of the output's gradient starting at `col`. */
static void split_columns(const struct node *n, struct tensor *x, int64_t col)
{
    bool adds = tape_grad_adds(x);

#pragma omp parallel for schedule(static) if (tensor_count(x) > SMALL)
    for (int64_t i = 0; i < x->rows; i++) {
        const real *dy = n->out->grad + i * n->out->cols + col;
        real *dx = x->grad + i * x->cols;
        for (int64_t j = 0; j < x->cols; j++)
            dx[j] = adds ? dx[j] + dy[j] : dy[j];
    }
}

static void join_backward(struct node *n)
{
    if (n->in[A]->needs_grad) split_columns(n, n->in[A], 0);
    if (n->in[B]->needs_grad) split_columns(n, n->in[B], n->in[A]->cols);
}

const struct op join_op = {"join", join_forward, join_backward};

static void group_forward(struct node *n)
{
    tensor_to_real(n->in[A], 0, tensor_count(n->out), tensor_real(n->out));
}

static void group_backward(struct node *n)
{
    const real *dy = n->out->grad;
    real *dx = n->in[A]->grad;
    int64_t count = tensor_count(n->out);
    bool adds = tape_grad_adds(n->in[A]);

#pragma omp parallel for schedule(static) if (count > SMALL)
    for (int64_t i = 0; i < count; i++)
        dx[i] = adds ? dx[i] + dy[i] : dy[i];
}

const struct op group_rows_op = {"group_rows", group_forward, group_backward};

/* Rows lie side by side n times. */
static void repeat_forward(struct node *n)
{
    int64_t rows = n->out->rows, d = n->in[A]->cols, cols = n->out->cols;

#pragma omp parallel for schedule(static) if (rows * cols > SMALL)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j += d)
            copy_row(n->in[A], i, tensor_real(n->out) + i * cols + j);
}

static void repeat_backward(struct node *n)
{
    int64_t rows = n->out->rows, d = n->in[A]->cols, cols = n->out->cols;
    bool adds = tape_grad_adds(n->in[A]);

#pragma omp parallel for schedule(static) if (rows * cols > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        const real *dy = n->out->grad + i * cols;
        real *dx = n->in[A]->grad + i * d;
        for (int64_t j = 0; j < d; j++) {
            real sum = adds ? dx[j] : 0;
            for (int64_t k = j; k < cols; k += d)
                sum += dy[k];
            dx[j] = sum;
        }
    }
}

const struct op repeat_op = {"repeat", repeat_forward, repeat_backward};

static void add_forward(struct node *n)
{
    struct tensor *a = n->in[A], *b = n->in[B];
    int64_t d = a->cols;

#pragma omp parallel for schedule(static) if (tensor_count(a) > SMALL)
    for (int64_t i = 0; i < a->rows; i++) {
        real *y = tensor_real(n->out) + i * d;
        const real *x = tensor_real(a) + i * d;
        copy_row(b, i % b->rows, y);
        for (int64_t j = 0; j < d; j++)
            y[j] = x[j] + y[j];
    }
}

static int64_t wrapped(const struct node *n, int64_t i)
{
    return i % n->in[B]->rows;
}

static void add_backward(struct node *n)
{
    if (n->in[B]->needs_grad) add_rows(n, n->in[B], wrapped);
    if (n->in[A]->needs_grad) tape_pass_grad(n, A);
}

const struct op add_op = {"add", add_forward, add_backward};

static struct node *indexed(struct tape *t, const struct op *op, struct tensor *a, struct tensor *b,
                            const struct rows_args *rows, int64_t n_rows)
{
    struct rows_args *args = tape_new_array(t, struct rows_args, 1);
    struct node *n = tape_node(t, op, (struct tensor *[]){a, b}, 2, n_rows, a->cols);

    *args = *rows;
    n->args = args;
    return n;
}

struct tensor *op_embedding(struct tape *t, struct tensor *w, const int32_t *ids, int64_t n,
                            int64_t pad)
{
    for (int64_t i = 0; i < n; i++)
        CHECK(ids[i] >= 0 && ids[i] < w->rows);
    return indexed(t, &embedding_op, w, NULL, &(struct rows_args){ids, pad}, n)->out;
}

struct tensor *op_select_rows(struct tape *t, struct tensor *a, struct tensor *b,
                              const int32_t *index, int64_t n)
{
    CHECK(!b || b->cols == a->cols);
    for (int64_t i = 0; i < n; i++)
        CHECK(index[i] >= 0 ? index[i] < a->rows : b && -(int64_t)index[i] - 1 < b->rows);
    return indexed(t, &select_rows_op, a, b, &(struct rows_args){.index = index}, n)->out;
}

struct tensor *op_join(struct tape *t, struct tensor *a, struct tensor *b)
{
    CHECK(a->rows == b->rows);
    return tape_node(t, &join_op, (struct tensor *[]){a, b}, 2, a->rows, a->cols + b->cols)->out;
}

struct tensor *op_group_rows(struct tape *t, struct tensor *x, int64_t n)
{
    CHECK(n > 0 && x->rows % n == 0);
    return tape_node(t, &group_rows_op, &x, 1, x->rows / n, n * x->cols)->out;
}

struct tensor *op_repeat(struct tape *t, struct tensor *x, int64_t n)
{
    CHECK(n > 0);
    return tape_node(t, &repeat_op, &x, 1, x->rows, n * x->cols)->out;
}

struct tensor *op_add(struct tape *t, struct tensor *a, struct tensor *b)
{
    CHECK(a->dtype == DT_REAL && a->cols == b->cols && b->rows > 0 && a->rows % b->rows == 0);
    struct node *n = tape_node(t, &add_op, (struct tensor *[]){a, b}, 2, a->rows, a->cols);
    n->passes = A;
    return n->out;
}
