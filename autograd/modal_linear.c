/* modal_linear.c - a linear layer whose weight and bias depend on the row's modality. The rows of a
 * modality are runs of the flat stream (the text before and after an image), packed into scratch if
 * there are several, so that each modality is one matrix product without masks: its weights are
 * read, and their gradients written, once. */
#include "autograd/gemm.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <string.h>

enum { X, W, B = W + MODALITIES, INPUTS = B + MODALITIES }; /* W and B: one input per modality */

struct run {
    int64_t begin, end; /* rows of the stream */
    int64_t packed;     /* index of `begin` among its modality's rows */
};

struct modal_args {
    struct runs {
        struct run *run;
        int64_t n, rows;
    } of[MODALITIES];
    size_t bias_at;       /* offset in n->scratch, in reals, of the bias row or its partial sums */
    size_t in_at, out_at; /* and of packed rows, input and output width */
};

enum way { PACK, UNPACK, ADD };

/* Copies between the runs' rows of stream[,cols] and packed[rows,cols]. */
static void move_rows(const struct runs *r, enum way way, real *stream, real *packed, int64_t cols)
{
#pragma omp parallel for schedule(static) if (r->rows * cols > 1 << 14)
    for (int64_t i = 0; i < r->n; i++) {
        int64_t count = (r->run[i].end - r->run[i].begin) * cols;
        real *s = stream + r->run[i].begin * cols, *p = packed + r->run[i].packed * cols;
        if (way == PACK) memcpy(p, s, (size_t)count * sizeof(real));
        if (way == UNPACK) memcpy(s, p, (size_t)count * sizeof(real));
        for (int64_t j = 0; j < count && way == ADD; j++)
            s[j] += p[j];
    }
}

/* The rows contiguously: in place if they are one run; else in `packed`, copied there first if
 * they are to be read. */
static real *rows_of(const struct runs *r, real *stream, real *packed, int64_t cols, bool read)
{
    if (r->n == 1) return stream + r->run[0].begin * cols;
    if (read) move_rows(r, PACK, stream, packed, cols);
    return packed;
}

static void fill_bias(const struct tensor *b, real *row, int64_t rows, real *y)
{
    int64_t O = b->cols;

    tensor_to_real(b, 0, O, row);
#pragma omp parallel for schedule(static) if (rows * O > 1 << 14)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < O; j++)
            y[i * O + j] = row[j];
}

static void forward(struct node *n)
{
    const struct modal_args *a = n->args;
    struct tensor *x = n->in[X];
    int64_t O = n->out->cols, I = x->cols;
    real *room = n->scratch;

    for (int m = 0; m < MODALITIES; m++) {
        const struct runs *r = &a->of[m];
        struct tensor *w = n->in[W + m], *b = n->in[B + m];
        if (!r->n) continue;
        real *in = rows_of(r, tensor_real(x), room + a->in_at, I, true);
        real *out = rows_of(r, tensor_real(n->out), room + a->out_at, O, false);
        if (b) fill_bias(b, room + a->bias_at, r->rows, out);
        gemm(r->rows, O, I, mat_of(in, I, false), (struct mat){w->data, w->dtype, I, true},
             b != NULL, out, O, room);
        if (r->n > 1) move_rows(r, UNPACK, tensor_real(n->out), out, O);
    }
}

/* dx of a modality's rows: written in place if they are one run. */
static void input_gradient(struct node *n, int m, real *dy, bool adds)
{
    const struct modal_args *a = n->args;
    const struct runs *r = &a->of[m];
    struct tensor *x = n->in[X], *w = n->in[W + m];
    int64_t O = n->out->cols, I = x->cols;
    real *room = n->scratch, *dx = rows_of(r, x->grad, room + a->in_at, I, false);

    gemm(r->rows, I, O, mat_of(dy, O, false), (struct mat){w->data, w->dtype, I, false},
         r->n == 1 && adds, dx, I, room);
    if (r->n > 1) move_rows(r, adds ? ADD : UNPACK, x->grad, dx, I);
}

static void backward(struct node *n)
{
    const struct modal_args *a = n->args;
    struct tensor *x = n->in[X];
    int64_t O = n->out->cols, I = x->cols;
    bool x_adds = x->needs_grad && tape_grad_adds(x);
    real *room = n->scratch;

    for (int m = 0; m < MODALITIES; m++) {
        const struct runs *r = &a->of[m];
        struct tensor *w = n->in[W + m], *b = n->in[B + m];
        if (!r->n) continue;
        real *dy = rows_of(r, n->out->grad, room + a->out_at, O, true);
        if (x->needs_grad) input_gradient(n, m, dy, x_adds);
        if (w->needs_grad) {
            real *in = rows_of(r, tensor_real(x), room + a->in_at, I, true);
            gemm(O, I, r->rows, mat_of(dy, O, true), mat_of(in, I, false), tape_grad_adds(w),
                 w->grad, I, room);
        }
        if (b && b->needs_grad) bias_backward(dy, r->rows, O, b, room + a->bias_at);
    }
}

const struct op modal_linear_op = {"modal_linear", forward, backward};

/* Checks that the spans cover `rows` rows exactly once. */
static void check_spans(const struct span *spans, int64_t n_spans, int64_t rows)
{
    int64_t at = 0;

    for (int64_t i = 0; i < n_spans; i++) {
        CHECK(spans[i].begin == at && spans[i].end >= at && (int)spans[i].modality < MODALITIES);
        at = spans[i].end;
    }
    CHECK(at == rows);
}

/* The runs of each modality. Empty spans must neither read a missing weight nor touch a gradient;
 * adjacent spans form one run. */
static void make_runs(struct tape *t, struct modal_args *a, const struct span *spans, int64_t n)
{
    for (int m = 0; m < MODALITIES; m++)
        a->of[m].run = tape_new_array(t, struct run, n);
    for (int64_t i = 0; i < n; i++) {
        struct runs *r = &a->of[spans[i].modality];
        int64_t rows = spans[i].end - spans[i].begin;
        if (rows == 0) continue;
        if (r->n && r->run[r->n - 1].end == spans[i].begin)
            r->run[r->n - 1].end = spans[i].end;
        else
            r->run[r->n++] = (struct run){spans[i].begin, spans[i].end, r->rows};
        r->rows += rows;
    }
}

struct tensor *op_modal_linear(struct tape *t, struct tensor *x, struct tensor *const w[MODALITIES],
                               struct tensor *const b[MODALITIES], const struct span *spans,
                               int64_t n_spans)
{
    unsigned reads = 0;
    struct tensor *in[INPUTS] = {x};
    struct modal_args *a = tape_new_array(t, struct modal_args, 1);
    size_t converted = 0, bias = 0;
    int64_t O = w[TEXT] ? w[TEXT]->rows : w[IMAGE] ? w[IMAGE]->rows : 0, packed = 0;

    check_spans(spans, n_spans, x->rows);
    make_runs(t, a, spans, n_spans);
    for (int m = 0; m < MODALITIES; m++) {
        CHECK(w[m] || !a->of[m].n);
        CHECK(!w[m] || (w[m]->rows == O && w[m]->cols == x->cols));
        CHECK(!b[m] || (b[m]->rows == 1 && b[m]->cols == O));
        if (!a->of[m].n) continue;
        in[W + m] = w[m];
        in[B + m] = b[m];
        reads |= (w[m]->needs_grad ? 1u << X : 0) | (x->needs_grad ? 1u << (W + m) : 0);
        size_t bytes = gemm_linear_scratch(a->of[m].rows, w[m], x->needs_grad);
        if (bytes > converted) converted = bytes;
        if (b[m] && bias_scratch(b[m]) > bias) bias = bias_scratch(b[m]);
        if (a->of[m].n > 1 && a->of[m].rows > packed) packed = a->of[m].rows;
    }
    a->bias_at = converted / sizeof(real);
    a->in_at = a->bias_at + bias / sizeof(real);
    a->out_at = a->in_at + (size_t)(packed * x->cols);
    struct node *n = tape_node(t, &modal_linear_op, in, INPUTS, x->rows, O);
    n->args = a;
    n->reads = reads;
    n->scratch_bytes = (a->out_at + (size_t)(packed * O)) * sizeof(real);
    return n->out;
}
