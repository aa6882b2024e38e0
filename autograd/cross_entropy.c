/* cross_entropy.c - the language model head and its loss in one op, because the logits of all rows
 * would be the model's largest tensor (1,000 rows of 152,000 tokens: 600 MB). They exist tile by
 * tile: some rows times a run of the vocabulary. A tile has as many rows as possible, so that each
 * weight is read (and converted) once per pass; what is left of TILE sets the run of the
 * vocabulary. The forward keeps a running maximum and sum per row and saves the log-sum-exp; the
 * backward recomputes each tile: dlogits = (exp(logit - lse) - [label]) * scale * dloss,  dh +=
 * dlogits w,  dw += dlogits^T h. */
#include "autograd/gemm.h"
#include "autograd/mathfun.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <string.h>

enum { H, W };
enum { TILE = 2 << 20, TILE_ROWS = 1024 }; /* logits (8 MiB of floats); rows */

struct loss_args {
    const int32_t *labels;
    double scale;
    struct token_score *each;  /* [rows] or NULL */
    int64_t rows, vocab;       /* of a tile */
    size_t tile_at, states_at; /* offsets in n->scratch: in reals; in bytes */
};

/* What the forward knows about a row so far: sum is that of exp(logit - top). */
struct row_state {
    double sum;
    real top, picked; /* picked: the label's logit */
};

/* A tile: rows [r0, r0 + rows) of h against the tokens [v0, v0 + vocab). */
struct tile {
    int64_t r0, rows, v0, vocab;
    real *logits; /* [rows, vocab] */
};

static struct mat vocab_rows(const struct tensor *w, int64_t v0, bool trans)
{
    const char *first = (const char *)w->data + (size_t)(v0 * w->cols) * dtype_size(w->dtype);

    return (struct mat){first, w->dtype, w->cols, trans};
}

static struct tile make_tile(struct node *n, int64_t r0, int64_t v0)
{
    const struct loss_args *a = n->args;
    const struct tensor *h = n->in[H], *w = n->in[W];
    struct tile t = {.r0 = r0, .rows = a->rows, .v0 = v0, .vocab = a->vocab};

    if (t.rows > h->rows - r0) t.rows = h->rows - r0;
    if (t.vocab > w->rows - v0) t.vocab = w->rows - v0;
    t.logits = (real *)n->scratch + a->tile_at;
    gemm(t.rows, t.vocab, h->cols, mat_of(tensor_real(h) + r0 * h->cols, h->cols, false),
         vocab_rows(w, v0, true), false, t.logits, t.vocab, n->scratch);
    return t;
}

/* Adds a run of a row's logits. */
static void absorb(struct row_state *s, const real *logit, int64_t n)
{
    real top = s->top, sum = 0;

#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++)
        top = logit[j] > top ? logit[j] : top;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++)
        sum += real_exp(logit[j] - top);
    s->sum = s->sum * exp((double)s->top - (double)top) + (double)sum;
    s->top = top;
}

/* Row states of rows [r0, r0 + rows) over the whole vocabulary. */
static int64_t rows_forward(struct node *n, int64_t r0, struct row_state *states)
{
    const struct loss_args *a = n->args;
    int64_t rows = 0;

    for (int64_t i = 0; i < a->rows; i++)
        states[i] = (struct row_state){0, -INFINITY, 0};
    for (int64_t v0 = 0; v0 < n->in[W]->rows; v0 += a->vocab) {
        struct tile t = make_tile(n, r0, v0);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < t.rows; i++) {
            int64_t label = a->labels[r0 + i] - v0;
            absorb(&states[i], t.logits + i * t.vocab, t.vocab);
            if (label >= 0 && label < t.vocab) states[i].picked = t.logits[i * t.vocab + label];
        }
        rows = t.rows;
    }
    return rows;
}

static void forward(struct node *n)
{
    const struct loss_args *a = n->args;
    struct row_state *states = (struct row_state *)(void *)((char *)n->scratch + a->states_at);
    double loss = 0;

    for (int64_t r0 = 0; r0 < n->in[H]->rows; r0 += a->rows) {
        int64_t rows = rows_forward(n, r0, states);
        for (int64_t i = 0; i < rows; i++) {
            double lse = (double)states[i].top + log(states[i].sum);
            tensor_real(n->aux)[r0 + i] = (real)lse;
            loss += lse - (double)states[i].picked;
            if (a->each)
                a->each[r0 + i] = (struct token_score){lse - (double)states[i].picked,
                                                       states[i].picked >= states[i].top};
        }
    }
    tensor_real(n->out)[0] = (real)(loss * a->scale);
}

/* Turns a tile's logits into their gradients. */
static void logit_gradients(const struct node *n, const struct tile *t)
{
    const struct loss_args *a = n->args;
    real factor = (real)(a->scale * (double)n->out->grad[0]);

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < t->rows; i++) {
        real *z = t->logits + i * t->vocab, lse = tensor_real(n->aux)[t->r0 + i];
        int64_t label = a->labels[t->r0 + i] - t->v0;
#pragma omp simd
        for (int64_t j = 0; j < t->vocab; j++)
            z[j] = real_exp(z[j] - lse) * factor;
        if (label >= 0 && label < t->vocab) z[label] -= factor;
    }
}

static void backward(struct node *n)
{
    const struct loss_args *a = n->args;
    struct tensor *h = n->in[H], *w = n->in[W];
    bool h_adds = h->needs_grad && tape_grad_adds(h), w_adds = w->needs_grad && tape_grad_adds(w);
    int64_t d = h->cols;

    if (w->needs_grad && !w_adds && h->rows == 0)
        memset(w->grad, 0, (size_t)tensor_count(w) * sizeof(real));
    for (int64_t r0 = 0; r0 < h->rows; r0 += a->rows)
        for (int64_t v0 = 0; v0 < w->rows; v0 += a->vocab) {
            struct tile t = make_tile(n, r0, v0);
            logit_gradients(n, &t);
            if (h->needs_grad)
                gemm(t.rows, d, t.vocab, mat_of(t.logits, t.vocab, false), vocab_rows(w, v0, false),
                     h_adds || v0 > 0, h->grad + r0 * d, d, n->scratch);
            if (w->needs_grad)
                gemm(t.vocab, d, t.rows, mat_of(t.logits, t.vocab, true),
                     mat_of(tensor_real(h) + r0 * d, d, false), w_adds || r0 > 0, w->grad + v0 * d,
                     d, n->scratch);
        }
}

const struct op cross_entropy_op = {"cross_entropy", forward, backward};

/* Scratch for the three products of a tile: logits, dh and dw. */
static size_t tile_scratch(const struct tensor *h, const struct tensor *w, int64_t rows,
                           int64_t vocab)
{
    struct tensor part = *w;

    part.rows = vocab;
    return gemm_linear_scratch(rows, &part, h->needs_grad);
}

static struct tensor *make(struct tape *t, struct tensor *h, struct tensor *w,
                           const int32_t *labels, double scale, struct token_score *each)
{
    struct loss_args *a = tape_new_array(t, struct loss_args, 1);
    int64_t rows = h->rows < 1 ? 1 : h->rows < TILE_ROWS ? h->rows : TILE_ROWS;
    int64_t vocab = TILE / rows < w->rows ? TILE / rows : w->rows;

    CHECK(h->cols == w->cols && w->rows > 0);
    for (int64_t i = 0; i < h->rows; i++)
        CHECK(labels[i] >= 0 && labels[i] < w->rows);
    *a = (struct loss_args){
        .labels = labels, .scale = scale, .each = each, .rows = rows, .vocab = vocab};
    a->tile_at = tile_scratch(h, w, rows, vocab) / sizeof(real);
    a->states_at = ((a->tile_at + (size_t)(rows * vocab)) * sizeof(real) + 63) & ~(size_t)63;
    struct node *n = tape_node(t, &cross_entropy_op, (struct tensor *[]){h, w}, 2, 1, 1);
    tape_aux(t, h->rows, 1);
    n->args = a;
    n->reads = 1u << H | 1u << W | READS_AUX;
    n->scratch_bytes = a->states_at + (size_t)rows * sizeof(struct row_state);
    return n->out;
}

struct tensor *op_cross_entropy(struct tape *t, struct tensor *h, struct tensor *w,
                                const int32_t *labels, double scale)
{
    return make(t, h, w, labels, scale, NULL);
}

struct tensor *op_token_scores(struct tape *t, struct tensor *h, struct tensor *w,
                               const int32_t *labels, struct token_score *each)
{
    return make(t, h, w, labels, 1, each);
}
