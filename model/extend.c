/* extend.c - the decoder over a KV cache: appends new tokens, which attend to everything in it.
 *
 * Where the cache holds latents, attention runs absorbed: keys and values are never formed. A query
 * of head h (kv head g) scores key j, of modality m and latent c_j [r], as
 *     sqrt(dh) s_j = q_r . k_r[j] + q_c . (up_k^m_g c_j + b_k^m)
 *                  = q_r . k_r[j] + (q_c up_k^m_g) . c_j + q_c . b_k^m
 * and with p = softmax(s) the head's output is
 *     o = sum over j of p_j (up_v^m_g c_j + b_v^m)
 *       = sum over m of [up_v^m_g (sum over j in m of p_j c_j) + (sum over j in m of p_j) b_v^m]
 * where up_k_g [dc, r] and up_v_g [dh, r] are the rows of kv head g. So with factors per
 * modality a query exists once per modality of key, and the weighted sums of latents are kept
 * separate by modality.
 *
 * Letters as in forward.c; T are the new tokens, R = sequences * capacity the cache's rows. */
#include "model/evict.h"
#include "model/forward.h"
#include "model/forward_parts.h"

#include <math.h>

/* What the layers of one batch's graph share. */
struct build {
    const struct forward *f;
    struct tensor *table;              /* [T, dh]: cos, then sin */
    const int32_t *rows;               /* [T]: cache row of each new token */
    const struct cached_sequence *seq; /* [samples] */
};

/* Appends x [T, width] to layer l's cache of one kind of row, and returns that
 * cache: [R, width]. */
static struct tensor *store(struct tape *t, const struct build *b, enum cache_row row, int64_t l,
                            struct tensor *x)
{
    struct kv_cache *c = b->f->cache;
    const struct row_form *form = c->how ? c->how->kind.form[row] : NULL;
    const struct cache_store to = {.data = c->data[row] + kv_cache_at(c, l, row),
                                   .rows = c->sequences * c->capacity,
                                   .capacity = c->capacity,
                                   .form = form && form->pack ? form : NULL,
                                   .fault = &c->fault,
                                   .place = l * CACHE_ROWS + row};

    return op_cache_write(t, x, &to, b->rows);
}

/* What attention reads of the newest tokens' rows x, if not what is cached of them; else NULL. */
static struct tensor *fresh(const struct build *b, enum cache_row row, struct tensor *x)
{
    const struct cache_how *how = b->f->cache->how;

    return how && how->kind.exact && how->kind.form[row]->pack ? x : NULL;
}

/* How the latent of layer l that is cached as `row` is rotated; NULL: not at all. */
static const struct latent_turn *turn_of(const struct build *b, int64_t l, enum cache_row row)
{
    const struct cache_how *how = b->f->cache->how;
    const struct latent_turn *turn =
        how && how->turn ? &how->turn[l][row == CACHE_VALUE ? 1 : 0] : NULL;

    return turn && turn->block ? turn : NULL;
}

/* A latent [T, r] of layer l as it is cached. */
static struct tensor *turn_latent(struct model *m, struct tape *t, const struct build *b,
                                  const struct latent_turn *turn, struct tensor *x)
{
    const struct batch *batch = b->f->batch;
    const bool apart = model_sets(m) > 1;

    if (!turn) return x;
    return op_hadamard(t, x,
                       &(struct hadamard){.heads = 1,
                                          .width = x->cols,
                                          .block = turn->block,
                                          .by = {turn->by[TEXT], turn->by[IMAGE]},
                                          .spans = apart ? batch->spans : NULL,
                                          .n_spans = apart ? batch->n_spans : 0});
}

/* Queries [T, H*r] to latents that are so cached, with the factors of set s; `back`: sums of those
 * latents, columns [col, col + H*r) of x, as what they would be of latents that are not. */
static struct tensor *turn_heads(struct tape *t, const struct latent_turn *turn, int64_t s,
                                 struct tensor *x, const struct hadamard *which)
{
    struct hadamard h = *which;

    h.block = turn->block;
    h.by[TEXT] = turn->back[s];
    return op_hadamard(t, x, &h);
}

static void store_keys(struct tape *t, const struct build *b, enum cache_row row, int64_t l,
                       struct tensor *k, struct cached_part *p)
{
    p->k = store(t, b, row, l, k);
    p->fresh = fresh(b, row, k);
}

static void store_values(struct tape *t, const struct build *b, int64_t l, struct tensor *v,
                         struct cached_attention *a)
{
    a->v = store(t, b, CACHE_VALUE, l, v);
    a->v_fresh = fresh(b, CACHE_VALUE, v);
}

/* A bias [1, n] viewed as a projection [n, 1]. */
static struct tensor *column(struct tape *t, const struct param *bias)
{
    struct tensor *view = tape_alloc(t, sizeof *view);

    *view = tensor_leaf(bias->t.dtype, bias->t.cols, 1, bias->t.data);
    return view;
}

/* The unrotated query q [T, H*dc] in the form that the cache needs: as it is for keys [R, G*dc], or
 * absorbed, [T, H*r] per set, for latents [R, r]. A key bias adds the same to all scores of a query
 * and cancels, unless each modality has its own: then [T, H] per set. */
static void absorb_query(struct model *m, struct tape *t, const struct build *b, int64_t l,
                         struct tensor *q, struct cached_attention *a)
{
    const struct latent_turn *turn = turn_of(b, l, CACHE_KEY);
    struct attn *w = &m->layers[l].attn;
    const struct text_config *c = &m->cfg.text;
    int64_t H = c->num_attention_heads, G = c->num_key_value_heads;
    struct cached_part *p = &a->part[1];

    if (!w->set[TEXT].down[0]) {
        p->q[TEXT] = q;
        p->k_groups = G;
        p->width = model_nope_dim(m);
        return;
    }
    p->k_groups = 1;
    p->width = w->set[TEXT].down[0]->t.rows;
    for (int64_t s = 0; s < model_sets(m); s++) {
        p->q[s] = op_head_linear(t, q, 0, param_tensor(w->set[s].up_k), H, G, false);
        if (turn)
            p->q[s] =
                turn_heads(t, turn, s, p->q[s], &(struct hadamard){.heads = H, .width = p->width});
        if (w->set[s].up_k_b && model_sets(m) > 1)
            a->key_bias[s] = op_head_linear(t, q, 0, column(t, w->set[s].up_k_b), H, G, false);
    }
}

/* From weighted sums of latents to the heads' outputs: o [T, sets*H*r], followed by [T, sets*H]
 * total weights if there are biases; result [T, H*dh]. */
static struct tensor *absorb_output(struct model *m, struct tape *t, struct attn *w,
                                    const struct latent_turn *turn, struct tensor *o)
{
    const struct text_config *c = &m->cfg.text;
    int64_t H = c->num_attention_heads, G = c->num_key_value_heads, sets = model_sets(m);
    int64_t r = w->set[TEXT].down[1]->t.rows;
    struct tensor *y = NULL;

    for (int64_t s = 0; s < sets; s++) {
        const struct kv_set *set = &w->set[s];
        /* [T, H*dh], like each bias's share */
        struct tensor *sum =
            turn ? turn_heads(
                       t, turn, s, o,
                       &(struct hadamard){.x_col = s * H * r, .heads = H, .width = r, .back = true})
                 : o;
        struct tensor *add =
            op_head_linear(t, sum, turn ? 0 : s * H * r, param_tensor(set->up_v), H, G, true);
        y = y ? op_add(t, y, add) : add;
        if (!set->up_v_b) continue;
        add = op_head_linear(t, o, sets * H * r + s * H, column(t, set->up_v_b), H, G, true);
        y = op_add(t, y, add);
    }
    return y;
}

/* Attention of layer l whose values come from `latent` [T, r]: [T, H*dh]. */
static struct tensor *attend_latents(struct model *m, struct tape *t, const struct build *b,
                                     int64_t l, struct tensor *latent, struct cached_attention *a)
{
    struct attn *w = &m->layers[l].attn;
    const bool joint = kv_methods[m->method].joint;
    const struct latent_turn *turn = turn_of(b, l, joint ? CACHE_KEY : CACHE_VALUE);

    if (joint) {
        a->v = a->part[1].k;
        a->v_fresh = a->part[1].fresh;
    } else {
        store_values(t, b, l, turn_latent(m, t, b, turn, latent), a);
    }
    a->v_groups = 1;
    a->v_width = w->set[TEXT].down[1]->t.rows;
    a->split_modalities = model_sets(m) > 1;
    a->weights = w->set[TEXT].up_v_b;
    return absorb_output(m, t, w, turn, op_cached_attention(t, a));
}

/* Attention of layer l before o_proj: x [T, d], normalised, over the whole cache: [T, H*dh]. */
static struct tensor *attention_layer(struct model *m, struct tape *t, const struct build *b,
                                      int64_t l, struct tensor *x)
{
    const struct text_config *c = &m->cfg.text;
    const struct batch *batch = b->f->batch;
    struct attn *w = &m->layers[l].attn;
    int64_t G = c->num_key_value_heads;
    struct tensor *q[2], *latent[2];
    struct cached_attention a = {.parts = 1,
                                 .heads = c->num_attention_heads,
                                 .v_groups = G,
                                 .v_width = c->head_dim,
                                 .seq = b->seq,
                                 .n_seq = batch->samples,
                                 .capacity = b->f->cache->capacity,
                                 .scale = 1 / sqrt((double)c->head_dim)};

    build_query(m, t, l, x, b->table, q);
    a.part[0] = (struct cached_part){
        .q[TEXT] = q[0], .width = model_rope_dim(m, l), .k_groups = model_rope_keys(m)};
    store_keys(t, b, CACHE_ROPE, l, build_key(m, t, l, x, b->table), &a.part[0]);
    if (m->state == ATTN_FULL) {
        store_values(t, b, l, op_linear(t, x, param_tensor(w->v), param_tensor(w->v_b), NULL), &a);
        evict_watch(b->f->cache, l, &a);
        return op_cached_attention(t, &a);
    }
    build_latents(m, t, batch, w, x, latent);
    bool key_latent = w->set[TEXT].down[0], value_latent = w->set[TEXT].down[1];
    struct tensor *key =
        key_latent ? turn_latent(m, t, b, turn_of(b, l, CACHE_KEY), latent[0]) : NULL;
    if (q[1]) {
        a.parts = 2;
        absorb_query(m, t, b, l, q[1], &a);
        if (!key) key = build_up(m, t, batch, w, latent[0], false);
    }
    if (key) /* if every pair is rotated, only values use the latent */
        store_keys(t, b, CACHE_KEY, l, key, &a.part[1]);
    if (!value_latent) {
        store_values(t, b, l, build_up(m, t, batch, w, latent[1], true), &a);
        return op_cached_attention(t, &a);
    }
    return attend_latents(m, t, b, l, latent[1], &a);
}

/* Where the batch's tokens go in the cache, and which of its rows each sample sees. */
static void place_rows(struct tape *t, struct build *b)
{
    const struct batch *batch = b->f->batch;
    const int64_t *seq = b->f->seq;
    const struct kv_cache *c = b->f->cache;
    int32_t *rows = tape_new_array(t, int32_t, batch->tokens);
    struct cached_sequence *s = tape_new_array(t, struct cached_sequence, batch->samples);

    for (int64_t i = 0; i < batch->samples; i++) {
        int64_t n = batch->begin[i + 1] - batch->begin[i], base = seq[i] * c->capacity;
        int64_t before = c->length[seq[i]] - n; /* kv_cache_add has counted the batch's tokens */
        s[i] = (struct cached_sequence){.q_begin = batch->begin[i],
                                        .q_end = batch->begin[i + 1],
                                        .k_begin = base,
                                        .position = before,
                                        .spans = c->spans[seq[i]],
                                        .n_spans = c->n_spans[seq[i]]};
        for (int64_t k = 0; k < n; k++)
            rows[batch->begin[i] + k] = (int32_t)(base + before + k);
    }
    b->rows = rows;
    b->seq = s;
}

/* Appends the batch and returns the normalised output of the last layer for n of its rows:
 * [n, d]. */
static struct tensor *extend(struct model *m, struct tape *t, const struct forward *f,
                             const int32_t *rows, int64_t n, struct err *e)
{
    const struct batch *batch = f->batch;
    const double eps = m->cfg.text.rms_norm_eps;
    struct build b = {.f = f};
    int64_t *length = tape_new_array(t, int64_t, batch->samples);

    if (!kv_cache_add(f->cache, batch, f->seq, e)) return NULL;
    place_rows(t, &b);
    for (int64_t i = 0; i < batch->samples; i++)
        length[i] = kv_cache_given(f->cache, f->seq[i]);
    struct tensor *x = build_embeddings(m, t, f); /* [T, d] */
    b.table = build_table(m, t, batch, length);   /* [T, dh] */
    for (int64_t l = 0; l < m->cfg.text.num_hidden_layers; l++) {
        struct layer *w = &m->layers[l];
        struct tensor *h =
            attention_layer(m, t, &b, l, op_rmsnorm(t, x, param_tensor(w->norm1), eps));
        if (l == m->cfg.text.num_hidden_layers - 1) { /* only the wanted rows go on */
            h = op_select_rows(t, h, NULL, rows, n);
            x = op_select_rows(t, x, NULL, rows, n);
        }
        x = build_mlp(m, t, w,
                      op_linear(t, h, param_tensor(w->attn.o), param_tensor(w->attn.o_b), x));
    }
    return op_rmsnorm(t, x, param_tensor(m->norm), eps); /* [n, d] */
}

struct tensor *model_extend(struct model *m, struct tape *t, const struct forward *f, struct err *e)
{
    int64_t n = f->batch->samples;
    int32_t *last = tape_new_array(t, int32_t, n);
    struct tensor *x;

    for (int64_t i = 0; i < n; i++)
        last[i] = (int32_t)f->batch->begin[i + 1] - 1;
    x = extend(m, t, f, last, n, e);
    if (!x) return NULL;
    x = op_linear(t, x, param_tensor(m->head), NULL, NULL); /* [samples, V] */
    tape_keep(x);
    return x;
}

struct tensor *model_extend_scores(struct model *m, struct tape *t, const struct forward *f,
                                   struct token_score *each, struct err *e)
{
    const struct batch *b = f->batch;
    struct tensor *x = extend(m, t, f, b->label_rows, b->labels, e);

    return x ? op_token_scores(t, x, param_tensor(m->head), b->label_ids, each) : NULL;
}
