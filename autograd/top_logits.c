/* top_logits.c - what is kept of the distribution of a language model head: the k largest logits of
 * each row, and the log-sum-exp of the rest. The logits exist tile by tile only (logits.h): a heap
 * of k entries a row goes along, and what falls out of it, or never gets in, goes into the sum. */
#include "autograd/logits.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <math.h>

struct top_args {
    struct top_logits to;
    struct logit_tiles tiles;
    size_t heaps_at; /* in n->scratch, in bytes */
};

struct entry {
    real logit;
    int32_t id;
};

/* A row's: entry 0 is the least of the n. */
struct row_state {
    struct logit_sum rest;
    int64_t n;
    struct entry *heap; /* [k] */
};

/* Of equal logits the first token's is the larger, however the vocabulary is cut into tiles. */
static bool is_less(const struct entry *a, const struct entry *b)
{
    return a->logit < b->logit || (a->logit == b->logit && a->id > b->id);
}

static void sift_up(struct entry *heap, int64_t at, struct entry x)
{
    for (; at > 0 && is_less(&x, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = x;
}

static void sift_down(struct entry *heap, int64_t n, struct entry x)
{
    int64_t at = 0;

    for (int64_t child = 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && is_less(&heap[child + 1], &heap[child])) child++;
        if (!is_less(&heap[child], &x)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = x;
}

/* Adds the logits z[n] of the tokens from v0 on. */
static void absorb(struct row_state *s, const struct top_logits *to, real *z, int64_t n, int64_t v0)
{
    const real per = (real)(1 / to->temperature);
    int64_t kept = 0;

    for (int64_t j = 0; j < n; j++) {
        const struct entry x = {z[j], (int32_t)(v0 + j)};
        if (s->n < to->k) {
            sift_up(s->heap, s->n++, x);
        } else if (x.logit > s->heap[0].logit) {
            if (s->heap[0].id < v0) logit_sum_add(&s->rest, &s->heap[0].logit, 1, per);
            sift_down(s->heap, s->n, x);
        }
    }
    for (int64_t i = 0; i < s->n; i++)
        if (s->heap[i].id >= v0) {
            z[s->heap[i].id - v0] = -INFINITY;
            kept++;
        }
    if (kept < n) logit_sum_add(&s->rest, z, n, per);
}

/* Hands a row over, sorted by token. */
static void finish(struct node *node, struct row_state *s, int64_t row)
{
    const struct top_logits *to = &((const struct top_args *)node->args)->to;
    const double per = 1 / to->temperature, rest = logit_sum_log(&s->rest, per);

    for (int64_t i = 1; i < s->n; i++) {
        struct entry x = s->heap[i];
        int64_t at = i;
        for (; at > 0 && s->heap[at - 1].id > x.id; at--)
            s->heap[at] = s->heap[at - 1];
        s->heap[at] = x;
    }
    for (int64_t i = 0; i < to->k; i++) {
        to->ids[row * to->k + i] = s->heap[i].id;
        to->logits[row * to->k + i] = s->heap[i].logit;
    }
    to->rest[row] = (real)rest;
    tensor_real(node->out)[row] =
        (real)exp(rest - bucket_log(to->logits + row * to->k, to->k, rest, per));
}

static void rows_forward(struct node *n, int64_t r0, struct row_state *states)
{
    const struct top_args *a = n->args;
    int64_t rows = 0;

    for (int64_t v0 = 0; v0 < n->in[LOGITS_W]->rows; v0 += a->tiles.vocab) {
        struct logit_tile t = logit_tile(n, &a->tiles, r0, v0);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < t.rows; i++)
            absorb(&states[i], &a->to, t.logits + i * t.vocab, t.vocab, v0);
        rows = t.rows;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        finish(n, &states[i], r0 + i);
}

static void forward(struct node *n)
{
    const struct top_args *a = n->args;
    struct row_state *states = (struct row_state *)(void *)((char *)n->scratch + a->tiles.bytes);
    struct entry *heaps = (struct entry *)(void *)((char *)n->scratch + a->heaps_at);

    for (int64_t r0 = 0; r0 < n->in[LOGITS_H]->rows; r0 += a->tiles.rows) {
        for (int64_t i = 0; i < a->tiles.rows; i++)
            states[i] = (struct row_state){.rest = LOGIT_SUM_NONE, .heap = heaps + i * a->to.k};
        rows_forward(n, r0, states);
    }
}

const struct op top_logits_op = {"top_logits", forward, NULL};

struct tensor *op_top_logits(struct tape *t, struct tensor *h, struct tensor *w,
                             const struct top_logits *to)
{
    struct top_args *a = tape_new_array(t, struct top_args, 1);

    *a = (struct top_args){.to = *to, .tiles = logit_tiles(h, w)};
    CHECK(to->k > 0 && to->k <= w->rows && to->temperature > 0);
    a->heaps_at = a->tiles.bytes + (size_t)a->tiles.rows * sizeof(struct row_state);
    struct node *n = tape_node(t, &top_logits_op, (struct tensor *[]){h, w}, 2, h->rows, 1);
    n->args = a;
    n->scratch_bytes = a->heaps_at + (size_t)(a->tiles.rows * to->k) * sizeof(struct entry);
    return n->out;
}
