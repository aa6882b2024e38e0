/* logits.c - see logits.h. */
#include "autograd/logits.h"
#include "autograd/gemm.h"
#include "autograd/mathfun.h"

#include <string.h>

enum { TILE = 2 << 20, TILE_ROWS = 1024 }; /* logits (8 MiB of floats); rows */
enum { KEPT = 4 << 20 };                   /* logits of a tile that is kept */

static struct mat vocab_rows(const struct tensor *w, int64_t v0, bool trans)
{
    const char *first = (const char *)w->data + (size_t)(v0 * w->cols) * dtype_size(w->dtype);

    return (struct mat){first, w->dtype, w->cols, trans};
}

/* Scratch for the three products of a tile: logits, dh and dw. */
static size_t tile_scratch(const struct tensor *h, const struct tensor *w, int64_t rows,
                           int64_t vocab)
{
    struct tensor part = *w;

    part.rows = vocab;
    return gemm_linear_scratch(rows, &part, h->needs_grad);
}

struct logit_tiles logit_tiles(const struct tensor *h, const struct tensor *w)
{
    struct logit_tiles all;

    CHECK(h->cols == w->cols && w->rows > 0);
    all.kept = false;
    all.rows = h->rows < 1 ? 1 : h->rows < TILE_ROWS ? h->rows : TILE_ROWS;
    all.vocab = TILE / all.rows < w->rows ? TILE / all.rows : w->rows;
    all.at = tile_scratch(h, w, all.rows, all.vocab) / sizeof(real);
    all.bytes = ((all.at + (size_t)(all.rows * all.vocab)) * sizeof(real) + 63) & ~(size_t)63;
    return all;
}

void logits_aux(struct tape *t, const struct node *n, int64_t cols, struct logit_tiles *all)
{
    const struct tensor *h = n->in[LOGITS_H], *w = n->in[LOGITS_W];

    if (h->rows > 0 && h->rows <= TILE_ROWS && h->rows * w->rows <= KEPT) {
        *all = (struct logit_tiles){h->rows, w->rows, true, (size_t)(h->rows * cols),
                                    (tile_scratch(h, w, h->rows, w->rows) + 63) & ~(size_t)63};
        cols += w->rows;
    }
    tape_aux(t, h->rows, cols);
}

static real *place_of(const struct node *n, const struct logit_tiles *all)
{
    return (all->kept ? tensor_real(n->aux) : (real *)n->scratch) + all->at;
}

struct logit_tile logit_tile(struct node *n, const struct logit_tiles *all, int64_t r0, int64_t v0)
{
    const struct tensor *h = n->in[LOGITS_H], *w = n->in[LOGITS_W];
    struct logit_tile t = {.r0 = r0, .rows = all->rows, .v0 = v0, .vocab = all->vocab};

    if (t.rows > h->rows - r0) t.rows = h->rows - r0;
    if (t.vocab > w->rows - v0) t.vocab = w->rows - v0;
    t.logits = place_of(n, all);
    gemm(t.rows, t.vocab, h->cols, mat_of(tensor_real(h) + r0 * h->cols, h->cols, false),
         vocab_rows(w, v0, true), false, t.logits, t.vocab, n->scratch);
    return t;
}

void logits_backward(struct node *n, const struct logit_tiles *all, logit_turn *turn)
{
    struct tensor *h = n->in[LOGITS_H], *w = n->in[LOGITS_W];
    bool h_adds = h->needs_grad && tape_grad_adds(h), w_adds = w->needs_grad && tape_grad_adds(w);
    int64_t d = h->cols;

    if (w->needs_grad && !w_adds && h->rows == 0)
        memset(w->grad, 0, (size_t)tensor_count(w) * sizeof(real));
    for (int64_t r0 = 0; r0 < h->rows; r0 += all->rows)
        for (int64_t v0 = 0; v0 < w->rows; v0 += all->vocab) {
            struct logit_tile t =
                all->kept ? (struct logit_tile){0, h->rows, 0, w->rows, place_of(n, all)}
                          : logit_tile(n, all, r0, v0);
            turn(n, &t);
            if (h->needs_grad)
                gemm(t.rows, d, t.vocab, mat_of(t.logits, t.vocab, false), vocab_rows(w, v0, false),
                     h_adds || v0 > 0, h->grad + r0 * d, d, n->scratch);
            if (w->needs_grad)
                gemm(t.vocab, d, t.rows, mat_of(t.logits, t.vocab, true),
                     mat_of(tensor_real(h) + r0 * d, d, false), w_adds || r0 > 0, w->grad + v0 * d,
                     d, n->scratch);
        }
}

void logit_sum_add(struct logit_sum *s, const real *logit, int64_t n, real per)
{
    real top = s->top, sum = 0;

#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++)
        top = logit[j] > top ? logit[j] : top;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++)
        sum += real_exp((logit[j] - top) * per);
    s->sum = s->sum * exp(((double)s->top - (double)top) * (double)per) + (double)sum;
    s->top = top;
}

double logit_sum_log(const struct logit_sum *s, double per)
{
    return (double)s->top * per + log(s->sum);
}

double bucket_log(const real *logit, int64_t k, double rest, double per)
{
    double top = rest, sum = 0;

    for (int64_t i = 0; i < k; i++) { /* fmax(): gcc 12 for arm64 breaks at it */
        const double scaled = (double)logit[i] * per;
        top = scaled > top ? scaled : top;
    }
    for (int64_t i = 0; i < k; i++)
        sum += exp((double)logit[i] * per - top);
    return top + log(sum + exp(rest - top));
}
