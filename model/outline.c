/* outline.c - see outline.h. Building a graph reads no values, so none are needed to plan one. */
#include "model/outline.h"
#include "base/mem.h"
#include "model/params.h"

#include <string.h>

/* Any pairs will do for a plan: the first of each head. */
static bool any_pairs(struct model *m, struct err *e)
{
    int64_t L = m->cfg.text.num_hidden_layers, K = model_rope_keys(m);
    int64_t P = m->cfg.text.head_dim / 2;

    m->pairs =
        mem_new((size_t)(K * model_pairs_before(m, L)), sizeof *m->pairs, "the kept RoPE pairs", e);
    if (!m->pairs) return false;
    for (int64_t l = 0, to = 0; l < L; l++) {
        const int64_t kept = model_rope_dim(m, l) / 2;
        for (int64_t i = 0; i < K * kept; i++)
            m->pairs[to++] = (int32_t)(i % kept % P);
    }
    return model_set_query_pairs(m, e);
}

/* Frozen weights stay in the files' dtype, which determines their size and what a product must
 * convert. Rows that only move keep it; what conversion computes is fp32. */
static void same_dtype(struct param *p, const struct param *was)
{
    if (p && was && !p->t.needs_grad) p->t.dtype = was->t.dtype;
}

/* cross: rotated rows, and unrotated keys, are computed. */
static void moved_dtypes(struct attn *now, const struct attn *was, bool cross, bool key,
                         bool key_bias, bool value)
{
    for (int i = cross; i < 2; i++) {
        same_dtype(now->q[i], was->q[0]);
        same_dtype(now->q_b[i], was->q_b[0]);
    }
    if (!cross) same_dtype(now->k, was->k);
    if (!cross) same_dtype(now->k_b, was->k_b);
    for (int s = 0; s < MODALITIES; s++) {
        if (!key) same_dtype(now->set[s].up_k, was->k);
        if (!value) same_dtype(now->set[s].up_v, was->v);
        if (!key_bias) same_dtype(now->set[s].up_k_b, was->k_b);
        same_dtype(now->set[s].up_v_b, was->v_b);
    }
}

static void set_dtypes(struct model *shape, const struct model *m)
{
    const struct kv_method_info *how =
        &kv_methods[shape->state == ATTN_MLA ? shape->method : KV_NONE];
    /* if so, convert/transform.c makes the keys of unrotated pairs fp32 */
    double f = model_rope_scale(&m->cfg.text);
    bool scaled = f < 1 || f > 1;
    int64_t k = 0;

    for (int64_t i = 0; i < shape->n_params; i++) { /* both lists have the same order */
        int64_t found = k;
        while (found < m->n_params && strcmp(m->params[found].name, shape->params[i].name) != 0)
            found++;
        if (found == m->n_params) continue;
        k = found;
        same_dtype(&shape->params[i], &m->params[found]);
    }
    if (shape->state == m->state) return; /* all have been found */
    for (int64_t l = 0; l < shape->cfg.text.num_hidden_layers; l++)
        moved_dtypes(&shape->layers[l].attn, &m->layers[l].attn, shape->cross,
                     how->key || scaled || shape->cross, scaled || shape->cross, how->value);
}

bool model_outline(struct model *shape, const struct model *m, const struct model_state *s,
                   unsigned kinds, struct err *e)
{
    *shape = (struct model){.cfg = m->cfg,
                            .layout = m->layout,
                            .state = s->state,
                            .method = s->method,
                            .decoupled = s->decoupled,
                            .cross = s->cross,
                            .rope_dim = s->state == ATTN_FULL ? m->rope_dim : s->rope_dim,
                            .latent = s->latent};
    hf_config_borrow(&shape->cfg);
    if (!model_set_latents(shape, s->latents, e) ||
        (s->rope_dims && !model_set_rope_dims(shape, s->rope_dims, e)) ||
        !params_declare(shape, e) || (s->state != ATTN_FULL && !any_pairs(shape, e))) {
        model_close(shape);
        return false;
    }
    for (int64_t i = 0; i < shape->n_params; i++)
        shape->params[i].t.needs_grad = kinds >> shape->params[i].kind & 1;
    set_dtypes(shape, m);
    return true;
}
