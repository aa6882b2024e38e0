/* qwen_tower.c - vision towers with a 2-D RoPE, for patches of pictures of any size; and the merger
 * after them. What a family has its own way is in struct qwen_kind and in its settings.
 *
 *     x = Wp patches                                                    [N, D]
 * for each block, with h = norm(x):
 *     o = softmax(rope(Wq h) rope(Wk h)^T / sqrt(dh)) Wv h              [N, H*dh]
 *     x = x + Wo o                                                      [N, D]
 *     x = x + Wdown (silu(Wgate h) * Wup h), h = norm(x)                [N, D]
 *  or x = x + Wdown act(Wup h)                                          without a gate
 * and the merger joins the m^2 patches of each cell:
 *     y = W2 gelu(W1 join(norm(x)))                                     [N/m^2, out_hidden_size]
 *
 * N patches of all pictures, D = H*dh width, m spatial_merge_size. norm is RMSNorm or LayerNorm;
 * attention covers a picture, or with a window_size in some blocks a window. Pair (i, i + dh/2) of
 * a head turns by row * f_i if i < dh/4, otherwise by column * f_(i - dh/4), f_j =
 * 10000^(-4j/dh). All linear layers but the patches' have biases, left out here; norms have
 * eps 1e-6 whatever the config says. */
#include "model/family/qwen_tower.h"
#include "base/hash.h"
#include "base/mem.h"
#include "model/open_parts.h"
#include "model/params.h"

#include <math.h>
#include <stdio.h>

#define EPS 1e-6
#define THETA 10000.0

/* ---- settings ---- */

/* Transformers 5 writes this; only this kind is computed. */
static bool read_rope(const struct hf_reader *r, const cJSON *obj)
{
    static const char *const types[] = {"axial", NULL};
    const struct hf_field type = {
        .key = "rope_type", .kind = HF_NAME, .names = types, .def_name = types[0]};
    const struct hf_field theta = {.key = "rope_theta", .kind = HF_FIXED, .lo = THETA};
    const struct hf_reader in = {r->doc, "vision_config.rope_parameters.", r->used, r->e};
    const cJSON *rope;
    const char *name;

    return hf_get_object(r, obj, "rope_parameters", &rope) &&
           hf_read_fields(&in, rope, &type, 1, 0, &name) &&
           hf_read_fields(&in, rope, &theta, 1, 0, &name);
}

bool qwen_read_tower(const struct hf_reader *r, const cJSON *obj, const struct qwen_kind *k,
                     struct vision_config *v)
{
    static const char *const unused[] = {"in_chans", "spatial_patch_size"};
    const struct hf_field type = {.key = "model_type",
                                  .kind = HF_NAME,
                                  .names = k->vision_types,
                                  .def_name = k->vision_types[0]};
    const char *name;

    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++)
        hf_get(r, obj, unused[i]); /* transformers ignores them */
    v->model_type = k->vision_types[0];
    if (!hf_read_fields(r, obj, &type, 1, 0, &name) ||
        !hf_read_fields(r, obj, k->fields, k->n_fields, 0, v) || !k->settle(r, obj, v) ||
        !read_rope(r, obj))
        return false;
    return v->hidden_size % (4 * v->num_attention_heads) == 0 ||
           hf_fail(r, obj, k->width, "is %lld; allowed: a multiple of 4 num_heads, which is %lld",
                   (long long)v->hidden_size, (long long)(4 * v->num_attention_heads));
}

void qwen_hash(const struct hf_config *c, struct sha256 *s)
{
    const struct vision_config *v = &c->vision;
    const int64_t settings[] = {v->num_attention_heads, v->patch_size,  v->spatial_merge_size,
                                v->temporal_patch_size, v->window_size, (int64_t)v->hidden_act};

    sha256_add(s, settings, sizeof settings);
    sha256_add(s, v->full, (size_t)v->num_hidden_layers * sizeof *v->full);
}

/* ---- parameters ---- */

/* The parameters stand in the order of the calls, so an initializer list would not do. */
static struct qwen_affine matrix(struct model *m, enum param_kind kind, int64_t out, int64_t in,
                                 const char *prefix, const char *name)
{
    struct qwen_affine a;

    a.w = param_matrix(m, kind, out, in, "%s%s.weight", prefix, name);
    a.b = param_vector(m, kind, out, "%s%s.bias", prefix, name);
    return a;
}

static struct qwen_affine norm_of(struct model *m, const struct qwen_kind *k, enum param_kind kind,
                                  const char *prefix, const char *name)
{
    const int64_t d = m->cfg.vision.hidden_size;
    struct qwen_affine a = {.b = NULL};

    a.w = param_vector(m, kind, d, "%s%s.weight", prefix, name);
    if (k->layernorm) a.b = param_vector(m, kind, d, "%s%s.bias", prefix, name);
    return a;
}

static void declare_block(struct model *m, const struct qwen_kind *k, struct qwen_block *b,
                          const char *p)
{
    const struct vision_config *c = &m->cfg.vision;
    const int64_t d = c->hidden_size, f = c->intermediate_size;
    const enum param_kind K = PARAM_VISION;
    struct qwen_affine *const qkv[] = {&b->q, &b->k, &b->v};

    b->norm1 = norm_of(m, k, K, p, "norm1");
    b->norm2 = norm_of(m, k, K, p, "norm2");
    for (int i = 0; i < 3; i++)
        qkv[i]->w = param_part(param_matrix(m, K, 3 * d, d, "%sattn.qkv.weight", p), i * d, d);
    for (int i = 0; i < 3; i++)
        qkv[i]->b = param_part(param_vector(m, K, 3 * d, "%sattn.qkv.bias", p), i * d, d);
    b->o = matrix(m, K, d, d, p, "attn.proj");
    if (k->mlp.gate) b->gate = matrix(m, K, f, d, p, k->mlp.gate);
    b->up = matrix(m, K, f, d, p, k->mlp.up);
    b->down = matrix(m, K, d, f, p, k->mlp.down);
}

bool qwen_declare(struct model *m, const struct qwen_kind *k, struct err *e)
{
    const struct vision_config *c = &m->cfg.vision;
    const int64_t d = c->hidden_size, size = c->patch_size, L = c->num_hidden_layers;
    const int64_t joined = d * c->spatial_merge_size * c->spatial_merge_size;
    const char *pre = m->layout->vision, *merger = m->layout->projector;
    const enum param_kind K = PARAM_PROJECTOR;
    size_t bytes = sizeof(struct qwen) + (size_t)L * sizeof(struct qwen_block);
    struct qwen *q = m->tower = mem_new(1, bytes, "the list of the tower's blocks", e);

    if (!q) return false;
    q->block = (struct qwen_block *)(q + 1);
    q->patch =
        param_matrix(m, PARAM_VISION, d, c->num_channels * c->temporal_patch_size * size * size,
                     "%spatch_embed.proj.weight", pre);
    q->patch->ndim = 5;
    q->patch->dim[1] = c->num_channels;
    q->patch->dim[2] = c->temporal_patch_size;
    q->patch->dim[3] = q->patch->dim[4] = size;
    for (int64_t i = 0; i < L; i++) {
        char prefix[256];
        snprintf(prefix, sizeof prefix, "%sblocks.%d.", pre, (int)i);
        declare_block(m, k, &q->block[i], prefix);
    }
    q->norm = norm_of(m, k, K, merger, "ln_q");
    q->fc1 = matrix(m, K, joined, joined, merger, "mlp.0");
    q->fc2 = matrix(m, K, c->out_hidden_size, joined, merger, "mlp.2");
    return true;
}

bool qwen_check(const struct model *m, const struct qwen_kind *k, struct err *e)
{
    static const char in[] = "vision_config.", patch[] = "patch_embed.proj.weight";
    const struct vision_config *c = &m->cfg.vision;
    const int64_t d = c->hidden_size, f = c->intermediate_size;
    const char *at = m->layout->vision;
    char blocks[300], up[64], out[64];
    const struct size_rule rules[] = {
        {in, k->width, d, .prefix = at, patch, 0},
        {in, "in_channels", c->num_channels, .prefix = at, patch, 1},
        {in, "temporal_patch_size", c->temporal_patch_size, .prefix = at, patch, 2},
        {in, "patch_size", c->patch_size, .prefix = at, patch, 4},
        {in, k->mlp.key, k->mlp.ratio ? f / d : f, k->mlp.ratio ? k->width : NULL, d, f, at, up, 0},
        {in, k->out, c->out_hidden_size, .prefix = m->layout->projector, "mlp.2.weight", 0},
    };

    snprintf(blocks, sizeof blocks, "%sblocks.", at);
    snprintf(up, sizeof up, "blocks.0.%s.weight", k->mlp.up);
    snprintf(out, sizeof out, "%s%s", in, k->out);
    if (c->out_hidden_size != m->cfg.text.hidden_size)
        return hf_config_fail(
            &m->cfg, out, e, "%s is %lld; allowed: the hidden_size of the text, which is %lld", out,
            (long long)c->out_hidden_size, (long long)m->cfg.text.hidden_size);
    return model_check_sizes(m, rules, sizeof rules / sizeof *rules, e) &&
           model_check_layers(m, "vision_config.depth", c->num_hidden_layers, blocks, e);
}

/* ---- the graph ---- */

/* What all blocks share. */
struct layout {
    struct tensor *table;           /* [N, dh]: cos, then sin */
    struct attention_sample *whole; /* by picture */
    int64_t pictures;
    struct attention_sample *window; /* by window; NULL: there are none */
    int64_t windows;
    int32_t *there, *back; /* [N]: the patch that is worked on i-th, and the inverse; NULL: the
                            * order is that of the pixels */
};

int64_t qwen_windows(const struct vision_config *v, const struct picture_shape *shapes, int64_t n,
                     int32_t *order, int64_t *begin)
{
    const int64_t side = v->window_size / v->spatial_merge_size / v->patch_size;
    const int64_t rows = v->spatial_merge_size * v->spatial_merge_size; /* of a cell */
    int64_t windows = 0, at = 0, first = 0;

    for (int64_t i = 0; i < n; i++) {
        const int64_t h = shapes[i].grid_h / v->spatial_merge_size;
        const int64_t w = shapes[i].grid_w / v->spatial_merge_size;
        for (int64_t wy = 0; wy < h; wy += side)
            for (int64_t wx = 0; wx < w; wx += side) {
                begin[windows++] = at * rows;
                for (int64_t y = wy; y < wy + side && y < h; y++)
                    for (int64_t x = wx; x < wx + side && x < w; x++)
                        order[at++] = (int32_t)(first + y * w + x);
            }
        first += h * w;
    }
    begin[windows] = at * rows;
    return windows;
}

/* Rows, then columns of the patches, in the order in which the tower works: [2, N]. */
static int32_t *positions(struct tape *t, const struct vision_config *v,
                          const struct picture_shape *shapes, const struct layout *l, int64_t N)
{
    const int64_t m = v->spatial_merge_size;
    int32_t *out = tape_new_array(t, int32_t, 2 * N);
    int64_t at = 0;

    for (int64_t i = 0; i < l->pictures; i++)
        for (int64_t k = 0; k < shapes[i].inputs; k++, at++) {
            const int64_t cell = k / (m * m), in = k % (m * m), across = shapes[i].grid_w / m;
            const int64_t to = l->back ? l->back[at] : at;
            out[to] = (int32_t)(cell / across * m + in / m);
            out[N + to] = (int32_t)(cell % across * m + in % m);
        }
    return out;
}

static struct tensor *rope_table(struct tape *t, const struct vision_config *v,
                                 const int32_t *positions, int64_t N)
{
    const int64_t dh = v->hidden_size / v->num_attention_heads, pairs = dh / 2;
    float *inv_freq = tape_new_array(t, float, pairs);
    uint8_t *axis = tape_new_array(t, uint8_t, pairs);

    for (int64_t i = 0; i < pairs; i++) {
        axis[i] = i >= pairs / 2;
        inv_freq[i] = (float)(1 / pow(THETA, (double)(2 * (i % (pairs / 2))) / (double)pairs));
    }
    return op_rope_table(t, &(struct rope_table){.positions = positions,
                                                 .n = N,
                                                 .inv_freq = inv_freq,
                                                 .pairs = pairs,
                                                 .axis = axis,
                                                 .scale = 1});
}

static struct tensor *linear(struct tape *t, struct tensor *x, const struct qwen_affine *a,
                             struct tensor *add)
{
    return op_linear(t, x, param_tensor(a->w), param_tensor(a->b), add);
}

static struct tensor *norm(struct tape *t, struct tensor *x, const struct qwen_affine *a)
{
    return a->b ? op_layernorm(t, x, param_tensor(a->w), param_tensor(a->b), EPS)
                : op_rmsnorm(t, x, param_tensor(a->w), EPS);
}

/* h [N, D], the same shape out. */
static struct tensor *mlp(struct model *m, struct tape *t, const struct qwen_block *b,
                          struct tensor *h, struct tensor *add)
{
    struct tensor *up = linear(t, h, &b->up, NULL); /* [N, intermediate_size] */

    h = b->gate.w ? op_swiglu(t, linear(t, h, &b->gate, NULL), up)
                  : op_activation(t, up, m->cfg.vision.hidden_act);
    return linear(t, h, &b->down, add);
}

/* Block i: x [N, D], the same shape out. */
static struct tensor *block(struct model *m, struct tape *t, const struct layout *l, int64_t i,
                            struct tensor *x)
{
    const struct vision_config *c = &m->cfg.vision;
    const struct qwen_block *b = &((const struct qwen *)m->tower)->block[i];
    const int64_t H = c->num_attention_heads, dh = c->hidden_size / H;
    const bool whole = !l->window || c->full[i];
    struct tensor *h = norm(t, x, &b->norm1);
    struct attention a = {
        .part[0] = {.q = op_rope(t, linear(t, h, &b->q, NULL), l->table, 0, H, dh / 2, NULL),
                    .k = op_rope(t, linear(t, h, &b->k, NULL), l->table, 0, H, dh / 2, NULL),
                    .width = dh},
        .parts = 1,
        .v = linear(t, h, &b->v, NULL),
        .heads = H,
        .groups = H,
        .v_width = dh,
        .samples = whole ? l->whole : l->window,
        .n_samples = whole ? l->pictures : l->windows,
        .scale = 1 / sqrt((double)dh)};

    x = linear(t, op_attention(t, &a), &b->o, x); /* [N, D] */
    return mlp(m, t, b, norm(t, x, &b->norm2), x);
}

static struct attention_sample *samples(struct tape *t, const int64_t *begin, int64_t n)
{
    struct attention_sample *out = tape_new_array(t, struct attention_sample, n);

    for (int64_t i = 0; i < n; i++)
        out[i] = (struct attention_sample){begin[i], begin[i + 1], begin[i], begin[i + 1]};
    return out;
}

/* Fills in the windows, and the order that they need. */
static void arrange(struct tape *t, const struct vision_config *c,
                    const struct picture_shape *shapes, int64_t N, struct layout *l)
{
    const int64_t rows = c->spatial_merge_size * c->spatial_merge_size;
    int32_t *order = tape_new_array(t, int32_t, N / rows + 1);
    int64_t *begin = tape_new_array(t, int64_t, N / rows + 1);

    l->there = tape_new_array(t, int32_t, N);
    l->back = tape_new_array(t, int32_t, N);
    l->windows = qwen_windows(c, shapes, l->pictures, order, begin);
    CHECK(begin[l->windows] == N);
    for (int64_t i = 0; i < N; i++) {
        l->there[i] = (int32_t)(order[i / rows] * rows + i % rows);
        l->back[l->there[i]] = (int32_t)i;
    }
    l->window = samples(t, begin, l->windows);
}

struct tensor *qwen_features(struct model *m, struct tape *t, struct tensor *pixels,
                             const struct picture_shape *shapes, int64_t n)
{
    const struct vision_config *c = &m->cfg.vision;
    const struct qwen *q = m->tower;
    const int64_t N = pixels->rows;
    int64_t *begin = tape_new_array(t, int64_t, n + 1);
    struct layout l = {.pictures = n};
    struct tensor *x;

    begin[0] = 0;
    for (int64_t i = 0; i < n; i++)
        begin[i + 1] = begin[i] + shapes[i].inputs;
    CHECK(begin[n] == N);
    l.whole = samples(t, begin, n);
    if (c->window_size) arrange(t, c, shapes, N, &l);
    l.table = rope_table(t, c, positions(t, c, shapes, &l, N), N);
    x = op_linear(t, pixels, param_tensor(q->patch), NULL, NULL); /* [N, D] */
    if (l.there) x = op_select_rows(t, x, NULL, l.there, N);
    for (int64_t i = 0; i < c->num_hidden_layers; i++)
        x = block(m, t, &l, i, x);
    return l.back ? op_select_rows(t, x, NULL, l.back, N) : x;
}

struct tensor *qwen_project(struct model *m, struct tape *t, const struct forward *f)
{
    const struct vision_config *c = &m->cfg.vision;
    const struct qwen *q = m->tower;
    struct tensor *x = norm(t, f->features, &q->norm);

    x = op_group_rows(t, x, c->spatial_merge_size * c->spatial_merge_size); /* [N/m^2, m^2*D] */
    x = op_activation(t, linear(t, x, &q->fc1, NULL), ACT_GELU);
    return linear(t, x, &q->fc2, NULL); /* [N/m^2, out_hidden_size] */
}
