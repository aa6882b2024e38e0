/* distill.c - cross entropy of the labels and divergence from a teacher's distributions in one op,
 * tile by tile as in cross_entropy.c. Of a row with logits z, temperature T and weight lambda:
 *
 *     loss = scale ((1 - lambda) CE + lambda T^2 KL)
 *     CE   = -log softmax(z)[label]
 *     KL   = sum over buckets b of p_b (log p_b - log q_b)
 *
 * T, the weighted sum of both and the factor T^2, by which the gradient keeps its size whatever T
 * is, are those of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (arXiv
 * 1503.02531, section 2; there CE has the small weight). The buckets are ours: the teacher's k
 * likeliest tokens (the set K), and all others together as one, so that k logits and a number are
 * enough of the teacher. With S = log of the sum of exp(z_j / T) over all tokens and R over those
 * not in K,
 *
 *     q_j = exp(z_j / T - S) for j in K,  q_rest = exp(R - S),
 *
 * and p is the same of the teacher's logits. KL of all tokens is at least that of the buckets, and
 * equal to it where k = V. As the p_b add up to 1, dS/dz_j = softmax(z/T)_j / T and likewise of R,
 *
 *     T^2 dKL/dz_j = T (q_j - p_j)                           j in K
 *                    T (q_rest - p_rest) exp(z_j / T - R)    else:
 *
 * within the rest the student keeps its own proportions. R is summed over the rest alone, rather
 * than being the difference of S and the k tokens, which would cancel where
 * the rest is unlikely. */
#include "autograd/logits.h"
#include "autograd/mathfun.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

struct distill_args {
    struct distill d;
    const int32_t *labels;
    struct logit_tiles tiles;
    size_t kept_at; /* in n->scratch, in bytes */
};

/* What the forward knows about a row so far. */
struct row_state {
    struct logit_sum all, rest; /* at temperature 1; at T, of the tokens not in K */
    real picked;                /* the label's logit */
    int64_t next;               /* the first of K that no tile has had */
};

/* Kept for the backward, a row's: the sums' logs, the teacher's S, and q_rest - p_rest. */
enum { AUX_ALL, AUX_S, AUX_REST, AUX_TEACHER, AUX_GAP, AUX_COLS };

/* The logits of K, of each row of the current tile: [rows, k]. */
static real *kept_of(const struct node *n, int64_t i)
{
    const struct distill_args *a = n->args;

    return (real *)(void *)((char *)n->scratch + a->kept_at) + i * a->d.teacher->k;
}

/* Adds a tile's logits of its row i; those of K are out of their places while the rest is added. */
static void absorb(const struct node *n, const struct logit_tile *t, int64_t i, struct row_state *s)
{
    const struct distill_args *a = n->args;
    const struct top_logits *teacher = a->d.teacher;
    const int32_t *ids = teacher->ids + (t->r0 + i) * teacher->k;
    const int64_t label = a->labels[t->r0 + i] - t->v0, first = s->next;
    real *z = t->logits + i * t->vocab, *kept = kept_of(n, i);

    logit_sum_add(&s->all, z, t->vocab, 1);
    if (label >= 0 && label < t->vocab) s->picked = z[label];
    for (; s->next < teacher->k && ids[s->next] < t->v0 + t->vocab; s->next++) {
        kept[s->next] = z[ids[s->next] - t->v0];
        z[ids[s->next] - t->v0] = -INFINITY;
    }
    if (s->next - first < t->vocab)
        logit_sum_add(&s->rest, z, t->vocab, (real)(1 / teacher->temperature));
    for (int64_t k = first; k < s->next; k++)
        z[ids[k] - t->v0] = kept[k];
}

/* KL of a row, whose logits of K are kept; fills what the backward needs of it. */
static double divergence(const struct top_logits *teacher, int64_t row, const real *kept,
                         double rest, real *aux)
{
    const real *logits = teacher->logits + row * teacher->k;
    const double per = 1 / teacher->temperature, rest_t = (double)teacher->rest[row];
    const double all = bucket_log(kept, teacher->k, rest, per),
                 all_t = bucket_log(logits, teacher->k, rest_t, per), p = exp(rest_t - all_t);
    double sum = 0;

    for (int64_t i = 0; i < teacher->k; i++) {
        const double log_p = (double)logits[i] * per - all_t, log_q = (double)kept[i] * per - all;
        sum += exp(log_p) * (log_p - log_q);
    }
    if (p > 0) sum += p * ((rest_t - all_t) - (rest - all)); /* k = V: there is no rest */
    aux[AUX_S] = (real)all;
    aux[AUX_REST] = (real)rest;
    aux[AUX_TEACHER] = (real)all_t;
    aux[AUX_GAP] = (real)(exp(rest - all) - p);
    return sum;
}

/* Row states of rows [r0, r0 + rows) over the whole vocabulary. */
static int64_t rows_forward(struct node *n, int64_t r0, struct row_state *states)
{
    const struct distill_args *a = n->args;
    int64_t rows = 0;

    for (int64_t i = 0; i < a->tiles.rows; i++)
        states[i] = (struct row_state){LOGIT_SUM_NONE, LOGIT_SUM_NONE, 0, 0};
    for (int64_t v0 = 0; v0 < n->in[LOGITS_W]->rows; v0 += a->tiles.vocab) {
        struct logit_tile t = logit_tile(n, &a->tiles, r0, v0);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < t.rows; i++)
            absorb(n, &t, i, &states[i]);
        rows = t.rows;
    }
    return rows;
}

static void forward(struct node *n)
{
    const struct distill_args *a = n->args;
    const struct top_logits *teacher = a->d.teacher;
    const double T = teacher->temperature, lambda = a->d.weight;
    struct row_state *states = (struct row_state *)(void *)((char *)n->scratch + a->tiles.bytes);
    double ce = 0, kl = 0;

    for (int64_t r0 = 0; r0 < n->in[LOGITS_H]->rows; r0 += a->tiles.rows) {
        const int64_t rows = rows_forward(n, r0, states);
        for (int64_t i = 0; i < rows; i++) {
            real *aux = tensor_real(n->aux) + (r0 + i) * AUX_COLS;
            const double lse = logit_sum_log(&states[i].all, 1);
            aux[AUX_ALL] = (real)lse;
            ce += lse - (double)states[i].picked;
            kl += divergence(teacher, r0 + i, kept_of(n, i), logit_sum_log(&states[i].rest, 1 / T),
                             aux);
        }
    }
    if (a->d.terms) *a->d.terms = (struct distill_terms){ce * a->d.scale, T * T * kl * a->d.scale};
    tensor_real(n->out)[0] = (real)(((1 - lambda) * ce + lambda * T * T * kl) * a->d.scale);
}

/* The gradients of a row's logits z of the tile's tokens: those of K are made first, while their
 * logits are there, and put in their places at last. */
static void turn_row(const struct node *n, const struct logit_tile *t, int64_t i, double factor)
{
    const struct distill_args *a = n->args;
    const struct top_logits *teacher = a->d.teacher;
    const int32_t *ids = teacher->ids + (t->r0 + i) * teacher->k;
    const real *aux = tensor_real(n->aux) + (t->r0 + i) * AUX_COLS;
    const double per = 1 / teacher->temperature, soft = factor * a->d.weight / per;
    const real hard = (real)(factor * (1 - a->d.weight)), all = aux[AUX_ALL], rest = aux[AUX_REST],
               other = (real)(soft * (double)aux[AUX_GAP]);
    const int64_t label = a->labels[t->r0 + i] - t->v0;
    real *z = t->logits + i * t->vocab, *kept = kept_of(n, i);
    int64_t first = 0, end;

    while (first < teacher->k && ids[first] < t->v0)
        first++;
    for (end = first; end < teacher->k && ids[end] < t->v0 + t->vocab; end++) {
        const real x = z[ids[end] - t->v0], of = teacher->logits[(t->r0 + i) * teacher->k + end];
        const double q = exp((double)x * per - (double)aux[AUX_S]),
                     p = exp((double)of * per - (double)aux[AUX_TEACHER]);
        kept[end] = real_exp(x - all) * hard + (real)(soft * (q - p));
    }
#pragma omp simd
    for (int64_t j = 0; j < t->vocab; j++)
        z[j] = real_exp(z[j] - all) * hard + real_exp(z[j] * (real)per - rest) * other;
    for (int64_t k = first; k < end; k++)
        z[ids[k] - t->v0] = kept[k];
    if (label >= 0 && label < t->vocab) z[label] -= hard;
}

/* Turns a tile's logits into their gradients. */
static void turn(const struct node *n, const struct logit_tile *t)
{
    const struct distill_args *a = n->args;
    const double factor = a->d.scale * (double)n->out->grad[0];

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < t->rows; i++)
        turn_row(n, t, i, factor);
}

static void backward(struct node *n)
{
    const struct distill_args *a = n->args;

    logits_backward(n, &a->tiles, turn);
}

const struct op distill_op = {"distill", forward, backward};

struct tensor *op_distill(struct tape *t, struct tensor *h, struct tensor *w, const int32_t *labels,
                          const struct distill *d)
{
    struct distill_args *a = tape_new_array(t, struct distill_args, 1);
    const int64_t k = d->teacher->k;

    CHECK(k > 0 && k <= w->rows && d->teacher->temperature > 0);
    *a = (struct distill_args){.d = *d, .labels = labels, .tiles = logit_tiles(h, w)};
    for (int64_t i = 0; i < h->rows; i++)
        CHECK(labels[i] >= 0 && labels[i] < w->rows);
    struct node *n = tape_node(t, &distill_op, (struct tensor *[]){h, w}, 2, 1, 1);
    logits_aux(t, n, AUX_COLS, &a->tiles);
    a->kept_at = a->tiles.bytes + (size_t)a->tiles.rows * sizeof(struct row_state);
    n->args = a;
    n->reads = 1u << LOGITS_H | 1u << LOGITS_W | READS_AUX;
    n->scratch_bytes = a->kept_at + (size_t)(a->tiles.rows * k) * sizeof(real);
    return n->out;
}
