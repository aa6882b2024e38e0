/* modal_linear.c - a linear whose weight and bias depend on the modality of the row. The rows of a
 * modality are runs of the flat stream, so it is one matrix product per run and no mask. Runs that
 * touch (the text at the end of one sample and at the begin of the next) are one product. */
#include "autograd/gemm.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

enum { X, W, B = W + MODALITIES, INPUTS = B + MODALITIES }; /* W and B: one input per modality */

struct modal_args {
    const struct span *spans;
    int64_t n_spans;
    size_t bias_at; /* where in n->scratch, in reals, the bias row or its partial sums begin */
};

/* The next run at or after span *at, neighbours of one modality joined; false behind the last. */
static bool next_run(const struct modal_args *a, int64_t *at, struct span *run)
{
    if (*at == a->n_spans) return false;
    *run = a->spans[(*at)++];
    while (*at < a->n_spans && a->spans[*at].modality == run->modality)
        run->end = a->spans[(*at)++].end;
    return true;
}

static void fill_bias(struct node *n, const struct tensor *b, const struct span *run)
{
    const struct modal_args *a = n->args;
    real *row = (real *)n->scratch + a->bias_at, *y = tensor_real(n->out);
    int64_t O = n->out->cols;

    tensor_to_real(b, 0, O, row);
#pragma omp parallel for schedule(static) if ((run->end - run->begin) * O > 1 << 14)
    for (int64_t i = run->begin; i < run->end; i++)
        for (int64_t j = 0; j < O; j++)
            y[i * O + j] = row[j];
}

static void forward(struct node *n)
{
    const struct modal_args *a = n->args;
    struct tensor *x = n->in[X];
    int64_t O = n->out->cols, I = x->cols;
    struct span run;

    for (int64_t at = 0; next_run(a, &at, &run);) {
        struct tensor *w = n->in[W + run.modality], *b = n->in[B + run.modality];
        if (b) fill_bias(n, b, &run);
        gemm(run.end - run.begin, O, I, mat_of(tensor_real(x) + run.begin * I, I, false),
             (struct mat){w->data, w->dtype, I, true}, b != NULL,
             tensor_real(n->out) + run.begin * O, O, n->scratch);
    }
}

static void backward(struct node *n)
{
    const struct modal_args *a = n->args;
    struct tensor *x = n->in[X];
    int64_t O = n->out->cols, I = x->cols;
    bool x_adds = x->needs_grad && tape_grad_adds(x);
    struct span run;

    for (int64_t at = 0; next_run(a, &at, &run);) {
        struct tensor *w = n->in[W + run.modality], *b = n->in[B + run.modality];
        const real *dy = n->out->grad + run.begin * O;
        int64_t rows = run.end - run.begin;
        if (x->needs_grad)
            gemm(rows, I, O, mat_of(dy, O, false), (struct mat){w->data, w->dtype, I, false},
                 x_adds, x->grad + run.begin * I, I, n->scratch);
        if (w->needs_grad)
            gemm(O, I, rows, mat_of(dy, O, true), mat_of(tensor_real(x) + run.begin * I, I, false),
                 tape_grad_adds(w), w->grad, I, n->scratch);
        if (b && b->needs_grad) bias_backward(dy, rows, O, b, (real *)n->scratch + a->bias_at);
    }
}

const struct op modal_linear_op = {"modal_linear", forward, backward};

/* Checks that the spans cover `rows` rows once, and answers which modalities have rows. */
static unsigned check_spans(const struct span *spans, int64_t n_spans, int64_t rows)
{
    unsigned present = 0;
    int64_t at = 0;

    for (int64_t i = 0; i < n_spans; i++) {
        CHECK(spans[i].begin == at && spans[i].end >= at && (int)spans[i].modality < MODALITIES);
        if (spans[i].end > at) present |= 1u << spans[i].modality;
        at = spans[i].end;
    }
    CHECK(at == rows);
    return present;
}

/* The spans that have rows: an empty one must neither read a missing weight nor touch a gradient.
 */
static void keep_spans(struct tape *t, struct modal_args *a, const struct span *spans, int64_t n)
{
    struct span *kept = tape_new_array(t, struct span, n);

    for (int64_t i = 0; i < n; i++)
        if (spans[i].end > spans[i].begin) kept[a->n_spans++] = spans[i];
    a->spans = kept;
}

struct tensor *op_modal_linear(struct tape *t, struct tensor *x, struct tensor *const w[MODALITIES],
                               struct tensor *const b[MODALITIES], const struct span *spans,
                               int64_t n_spans)
{
    unsigned present = check_spans(spans, n_spans, x->rows), reads = 0;
    struct tensor *in[INPUTS] = {x};
    struct modal_args *a = tape_new_array(t, struct modal_args, 1);
    size_t converted = 0, bias = 0;
    int64_t O = w[TEXT] ? w[TEXT]->rows : w[IMAGE] ? w[IMAGE]->rows : 0;

    for (int m = 0; m < MODALITIES; m++) {
        CHECK(w[m] || !(present & 1u << m));
        CHECK(!w[m] || (w[m]->rows == O && w[m]->cols == x->cols));
        CHECK(!b[m] || (b[m]->rows == 1 && b[m]->cols == O));
        if (!(present & 1u << m)) continue;
        in[W + m] = w[m];
        in[B + m] = b[m];
        reads |= (w[m]->needs_grad ? 1u << X : 0) | (x->needs_grad ? 1u << (W + m) : 0);
        size_t bytes = gemm_linear_scratch(x->rows, w[m], x->needs_grad);
        if (bytes > converted) converted = bytes;
        if (b[m] && bias_scratch(b[m]) > bias) bias = bias_scratch(b[m]);
    }
    keep_spans(t, a, spans, n_spans);
    a->bias_at = converted / sizeof(real);
    struct node *n = tape_node(t, &modal_linear_op, in, INPUTS, x->rows, O);
    n->args = a;
    n->reads = reads;
    n->scratch_bytes = converted + bias;
    return n->out;
}
