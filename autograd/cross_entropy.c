/* cross_entropy.c - the language model head and its loss in one op, so that the logits exist tile
 * by tile only (logits.h). The forward keeps a running maximum and sum per row and saves the
 * log-sum-exp; the backward turns each tile, kept or computed again, into its gradients:
 * dlogits = (exp(logit - lse) - [label]) * scale * dloss. */
#include "autograd/logits.h"
#include "autograd/mathfun.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

struct loss_args {
    const int32_t *labels;
    double scale;
    struct token_score *each; /* [rows] or NULL */
    struct logit_tiles tiles;
};

/* What the forward knows about a row so far. */
struct row_state {
    struct logit_sum all;
    real picked; /* the label's logit */
};

/* Row states of rows [r0, r0 + rows) over the whole vocabulary. */
static int64_t rows_forward(struct node *n, int64_t r0, struct row_state *states)
{
    const struct loss_args *a = n->args;
    int64_t rows = 0;

    for (int64_t i = 0; i < a->tiles.rows; i++)
        states[i] = (struct row_state){LOGIT_SUM_NONE, 0};
    for (int64_t v0 = 0; v0 < n->in[LOGITS_W]->rows; v0 += a->tiles.vocab) {
        struct logit_tile t = logit_tile(n, &a->tiles, r0, v0);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < t.rows; i++) {
            int64_t label = a->labels[r0 + i] - v0;
            logit_sum_add(&states[i].all, t.logits + i * t.vocab, t.vocab, 1);
            if (label >= 0 && label < t.vocab) states[i].picked = t.logits[i * t.vocab + label];
        }
        rows = t.rows;
    }
    return rows;
}

static void forward(struct node *n)
{
    const struct loss_args *a = n->args;
    struct row_state *states = (struct row_state *)(void *)((char *)n->scratch + a->tiles.bytes);
    double loss = 0;

    for (int64_t r0 = 0; r0 < n->in[LOGITS_H]->rows; r0 += a->tiles.rows) {
        int64_t rows = rows_forward(n, r0, states);
        for (int64_t i = 0; i < rows; i++) {
            double lse = logit_sum_log(&states[i].all, 1);
            tensor_real(n->aux)[r0 + i] = (real)lse;
            loss += lse - (double)states[i].picked;
            if (a->each)
                a->each[r0 + i] = (struct token_score){lse - (double)states[i].picked,
                                                       states[i].picked >= states[i].all.top};
        }
    }
    tensor_real(n->out)[0] = (real)(loss * a->scale);
}

/* Turns a tile's logits into their gradients. */
static void turn(const struct node *n, const struct logit_tile *t)
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

    logits_backward(n, &a->tiles, turn);
}

const struct op cross_entropy_op = {"cross_entropy", forward, backward};

static struct tensor *make(struct tape *t, struct tensor *h, struct tensor *w,
                           const int32_t *labels, double scale, struct token_score *each)
{
    struct loss_args *a = tape_new_array(t, struct loss_args, 1);

    *a = (struct loss_args){labels, scale, each, logit_tiles(h, w)};
    for (int64_t i = 0; i < h->rows; i++)
        CHECK(labels[i] >= 0 && labels[i] < w->rows);
    struct node *n = tape_node(t, &cross_entropy_op, (struct tensor *[]){h, w}, 2, 1, 1);
    logits_aux(t, n, 1, &a->tiles);
    n->args = a;
    n->reads = 1u << LOGITS_H | 1u << LOGITS_W | READS_AUX;
    n->scratch_bytes = a->tiles.bytes + (size_t)a->tiles.rows * sizeof(struct row_state);
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
