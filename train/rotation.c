/* rotation.c - see rotation.h. The original is walked layer by layer; unrotated queries and keys
 * are the partial model's, on the original's hidden states. */
#include "train/rotation.h"
#include "autograd/gemm.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "cluster/cluster.h"
#include "convert/rotation.h"
#include "train/layerwise.h"
#include "train/models.h"
#include "train/ranking.h"
#include "train/recipes.h"

#include <stdlib.h>
#include <string.h>

struct rotating {
    struct run *r;
    struct model *m; /* PARTIAL */
    int64_t layer;
    struct rotation rotation; /* of the layer */
    int32_t *pair;            /* [G, dc/2] */
    struct rank_table table;
    float *wq, *wk, *q, *k; /* [H*dc, d], [G*dc, d] of the layer; [T, H*dc], [T, G*dc] */
    size_t cap_q, cap_k;
};

static struct rotation_dims dims_of(const struct model *m)
{
    const struct text_config *c = &m->cfg.text;

    return (struct rotation_dims){c->num_attention_heads, c->num_key_value_heads, c->head_dim,
                                  model_nope_dim(m), model_rope_scale(c)};
}

/* Frequencies of the layer's unrotated pairs: all, or those that a head does not keep. */
static void list_pairs(struct rotating *k)
{
    const struct model *m = k->m;
    const int64_t G = k->rotation.n.G, P = k->rotation.n.dh / 2, kept = m->rope_dim / 2;
    int32_t *to = k->pair;

    for (int64_t g = 0; g < G; g++) {
        const int32_t *own = m->pairs + (k->layer * G + g) * kept;
        int64_t at = 0;
        for (int32_t i = 0; i < P; i++) {
            if (!m->cross && at < kept && own[at] == i)
                at++;
            else
                *to++ = i;
        }
    }
}

static bool open_rotating(struct rotating *k, struct err *e)
{
    const struct rotation_dims n = dims_of(k->m);
    const size_t d = (size_t)k->m->cfg.text.hidden_size, dc = (size_t)n.dc;

    k->pair = mem_new((size_t)n.G, dc / 2 * sizeof *k->pair, "rotation", e);
    k->wq = mem_new((size_t)n.H * dc, d * sizeof *k->wq, "rotation", e);
    k->wk = mem_new((size_t)n.G * dc, d * sizeof *k->wk, "rotation", e);
    return k->pair && k->wq && k->wk;
}

static void close_rotating(struct rotating *k)
{
    rotation_free(&k->rotation);
    rank_table_free(&k->table);
    free(k->pair);
    free(k->wq);
    free(k->wk);
    free(k->q);
    free(k->k);
}

double rotation_size(const struct model *m, int64_t T)
{
    const struct rotation_dims n = dims_of(m);
    const double rows = (double)((n.H + n.G) * n.dc), d = (double)m->cfg.text.hidden_size;
    const double all = (double)(m->cfg.text.num_hidden_layers * n.H * n.dc);

    return rotation_bytes(&n, T) + 4 * rows * (d + (double)T) + 8 * all;
}

/* y [T, rows] = x w^T + bias. */
static bool project(const struct layer_look *look, const struct param *p, const struct param *bias,
                    const float *w, float **y, size_t *cap, struct err *e)
{
    const int64_t T = look->batch->tokens, rows = p->t.rows, d = p->t.cols;

    if (!mem_grow(y, cap, (size_t)(T * rows), sizeof **y, e)) return false;
    gemm_real(T, rows, d, mat_of(look->x, d, false), mat_of(w, d, true), false, *y, rows);
    for (int64_t j = 0; bias && j < rows; j++) {
        float b;
        tensor_to_real(&bias->t, j, 1, &b);
        for (int64_t t = 0; t < T; t++)
            (*y)[t * rows + j] += b;
    }
    return true;
}

static bool look_at(void *arg, const struct layer_look *look, struct err *e)
{
    struct rotating *k = arg;
    const struct rotation_dims *n = &k->rotation.n;
    const struct attn *a = &k->m->layers[k->layer].attn;
    const struct attention_part *full = &look->attention->part[0];
    const int64_t P = n->dh / 2, T = look->batch->tokens;
    bool ok = rank_table_fill(&k->table, look->table, e) &&
              project(look, a->q[1], a->q_b[1], k->wq, &k->q, &k->cap_q, e) &&
              project(look, a->set[TEXT].up_k, a->set[TEXT].up_k_b, k->wk, &k->k, &k->cap_k, e);

    for (int64_t s = 0; ok && s < look->batch->samples; s++) {
        const int64_t at = look->batch->begin[s];
        const struct rotation_sample x = {.q = k->q + at * n->H * n->dc,
                                          .k = k->k + at * n->G * n->dc,
                                          .pair = k->pair,
                                          .full_q = tensor_real(full->q) + at * n->H * n->dh,
                                          .full_k = tensor_real(full->k) + at * n->G * n->dh,
                                          .cos = k->table.cs + at * P,
                                          .sin = k->table.cs + (T + at) * P,
                                          .modality = look->modality + at,
                                          .T = look->batch->begin[s + 1] - at};
        ok = rotation_see(&k->rotation, &x, k->r->c.rank.max_queries, e);
    }
    return ok;
}

/* turn [H, dc/2, 2] of the next layer. */
static bool measure_layer(struct rotating *k, struct layerwise *w, double *turn, struct err *e)
{
    const struct rotation_dims n = dims_of(k->m);
    const struct attn *a = &k->m->layers[k->layer].attn;
    bool ok = rotation_init(&k->rotation, &n, e);

    if (ok) {
        list_pairs(k);
        tensor_to_real(&a->q[1]->t, 0, tensor_count(&a->q[1]->t), k->wq);
        tensor_to_real(&a->set[TEXT].up_k->t, 0, tensor_count(&a->set[TEXT].up_k->t), k->wk);
        ok = layerwise_next(w, "rotation", look_at, k, e);
    }
    ok = cluster_agree(ok, e) && cluster_sum(k->rotation.sums, rotation_sums(&n), e) &&
         rotation_solve(&k->rotation, turn, e);
    rotation_free(&k->rotation);
    return layerwise_done(ok, "rotation", k->layer, e);
}

static bool measure(struct run *r, struct model *m, struct err *e)
{
    const int64_t layers = m->cfg.text.num_hidden_layers;
    const struct rotation_dims n = dims_of(m);
    struct rotating k = {.r = r, .m = m};
    struct layerwise w = {0};
    struct model base = {0};
    bool ok;

    rotation_forget(r);
    r->rotation = mem_new((size_t)layers, (size_t)(n.H * n.dc) * sizeof(double), "rotation", e);
    ok = cluster_agree(r->rotation && open_rotating(&k, e) && open_base_model(r, &base, e), e) &&
         layerwise_open(&w, r, &base, r->c.rank.samples, LOOK_X | LOOK_ATTENTION, e);
    for (; ok && k.layer < layers; k.layer++)
        ok = measure_layer(&k, &w, r->rotation + k.layer * n.H * n.dc, e);
    if (ok) {
        log_line("rank: a constant rotation of what rope_dim %lld leaves, over %lld sample%s",
                 (long long)m->rope_dim, (long long)w.all_samples, plural(w.all_samples));
        r->rotation_dim = m->rope_dim;
        r->rotation_recipe = recipes_taken(&r->c);
    }
    layerwise_close(&w);
    close_rotating(&k);
    model_close(&base);
    return ok;
}

void rotation_forget(struct run *r)
{
    free(r->rotation);
    r->rotation = NULL;
}

bool rotation_apply(struct run *r, struct model *m, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const struct rotation_dims n = dims_of(m);
    bool ok = true;

    /* in a cross-head basis, whose unrotated keys are whole heads, they may be nothing but zeros */
    if (n.dc == 0 || (m->cross && m->rope_dim == n.G * n.dh)) return true;
    if (!(r->rotation && r->rotation_dim == m->rope_dim &&
          r->rotation_recipe == recipes_taken(&r->c)) &&
        !measure(r, m, e))
        return false;
    for (int64_t l = 0; ok && l < c->num_hidden_layers; l++) {
        struct attn *a = &m->layers[l].attn;
        ok = rotation_fold(r->rotation + l * n.H * n.dc, &n, a->q[1], a->q_b[1], e);
    }
    return ok;
}
