/* shared.c - FULL -> PARTIAL with one rotated key of all heads' own pairs: see model_to_shared in
 * transform.h. Rows are copied, and zeros put where a head has none of its own. */
#include "base/mem.h"
#include "convert/transform.h"
#include "convert/transform_parts.h"
#include "model/params.h"

#include <stdlib.h>
#include <string.h>

/* A layer's part of the key. */
struct part {
    int64_t n, G, H, dh;
    const int32_t *pair, *head;
};

/* p, which gets memory of its own, has row from[i] of `was` as its row i, or zeros where that is
 * -1; in fp32, as zeros and values side by side are computed ones. */
static bool place(struct param *p, const struct param *was, const int64_t *from, struct err *e)
{
    const int64_t rows = p->ndim == 1 ? p->t.cols : p->t.rows, w = p->ndim == 1 ? 1 : p->t.cols;
    void *before = p->own; /* was's, if it took that over: name and size may not have changed */
    bool ok = param_alloc(p, DT_F32, e);

    for (int64_t i = 0; ok && i < rows; i++)
        if (from[i] >= 0) tensor_to_real(&was->t, from[i] * w, w, (float *)p->own + i * w);
    free(before);
    return ok;
}

/* The original's rows, in their dtype. */
static bool keep(struct param *p, const struct param *was, struct err *e)
{
    const size_t bytes = (size_t)tensor_count(&was->t) * dtype_size(was->t.dtype);

    if (!param_alloc(p, was->t.dtype, e)) return false;
    memcpy(p->own, was->t.data, bytes);
    return true;
}

/* Rows of the rotated queries [H*2n]. */
static void rows_of_queries(const struct part *k, int64_t *from)
{
    const int64_t half = k->dh / 2;

    for (int64_t h = 0; h < k->H; h++)
        for (int64_t c = 0; c < 2 * k->n; c++) {
            const int64_t own = c % k->n, row = h * k->dh + k->pair[own] + (c < k->n ? 0 : half);
            *from++ = k->head[own] == h / (k->H / k->G) ? row : -1;
        }
}

/* Of the rotated key [2n], and of the unrotated ones [G*dh]. */
static void rows_of_keys(const struct part *k, int64_t *rotated, int64_t *rest)
{
    const int64_t half = k->dh / 2;

    for (int64_t i = 0; i < k->G * k->dh; i++)
        rest[i] = i;
    for (int64_t c = 0; c < k->n; c++) {
        const int64_t row = k->head[c] * k->dh + k->pair[c];
        rotated[c] = row;
        rotated[k->n + c] = row + half;
        rest[row] = rest[row + half] = -1;
    }
}

/* Weights, or after them biases: q [rotated, not], k and up_k. rows: scratch. */
static bool fill(const struct part *k, const struct param *was_q, const struct param *was_k,
                 struct param *const q[2], struct param *key, struct param *up_k, int64_t *rows,
                 struct err *e)
{
    int64_t *rest = rows + 2 * k->n;

    rows_of_keys(k, rows, rest);
    if (!keep(q[1], was_q, e) || !place(key, was_k, rows, e) || !place(up_k, was_k, rest, e))
        return false;
    rows_of_queries(k, rows);
    return place(q[0], was_q, rows, e);
}

static bool share_layer(struct model *m, struct attn *now, const struct attn *was,
                        const struct part *k, int64_t *rows, struct err *e)
{
    struct kv_set *set = &now->set[TEXT];

    if (!fill(k, was->q[0], was->k, now->q, now->k, set->up_k, rows, e) ||
        !keep_scale(m, set->up_k, e))
        return false;
    if (was->k_b && (!fill(k, was->q_b[0], was->k_b, now->q_b, now->k_b, set->up_k_b, rows, e) ||
                     !keep_scale(m, set->up_k_b, e)))
        return false;
    take_over(set->up_v, was->v);
    if (was->v_b) take_over(set->up_v_b, was->v_b);
    return true;
}

static bool set_layout(struct model *m, const struct shared_key *k, int64_t *most, struct err *e)
{
    const int64_t L = m->cfg.text.num_hidden_layers;
    int64_t *dims = mem_new((size_t)L, sizeof *dims, "the layers' rotated dims", e), all = 0;
    bool ok = dims;

    *most = 0;
    for (int64_t l = 0; ok && l < L; l++) {
        dims[l] = 2 * k->n[l];
        all += k->n[l];
        if (k->n[l] > *most) *most = k->n[l];
    }
    m->state = ATTN_PARTIAL;
    m->cross = true;
    ok = ok && model_set_rope_dims(m, dims, e);
    free(dims);
    m->pairs = ok ? mem_new((size_t)all, sizeof *m->pairs, "the kept RoPE pairs", e) : NULL;
    if (!m->pairs) return false;
    memcpy(m->pairs, k->pair, (size_t)all * sizeof *m->pairs);
    return model_set_query_pairs(m, e);
}

bool model_to_shared(struct model *m, const struct shared_key *k, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    struct part part = {0, c->num_key_value_heads, c->num_attention_heads, c->head_dim, NULL, NULL};
    struct old old = {0};
    int64_t most, *rows = NULL;
    bool ok;

    CHECK(m->state == ATTN_FULL);
    ok = set_layout(m, k, &most, e);
    if (ok)
        rows =
            mem_new((size_t)(2 * part.H * most + part.G * part.dh), sizeof *rows, "row order", e);
    ok = rows && redeclare(m, &old, e);
    for (int64_t l = 0, at = 0; ok && l < c->num_hidden_layers; at += part.n, l++) {
        part.n = k->n[l];
        part.pair = k->pair + at;
        part.head = k->head + at;
        ok = share_layer(m, &m->layers[l].attn, &old.layers[l].attn, &part, rows, e);
    }
    old_free(&old);
    free(rows);
    return ok;
}
