/* transform.c - FULL -> PARTIAL -> MLA: the same model with its attention parameters split up.
 * Nothing is approximated here: rows are moved (with yarn, those of unrotated keys are also
 * scaled), and factors computed elsewhere in convert/ are put in place. */
#include "convert/transform.h"
#include "base/mem.h"
#include "convert/rank.h"
#include "convert/transform_parts.h"
#include "model/params.h"

#include <stdlib.h>
#include <string.h>

void take_over(struct param *to, struct param *from)
{
    to->t.data = from->t.data;
    to->t.dtype = from->t.dtype;
    to->own = from->own;
    from->own = NULL;
}

bool redeclare(struct model *m, struct old *old, struct err *e)
{
    *old = (struct old){m->params, m->n_params, m->layers, m->tower};
    m->params = NULL;
    m->layers = NULL;
    m->tower = NULL;
    m->n_params = 0;
    if (!params_declare(m, e)) return false;
    int64_t k = 0;
    for (int64_t i = 0; i < m->n_params; i++) { /* both lists have the same order */
        struct param *p = &m->params[i];
        int64_t found = k;
        while (found < old->n && (strcmp(old->params[found].name, p->name) != 0 ||
                                  old->params[found].row0 != p->row0 ||
                                  tensor_count(&old->params[found].t) != tensor_count(&p->t)))
            found++;
        if (found == old->n) continue;
        take_over(p, &old->params[found]);
        k = found + 1;
    }
    return true;
}

void old_free(struct old *old)
{
    params_free(old->params, old->n);
    free(old->layers);
    free(old->tower);
}

/* Gives p memory and fills its rows (a vector's elements) with rows order[] of `from`, keeping
 * its dtype. If p already has memory, it took over that of `from`: every pair is kept, so the
 * order is unchanged. */
static bool gather(struct param *p, const struct param *from, const int64_t *order, struct err *e)
{
    int64_t rows = p->ndim == 1 ? p->t.cols : p->t.rows, width = p->ndim == 1 ? 1 : p->t.cols;

    if (p->t.data) return true;
    if (!param_alloc(p, from->t.dtype, e)) return false;
    size_t bytes = (size_t)width * dtype_size(from->t.dtype);
    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)p->own + (size_t)i * bytes,
               (const char *)from->t.data + (size_t)order[i] * bytes, bytes);
    return true;
}

bool keep_scale(const struct model *m, struct param *p, struct err *e)
{
    double f = model_rope_scale(&m->cfg.text);

    if (f * f <= 1 && f * f >= 1) return true;
    if (!param_own(p, e)) return false;
    for (int64_t i = 0; i < tensor_count(&p->t); i++)
        tensor_real(&p->t)[i] = (real)((double)tensor_real(&p->t)[i] * f * f);
    return true;
}

/* FULL to PARTIAL: q_proj [H*dh, d] to its rotated rows [H*dr, d] and the others [H*dc, d],
 * k_proj [G*dh, d] to k_r_proj [G*dr, d] and up_k [G*dc, d]; up_v is v_proj [G*dh, d]. order
 * [H*dh] is scratch. */
static bool split_layer(struct model *m, struct attn *now, const struct attn *was,
                        const int32_t *pairs, int64_t *order, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    int64_t H = c->num_attention_heads, G = c->num_key_value_heads, dh = c->head_dim;
    struct kv_set *set = &now->set[TEXT];
    int64_t cut = H * m->rope_dim;

    rank_rows(order, pairs, H, G, dh, m->rope_dim);
    for (int i = 0; i < 2; i++) {
        if (!gather(now->q[i], was->q[0], order + (i ? cut : 0), e)) return false;
        if (was->q_b[0] && !gather(now->q_b[i], was->q_b[0], order + (i ? cut : 0), e))
            return false;
    }
    cut = G * m->rope_dim;
    rank_rows(order, pairs, G, G, dh, m->rope_dim);
    if (!gather(now->k, was->k, order, e) || !gather(set->up_k, was->k, order + cut, e) ||
        !keep_scale(m, set->up_k, e))
        return false;
    if (was->k_b &&
        (!gather(now->k_b, was->k_b, order, e) || !gather(set->up_k_b, was->k_b, order + cut, e) ||
         !keep_scale(m, set->up_k_b, e)))
        return false;
    take_over(set->up_v, was->v);
    if (was->v_b) take_over(set->up_v_b, was->v_b);
    return true;
}

bool model_to_partial(struct model *m, const int32_t *pairs, int64_t rope_dim, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    int64_t L = c->num_hidden_layers, per_layer = c->num_key_value_heads * rope_dim / 2;
    struct old old = {0};
    int64_t *order;
    bool ok = true;

    CHECK(m->state == ATTN_FULL && rope_dim % 2 == 0 && 0 < rope_dim && rope_dim <= c->head_dim);
    m->pairs = mem_new((size_t)(L * per_layer), sizeof *m->pairs, "the kept RoPE pairs", e);
    order = mem_new((size_t)(c->num_attention_heads * c->head_dim), sizeof *order, "row order", e);
    if (!m->pairs || !order) {
        free(order);
        return false;
    }
    memcpy(m->pairs, pairs, (size_t)(L * per_layer) * sizeof *pairs);
    m->state = ATTN_PARTIAL;
    m->rope_dim = rope_dim;
    ok = model_set_query_pairs(m, e) && redeclare(m, &old, e);
    for (int64_t l = 0; ok && l < L; l++)
        ok = split_layer(m, &m->layers[l].attn, &old.layers[l].attn, pairs + l * per_layer, order,
                         e);
    old_free(&old);
    free(order);
    return ok;
}

/* put and copy_of may meet a p that took over memory because its name and size did not change. */
static bool put(struct param *p, const float *values, int64_t ld, struct err *e)
{
    int64_t cols = p->t.cols;

    CHECK(ld >= cols);
    free(p->own);
    if (!param_alloc(p, DT_F32, e)) return false;
    for (int64_t i = 0; i < p->t.rows; i++)
        memcpy((float *)p->own + i * cols, values + i * ld, (size_t)cols * sizeof *values);
    return true;
}

static bool copy_of(struct param *p, const struct param *from, struct err *e)
{
    if (p->t.data) return true;
    if (!param_alloc(p, from->t.dtype, e)) return false;
    memcpy(p->own, from->t.data, (size_t)tensor_count(&from->t) * dtype_size(from->t.dtype));
    return true;
}

static void drop(struct param *p)
{
    free(p->own);
    p->own = NULL;
}

static bool fill_set(struct kv_set *now, const struct kv_set *was, const struct kv_method_info *how,
                     const struct factors *f, struct err *e)
{
    int64_t d = how->key ? now->down[0]->t.cols : how->value ? now->down[1]->t.cols : 0;

    if (how->key && !put(now->down[0], f->down[0], d, e)) return false;
    if (how->value && !how->joint && !put(now->down[1], f->down[1], d, e)) return false;
    if (!(how->key ? put(now->up_k, f->up_k, f->ld, e) : copy_of(now->up_k, was->up_k, e)))
        return false;
    if (!(how->value ? put(now->up_v, f->up_v, f->ld, e) : copy_of(now->up_v, was->up_v, e)))
        return false;
    if (!was->up_k_b) return true;
    return copy_of(now->up_k_b, was->up_k_b, e) && copy_of(now->up_v_b, was->up_v_b, e);
}

/* Frees what a layer was made from, so that all layers never exist twice at the same time. */
static bool fill_layer(struct model *m, const struct old *old, int64_t l, const struct to_mla *to,
                       struct err *e)
{
    struct kv_set *was = &old->layers[l].attn.set[TEXT];
    bool ok = true;

    for (int s = 0; ok && s < model_sets(m); s++)
        ok = fill_set(&m->layers[l].attn.set[s], was, &kv_methods[to->method], &to->factors[l][s],
                      e);
    drop(was->up_k);
    drop(was->up_v);
    if (to->used) to->used(to->arg, l);
    return ok;
}

bool model_to_mla(struct model *m, const struct to_mla *to, struct err *e)
{
    struct old old = {0};
    bool ok;

    CHECK(m->state == ATTN_PARTIAL && to->latent > 0);
    m->state = ATTN_MLA;
    m->method = to->method;
    m->decoupled = to->decoupled;
    m->latent = to->latent;
    ok = model_set_latents(m, to->latents, e) && redeclare(m, &old, e);
    for (int64_t l = 0; ok && l < m->cfg.text.num_hidden_layers; l++)
        ok = fill_layer(m, &old, l, to, e);
    old_free(&old);
    return ok;
}
