/* forward.c - the decoder as a graph: embeddings with the images' features spliced in, the layers
 * in each of the three states of attention, and the loss. Biases are left out here:
 *
 *     x = embed[ids]; in an image's rows W2 act(W1 features)       [T, d]
 * for each layer, with h = RMSNorm(x):
 *     q_r = rope(Wq_r h), q_c = Wq_c h                             [T, H*dr], [T, H*dc]
 *     FULL     k_r = rope(Wk h), v = Wv h                          [T, G*dh], [T, G*dh]
 *     PARTIAL  k_r = rope(Wk_r h), k_c = up_k h, v = up_v h        [T, K*dr], [T, G*dc], [T, G*dh]
 *     MLA      c = down^m h                                        [T, r]
 *              k_r as in PARTIAL, k_c = up_k^m c, v = up_v^m c
 *     (with f->held, k_r and c, or what there is without c, become what such a cache holds: held.c)
 *     o = softmax([q_r q_c] [k_r k_c]^T / sqrt(dh)) v              [T, H*dh]
 *     x = x + Wo o                                                 [T, d]
 *     x = x + Wdown (silu(Wgate h) * Wup h), h = RMSNorm(x)        [T, d]
 * and finally
 *     logits = Whead RMSNorm(x)                                    [n, V]
 *     loss = scale * sum of -log softmax(logits)[label]            [1, 1]
 *
 * T tokens, d hidden size, H heads, G kv heads, dh head size, dr rotated dims of a key and dc not
 * rotated (FULL: dr = dh, no q_c and k_c), K rotated keys: G, or 1 that all heads share (then
 * dc = dh), r latent width, m the modality of the row, V vocabulary, n rows
 * asked for. Attention is causal within each sample; query head h uses kv head h / (H/G).
 *
 * Nothing is computed that nobody reads: in the last layer only the rows with a label (or whose
 * logits are asked for) have a query, an o_proj and an MLP. */
#include "model/forward.h"
#include "model/family/family.h"
#include "model/forward_parts.h"

#include <math.h>
#include <stdlib.h>

struct tensor *build_table(struct model *m, struct tape *t, const struct batch *b,
                           const int64_t *length)
{
    bool by_length = m->cfg.text.rope_scaling.type == ROPE_DYNAMIC;
    int64_t pairs = m->cfg.text.head_dim / 2, sets = by_length ? b->samples : 1;
    float *inv_freq = tape_new_array(t, float, sets *pairs);
    int32_t *set = by_length ? tape_new_array(t, int32_t, b->tokens) : NULL;
    uint8_t *axis = m->cfg.text.axes > 1 ? tape_new_array(t, uint8_t, pairs) : NULL;

    CHECK(b->axes == m->cfg.text.axes);
    for (int64_t k = 0, p = 0; axis && k < 3; k++)
        for (int64_t end = p + m->cfg.text.mrope_section[k]; p < end; p++)
            axis[p] = (uint8_t)k;
    for (int64_t s = 0; s < b->samples; s++) /* checked before anything runs */
        CHECK(m->cfg.text.window == 0 || length[s] <= m->cfg.text.window);
    for (int64_t s = 0; s < sets; s++)
        model_inv_freq(&m->cfg.text, length[s], inv_freq + s * pairs);
    for (int64_t s = 0; by_length && s < sets; s++)
        for (int64_t i = b->begin[s]; i < b->begin[s + 1]; i++)
            set[i] = (int32_t)s;
    /* [T, dh]: cos, then sin */
    return op_rope_table(t, &(struct rope_table){.positions = b->positions,
                                                 .n = b->tokens,
                                                 .inv_freq = inv_freq,
                                                 .set = set,
                                                 .axis = axis,
                                                 .pairs = pairs,
                                                 .scale = model_rope_scale(&m->cfg.text)});
}

struct tensor *model_vision(struct model *m, struct tape *t, struct tensor *pixels,
                            const struct picture_shape *shapes, int64_t n)
{
    return m->cfg.family->features(m, t, pixels, shapes, n);
}

struct tensor *build_embeddings(struct model *m, struct tape *t, const struct forward *f)
{
    const struct batch *b = f->batch;
    int32_t *ids = tape_new_array(t, int32_t, b->tokens), *from;
    int64_t text = 0, image = 0;
    struct tensor *features = f->features;

    CHECK(!features == !b->image_tokens);
    /* row i of the result is row from[i] of x, or row -1 - from[i] of features */
    from = tape_new_array(t, int32_t, b->tokens);
    for (int64_t i = 0, p = 0; i < b->tokens; i++) {
        while (p < b->n_places && b->places[p].end <= i)
            p++;
        if (p < b->n_places && b->places[p].begin <= i) {
            from[i] = (int32_t)(-1 - image++);
        } else {
            from[i] = (int32_t)text;
            ids[text++] = b->ids[i];
        }
    }
    CHECK(text + image == b->tokens && image == b->image_tokens);
    /* [text, d], and below the images' rows, from the features' [rows, feature width]:
     * [image, d] */
    struct tensor *x = op_embedding(t, param_tensor(m->embed), ids, text, m->cfg.text.pad_row);
    if (!features) return x;
    /* [T, d] */
    return op_select_rows(t, x, m->cfg.family->project(m, t, f), from, b->tokens);
}

/* x through one of the factors: each row's modality's own, or the one that all share. x [T, in],
 * w[m] [out, in], bias[m] [1, out] or NULL: [T, out]. */
static struct tensor *by_modality(struct model *m, struct tape *t, const struct batch *b,
                                  struct tensor *x, struct param *const w[MODALITIES],
                                  struct param *const bias[MODALITIES])
{
    if (model_sets(m) == 1)
        return op_linear(t, x, param_tensor(w[TEXT]), param_tensor(bias[TEXT]), NULL);
    return op_modal_linear(t, x, (struct tensor *[]){param_tensor(w[TEXT]), param_tensor(w[IMAGE])},
                           (struct tensor *[]){param_tensor(bias[TEXT]), param_tensor(bias[IMAGE])},
                           b->spans, b->n_spans);
}

void build_latents(struct model *m, struct tape *t, const struct batch *b, struct attn *a,
                   struct tensor *x, struct tensor *latent[2])
{
    struct kv_set *s = a->set;

    /* i = 0 for keys, 1 for values: [T, r], or x [T, d] where that part is not compressed */
    for (int i = 0; i < 2; i++) {
        if (!s[TEXT].down[i])
            latent[i] = x;
        else if (i == 1 && s[TEXT].down[1] == s[TEXT].down[0])
            latent[1] = latent[0];
        else
            latent[i] =
                by_modality(m, t, b, x, (struct param *[]){s[TEXT].down[i], s[IMAGE].down[i]},
                            (struct param *[]){NULL, NULL});
    }
}

struct tensor *build_up(struct model *m, struct tape *t, const struct batch *b, struct attn *a,
                        struct tensor *latent, bool value)
{
    struct kv_set *s = a->set;

    /* [T, G*dh] for values, [T, G*dc] for keys */
    return value ? by_modality(m, t, b, latent, (struct param *[]){s[TEXT].up_v, s[IMAGE].up_v},
                               (struct param *[]){s[TEXT].up_v_b, s[IMAGE].up_v_b})
                 : by_modality(m, t, b, latent, (struct param *[]){s[TEXT].up_k, s[IMAGE].up_k},
                               (struct param *[]){s[TEXT].up_k_b, s[IMAGE].up_k_b});
}

void build_query(struct model *m, struct tape *t, int64_t l, struct tensor *x, struct tensor *table,
                 struct tensor *q[2])
{
    const struct text_config *c = &m->cfg.text;
    struct attn *a = &m->layers[l].attn;
    int64_t H = c->num_attention_heads, kept = model_rope_dim(m, l) / 2;

    /* [T, H*dr] and [T, H*dc]; FULL: [T, H*dh] and none */
    q[0] = op_rope(t, op_linear(t, x, param_tensor(a->q[0]), param_tensor(a->q_b[0]), NULL), table,
                   0, H, kept, m->q_pairs ? m->q_pairs + H * model_pairs_before(m, l) : NULL);
    q[1] = model_nope_dim(m) > 0
               ? op_linear(t, x, param_tensor(a->q[1]), param_tensor(a->q_b[1]), NULL)
               : NULL;
}

struct tensor *build_key(struct model *m, struct tape *t, int64_t l, struct tensor *x,
                         struct tensor *table)
{
    struct attn *a = &m->layers[l].attn;
    int64_t K = model_rope_keys(m), kept = model_rope_dim(m, l) / 2;

    /* [T, K*dr]; FULL: [T, G*dh] */
    return op_rope(t, op_linear(t, x, param_tensor(a->k), param_tensor(a->k_b), NULL), table, 0, K,
                   kept, m->pairs ? m->pairs + K * model_pairs_before(m, l) : NULL);
}

/* What the layers of one batch's graph share. */
struct build {
    const struct forward *f;
    struct tensor *table;             /* [T, dh]: cos, then sin */
    struct attention_sample *samples; /* [samples] */
    /* For the last layer: */
    const int32_t *rows; /* [n_rows] rows wanted; NULL: all */
    int64_t n_rows;
    struct attention_sample *row_samples; /* [samples]: their queries */
    int32_t *row_index;                   /* [n_rows]: position in its sample */
};

/* Leaves what layer l's attention is computed from to those who look at it. */
static void tap_attention(const struct forward *f, int64_t l, const struct attention *a)
{
    if (!f->taps || !f->taps->attention) return;
    f->taps->attention[l] = *a;
    for (int p = 0; p < a->parts; p++) {
        tape_keep(a->part[p].q);
        tape_keep(a->part[p].k);
    }
}

/* Layer l's unrotated keys [T, G*dc], unless there are none, and values [T, G*dh], from x [T, d].
 * What a cache holds of them are the latents, where there are any. */
static void compressed(struct model *m, struct tape *t, const struct forward *f, int64_t l,
                       struct tensor *x, struct attention *a)
{
    struct attn *w = &m->layers[l].attn;
    struct param *const *down = w->set[TEXT].down;
    struct tensor *latent[2];

    build_latents(m, t, f->batch, w, x, latent);
    const bool joint = latent[0] == latent[1];
    if (down[0]) latent[0] = build_held(m, t, f, l, CACHE_KEY, latent[0]);
    if (down[1]) latent[1] = joint ? latent[0] : build_held(m, t, f, l, CACHE_VALUE, latent[1]);
    if (a->parts > 1) {
        a->part[1].k = build_up(m, t, f->batch, w, latent[0], false);
        if (!down[0]) a->part[1].k = build_held(m, t, f, l, CACHE_KEY, a->part[1].k);
    }
    a->v = build_up(m, t, f->batch, w, latent[1], true);
    if (!down[1]) a->v = build_held(m, t, f, l, CACHE_VALUE, a->v);
}

/* Attention of layer l before o_proj. x [T, d], normalised: [T, H*dh], or
 * [n_rows, H*dh] with rows. */
static struct tensor *attention_layer(struct model *m, struct tape *t, const struct build *b,
                                      int64_t l, struct tensor *x, const int32_t *rows)
{
    const struct text_config *c = &m->cfg.text;
    struct attn *w = &m->layers[l].attn;
    const struct batch *batch = b->f->batch;
    struct tensor *xq = rows ? op_select_rows(t, x, NULL, rows, b->n_rows) : x; /* [n_rows, d] */
    struct tensor *tq = rows ? op_select_rows(t, b->table, NULL, rows, b->n_rows) : b->table;
    struct tensor *q[2];
    struct attention a = {.parts = 1,
                          .heads = c->num_attention_heads,
                          .groups = c->num_key_value_heads,
                          .v_width = c->head_dim,
                          .samples = rows ? b->row_samples : b->samples,
                          .n_samples = batch->samples,
                          .q_index = rows ? b->row_index : NULL,
                          .causal = true,
                          .scale = 1 / sqrt((double)c->head_dim)};

    build_query(m, t, l, xq, tq, q);
    a.part[0] = (struct attention_part){
        .q = q[0],
        .k = build_held(m, t, b->f, l, CACHE_ROPE, build_key(m, t, l, x, b->table)),
        .width = model_rope_dim(m, l)};
    if (m->cross && a.groups > 1) a.part[0].k = op_repeat(t, a.part[0].k, a.groups);
    if (m->state == ATTN_FULL) {
        a.v = op_linear(t, x, param_tensor(w->v), param_tensor(w->v_b), NULL); /* [T, G*dh] */
        a.v = build_held(m, t, b->f, l, CACHE_VALUE, a.v);
        tap_attention(b->f, l, &a);
        return op_attention(t, &a);
    }
    if (q[1]) {
        a.parts = 2;
        a.part[1] = (struct attention_part){.q = q[1], .width = model_nope_dim(m)};
    }
    compressed(m, t, b->f, l, x, &a);
    tap_attention(b->f, l, &a);
    return op_attention(t, &a);
}

/* x + Wdown (silu(Wgate h) * Wup h), h = RMSNorm(x): [T, d]; f is the MLP's width. */
struct tensor *build_mlp(struct model *m, struct tape *t, struct layer *w, struct tensor *x)
{
    struct tensor *h = op_rmsnorm(t, x, param_tensor(w->norm2), m->cfg.text.rms_norm_eps);

    h = op_swiglu(t, op_linear(t, h, param_tensor(w->gate), param_tensor(w->gate_b), NULL),
                  op_linear(t, h, param_tensor(w->up), param_tensor(w->up_b), NULL)); /* [T, f] */
    return op_linear(t, h, param_tensor(w->down), param_tensor(w->down_b), x);
}

/* Layer l's normalised input [T, d]; also fills the taps, with extra projections for q and k, as
 * they are rotated in place. */
static struct tensor *layer_input(struct model *m, struct tape *t, const struct forward *f,
                                  int64_t l, struct tensor *x)
{
    struct taps *taps = f->taps;
    struct attn *a = &m->layers[l].attn;
    struct tensor *h = op_rmsnorm(t, x, param_tensor(m->layers[l].norm1), m->cfg.text.rms_norm_eps);

    if (!taps) return h;
    if (taps->x) tape_keep(taps->x[l] = h);
    if (taps->q)
        tape_keep(taps->q[l] =
                      op_linear(t, h, param_tensor(a->q[0]), param_tensor(a->q_b[0]), NULL));
    if (taps->k)
        tape_keep(taps->k[l] = op_linear(t, h, param_tensor(a->k), param_tensor(a->k_b), NULL));
    return h;
}

/* x [T, d] through layer l's attention: x + Wo o [T, d], or [n_rows, d] in the last layer with rows
 * wanted. */
static struct tensor *attend(struct model *m, struct tape *t, const struct build *b, int64_t l,
                             struct tensor *x)
{
    struct taps *taps = b->f->taps;
    struct layer *w = &m->layers[l];
    const int32_t *rows = l == m->cfg.text.num_hidden_layers - 1 ? b->rows : NULL;
    struct tensor *h = layer_input(m, t, b->f, l, x);

    h = attention_layer(m, t, b, l, h, rows); /* [T, H*dh] */
    if (rows) x = op_select_rows(t, x, NULL, rows, b->n_rows);
    x = op_linear(t, h, param_tensor(w->attn.o), param_tensor(w->attn.o_b), x); /* [T, d] */
    if (taps && taps->a) {
        tape_keep(taps->a[l] = h);
        tape_keep(taps->mid[l] = x);
    }
    return x;
}

/* Assigns the wanted rows (ascending) to their samples, and finds their positions there. */
static void share_out_rows(struct tape *t, struct build *b)
{
    const struct batch *batch = b->f->batch;
    int64_t k = 0;

    b->row_samples = tape_new_array(t, struct attention_sample, batch->samples);
    b->row_index = tape_new_array(t, int32_t, b->n_rows);
    for (int64_t s = 0; s < batch->samples; s++) {
        struct attention_sample *a = &b->row_samples[s];
        *a = b->samples[s];
        a->q_begin = k;
        for (; k < b->n_rows && b->rows[k] < batch->begin[s + 1]; k++) {
            CHECK(b->rows[k] >= batch->begin[s]);
            b->row_index[k] = (int32_t)(b->rows[k] - batch->begin[s]);
        }
        a->q_end = k;
    }
    CHECK(k == b->n_rows);
}

/* Everything that precedes the layers. */
static struct build begin_build(struct model *m, struct tape *t, const struct forward *f,
                                const int32_t *rows, int64_t n_rows)
{
    const struct batch *batch = f->batch;
    struct build b = {.f = f, .rows = rows, .n_rows = n_rows};
    int64_t *length = tape_new_array(t, int64_t, batch->samples);

    b.samples = tape_new_array(t, struct attention_sample, batch->samples);
    for (int64_t s = 0; s < batch->samples; s++) {
        int64_t begin = batch->begin[s], end = batch->begin[s + 1];
        b.samples[s] = (struct attention_sample){begin, end, begin, end};
        length[s] = end - begin;
    }
    if (rows) share_out_rows(t, &b);
    b.table = build_table(m, t, batch, length);
    if (f->taps) tape_keep(f->taps->table = b.table);
    return b;
}

/* Layer l's output: [T, d], or [n_rows, d] of the last layer with rows wanted. */
static struct tensor *build_layer(struct model *m, struct tape *t, const struct build *b, int64_t l,
                                  struct tensor *x)
{
    return build_mlp(m, t, &m->layers[l], attend(m, t, b, l, x));
}

/* The last layer's output: [T, d], or [n_rows, d] if rows is not NULL. behind: NULL, or filled with
 * the outputs of all layers. */
static struct tensor *build_decoder(struct model *m, struct tape *t, const struct forward *f,
                                    const int32_t *rows, int64_t n_rows, struct tensor **behind)
{
    const struct build b = begin_build(m, t, f, rows, n_rows);
    struct tensor *x = build_embeddings(m, t, f);

    for (int64_t l = 0; l < m->cfg.text.num_hidden_layers; l++) {
        if (l < f->recompute) tape_segment_begin(t);
        x = build_layer(m, t, &b, l, x);
        if (l < f->recompute) tape_segment_end(t);
        if (behind) behind[l] = x;
    }
    return x;
}

struct tensor *model_embeddings(struct model *m, struct tape *t, const struct forward *f)
{
    struct tensor *x = build_embeddings(m, t, f);

    tape_keep(x);
    return x;
}

struct tensor *model_layer(struct model *m, struct tape *t, const struct forward *f, int64_t l,
                           struct tensor *x, bool only_taps)
{
    struct build b = begin_build(m, t, f, NULL, 0);

    CHECK(f->taps && x->rows == f->batch->tokens);
    if (only_taps) {
        f->taps->a || f->taps->attention ? attend(m, t, &b, l, x) : layer_input(m, t, f, l, x);
        return NULL;
    }
    x = build_layer(m, t, &b, l, x);
    tape_keep(x);
    return x;
}

struct tensor *model_head_loss(struct model *m, struct tape *t, const struct batch *b,
                               struct tensor *x, double scale)
{
    x = op_select_rows(t, x, NULL, b->label_rows, b->labels); /* [labels, d] */
    x = op_rmsnorm(t, x, param_tensor(m->norm), m->cfg.text.rms_norm_eps);
    return op_cross_entropy(t, x, param_tensor(m->head), b->label_ids, scale);
}

/* What lm_head takes at the batch's labels: [labels, d]; behind: as of build_decoder. */
static struct tensor *build_labelled(struct model *m, struct tape *t, const struct forward *f,
                                     struct tensor **behind)
{
    const struct batch *b = f->batch;

    return op_rmsnorm(t, build_decoder(m, t, f, b->label_rows, b->labels, behind),
                      param_tensor(m->norm), m->cfg.text.rms_norm_eps);
}

struct tensor *model_loss(struct model *m, struct tape *t, const struct forward *f, double scale)
{
    return op_cross_entropy(t, build_labelled(m, t, f, NULL), param_tensor(m->head),
                            f->batch->label_ids, scale);
}

struct tensor *model_distill(struct model *m, struct tape *t, const struct forward *f,
                             const struct distill *d)
{
    return op_distill(t, build_labelled(m, t, f, NULL), param_tensor(m->head), f->batch->label_ids,
                      d);
}

/* States of layer l, among those of all. */
static int64_t hidden_at(const struct model *m, const struct forward *f, int64_t l)
{
    return l * f->batch->tokens * m->cfg.text.hidden_size;
}

void model_hidden(struct model *m, struct tape *t, const struct forward *f, real *to)
{
    const struct build b = begin_build(m, t, f, NULL, 0);
    struct tensor *x = build_embeddings(m, t, f);

    for (int64_t l = 0; l < m->cfg.text.num_hidden_layers - 1; l++) {
        x = build_layer(m, t, &b, l, x);
        op_rows_out(t, x, to ? to + hidden_at(m, f, l) : NULL); /* now: the tape need not keep it */
    }
}

struct tensor *model_hidden_loss(struct model *m, struct tape *t, const struct forward *f,
                                 double scale, const struct hidden *h)
{
    const int64_t n = m->cfg.text.num_hidden_layers;
    struct tensor **behind = tape_new_array(t, struct tensor *, n);
    struct tensor *loss = op_cross_entropy(t, build_labelled(m, t, f, behind),
                                           param_tensor(m->head), f->batch->label_ids, scale);

    for (int64_t l = 0; l < n - 1; l++)
        loss = op_row_distance(
            t, behind[l], loss,
            &(struct row_distance){.to = h->to ? h->to + hidden_at(m, f, l) : NULL,
                                   .keep = l ? 1 : 1 - h->weight,
                                   .weight = h->weight,
                                   .scale = h->scale / (double)(n - 1),
                                   .term = h->terms ? &h->terms->distill : NULL,
                                   .before = h->terms && l == 0 ? &h->terms->ce : NULL});
    return loss;
}

struct tensor *model_top_logits(struct model *m, struct tape *t, const struct forward *f,
                                const struct top_logits *to)
{
    return op_top_logits(t, build_labelled(m, t, f, NULL), param_tensor(m->head), to);
}

struct tensor *model_logits(struct model *m, struct tape *t, const struct forward *f,
                            const int32_t *rows, int64_t n)
{
    struct tensor *x = build_decoder(m, t, f, rows, n, NULL); /* [n, d] */

    x = op_linear(t, op_rmsnorm(t, x, param_tensor(m->norm), m->cfg.text.rms_norm_eps),
                  param_tensor(m->head), NULL, NULL);
    tape_keep(x);
    return x;
}
