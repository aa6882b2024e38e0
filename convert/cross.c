/* cross.c - FULL -> PARTIAL in a cross-head basis: see model_to_cross in transform.h. All are sums
 * of rows of the original's weights (elements of its biases), made in fp32. */
#include "base/mem.h"
#include "convert/transform.h"
#include "convert/transform_parts.h"
#include "model/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A layer's part of the basis, and its original rows. */
struct source {
    int64_t n, G, H, dh;
    const int32_t *pair;
    const double *re, *im, *scale;
    const float *q, *k; /* [H*dh, width], [G*dh, width] */
    int64_t width;
    double *by; /* [n]: of the weights' balance */
};

/* y += s x */
static void add_row(float *y, double s, const float *x, int64_t width)
{
    for (int64_t j = 0; j < width; j++)
        y[j] = (float)((double)y[j] + s * (double)x[j]);
}

/* re + i im += (a + i b) (x + i y), rows. */
static void add_product(float *re, float *im, double a, double b, const float *x, const float *y,
                        int64_t width)
{
    add_row(re, a, x, width);
    add_row(re, -b, y, width);
    add_row(im, a, y, width);
    add_row(im, b, x, width);
}

/* z' [2n, width]: all real parts, then all imaginary ones. */
static void rotated_keys(const struct source *s, float *out)
{
    const int64_t w = s->width, half = s->dh / 2;

#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < s->n; c++)
        for (int64_t g = 0; g < s->G; g++) {
            const double d = s->scale[g * half + s->pair[c]];
            const float *x = s->k + (g * s->dh + s->pair[c]) * w;
            add_product(out + c * w, out + (s->n + c) * w, d * s->re[c * s->G + g],
                        -d * s->im[c * s->G + g], x, x + half * w, w);
        }
}

/* q' [H, 2n, width]. */
static void rotated_queries(const struct source *s, float *out)
{
    const int64_t w = s->width, half = s->dh / 2;

#pragma omp parallel for schedule(static)
    for (int64_t h = 0; h < s->H; h++)
        for (int64_t c = 0; c < s->n; c++) {
            const int64_t g = h / (s->H / s->G);
            const double d = s->scale[g * half + s->pair[c]];
            const float *x = s->q + (h * s->dh + s->pair[c]) * w;
            float *to = out + (h * 2 * s->n + c) * w;
            add_product(to, to + s->n * w, s->re[c * s->G + g] / d, -s->im[c * s->G + g] / d, x,
                        x + half * w, w);
        }
}

static double squares(const float *x, int64_t n)
{
    double sum = 0;

    for (int64_t j = 0; j < n; j++)
        sum += (double)x[j] * (double)x[j];
    return sum;
}

/* By how much component c's queries, weights [H, 2n, width], are larger than those of a head's own
 * pair are on average. */
static double excess(const struct source *s, const float *q, int64_t c)
{
    const int64_t w = s->width, half = s->dh / 2;
    double own = 0, now = 0;

    for (int64_t h = 0; h < s->H; h++) {
        const float *was = s->q + (h * s->dh + s->pair[c]) * w, *is = q + (h * 2 * s->n + c) * w;
        own += (squares(was, w) + squares(was + half * w, w)) / (double)s->G;
        now += squares(is, w) + squares(is + s->n * w, w);
    }
    return own > 0 && now > 0 ? sqrt(now / own) : 1;
}

static void scale_row(float *x, double by, int64_t width)
{
    for (int64_t j = 0; j < width; j++)
        x[j] = (float)(by * (double)x[j]);
}

/* Shifts size between a component's queries and keys, so that steps of training move both as they
 * moved the original's: the basis makes keys as large as the scores are. by[c]:
 * for the biases too. */
static void balance(const struct source *s, const double *by, float *q, float *k)
{
    const int64_t w = s->width;

#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < s->n; c++) {
        for (int64_t h = 0; h < s->H; h++) {
            scale_row(q + (h * 2 * s->n + c) * w, 1 / by[c], w);
            scale_row(q + (h * 2 * s->n + s->n + c) * w, 1 / by[c], w);
        }
        scale_row(k + c * w, by[c], w);
        scale_row(k + (s->n + c) * w, by[c], w);
    }
}

/* The keys [G*dh, width] less what the rotated ones z' hold of them. */
static void rest_of_keys(const struct source *s, const float *z, float *out)
{
    const int64_t w = s->width, half = s->dh / 2;

    memcpy(out, s->k, (size_t)(s->G * s->dh * w) * sizeof *out);
#pragma omp parallel for schedule(static)
    for (int64_t g = 0; g < s->G; g++)
        for (int64_t c = 0; c < s->n; c++) {
            const double d = s->scale[g * half + s->pair[c]];
            float *to = out + (g * s->dh + s->pair[c]) * w;
            add_product(to, to + half * w, -s->re[c * s->G + g] / d, -s->im[c * s->G + g] / d,
                        z + c * w, z + (s->n + c) * w, w);
        }
}

/* Both of the original's, as fp32; the caller frees the block. */
static float *open_source(struct source *s, const struct param *q, const struct param *k,
                          struct err *e)
{
    const int64_t nq = tensor_count(&q->t), nk = tensor_count(&k->t);
    float *block = mem_new((size_t)(nq + nk), sizeof *block, "a layer's weights", e);

    if (!block) return NULL;
    tensor_to_real(&q->t, 0, nq, block);
    tensor_to_real(&k->t, 0, nk, block + nq);
    s->q = block;
    s->k = block + nq;
    s->width = nk / (s->G * s->dh);
    return block;
}

/* Weights, or after them biases, of the new state: q [rotated, not], k and up_k. */
static bool fill(struct source *s, const struct param *was_q, const struct param *was_k,
                 struct param *const q[2], struct param *k, struct param *up_k, struct err *e)
{
    float *block = open_source(s, was_q, was_k, e);
    bool ok = block && param_alloc(q[1], was_q->t.dtype, e);

    if (ok)
        memcpy(q[1]->own, was_q->t.data,
               (size_t)tensor_count(&was_q->t) * dtype_size(was_q->t.dtype));
    free(q[0]->own); /* was_q's, if it took that over: name and size may not have changed */
    q[0]->own = NULL;
    ok = ok && param_alloc(q[0], DT_F32, e) && param_alloc(k, DT_F32, e) &&
         param_alloc(up_k, DT_F32, e);
    if (ok) {
        rotated_queries(s, q[0]->own);
        rotated_keys(s, k->own);
        rest_of_keys(s, k->own, up_k->own);
        for (int64_t c = 0; c < s->n && s->width > 1; c++)
            s->by[c] = excess(s, q[0]->own, c);
        balance(s, s->by, q[0]->own, k->own);
    }
    free(block);
    return ok;
}

static bool cross_layer(struct model *m, struct attn *now, const struct attn *was, struct source *s,
                        struct err *e)
{
    struct kv_set *set = &now->set[TEXT];

    if (!fill(s, was->q[0], was->k, now->q, now->k, set->up_k, e) || !keep_scale(m, set->up_k, e))
        return false;
    if (was->k_b && (!fill(s, was->q_b[0], was->k_b, now->q_b, now->k_b, set->up_k_b, e) ||
                     !keep_scale(m, set->up_k_b, e)))
        return false;
    take_over(set->up_v, was->v);
    if (was->v_b) take_over(set->up_v_b, was->v_b);
    return true;
}

bool model_to_cross(struct model *m, const struct cross_basis *b, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const int64_t L = c->num_hidden_layers, G = c->num_key_value_heads, half = c->head_dim / 2;
    struct old old = {0};
    double *by;
    bool ok;

    CHECK(m->state == ATTN_FULL && 0 < b->n && b->n <= G * half);
    m->pairs = mem_new((size_t)(L * b->n), sizeof *m->pairs, "the kept RoPE pairs", e);
    by = mem_new((size_t)b->n, sizeof *by, "the keys' basis", e);
    if (!m->pairs || !by) {
        free(by);
        return false;
    }
    memcpy(m->pairs, b->pair, (size_t)(L * b->n) * sizeof *b->pair);
    m->state = ATTN_PARTIAL;
    m->cross = true;
    m->rope_dim = 2 * b->n;
    ok = model_set_query_pairs(m, e) && redeclare(m, &old, e);
    for (int64_t l = 0; ok && l < L; l++) {
        struct source s = {.n = b->n,
                           .G = G,
                           .H = c->num_attention_heads,
                           .dh = c->head_dim,
                           .pair = b->pair + l * b->n,
                           .re = b->re + l * b->n * G,
                           .im = b->im + l * b->n * G,
                           .scale = b->scale + l * G * half,
                           .by = by};
        ok = cross_layer(m, &m->layers[l].attn, &old.layers[l].attn, &s, e);
    }
    old_free(&old);
    free(by);
    return ok;
}
