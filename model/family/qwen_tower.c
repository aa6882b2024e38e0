/* qwen_tower.c - Qwen2.5-VL's vision tower, for patches of pictures of any size: attention in
 * windows except in some blocks, RoPE by row and column; and the merger after it.
 *
 *     x = Wp patches                                                    [N, D]
 * for each block, with h = RMSNorm(x):
 *     o = softmax(rope(Wq h) rope(Wk h)^T / sqrt(dh)) Wv h              [N, H*dh]
 *     x = x + Wo o                                                      [N, D]
 *     x = x + Wdown (silu(Wgate h) * Wup h), h = RMSNorm(x)             [N, D]
 * and the merger joins the m^2 patches of each cell:
 *     y = W2 gelu(W1 join(RMSNorm(x)))                                  [N/m^2, out_hidden_size]
 *
 * N patches of all pictures, D = H*dh width, m spatial_merge_size. Pair (i, i + dh/2) of a
 * head turns by row * f_i if i < dh/4, otherwise by column * f_(i - dh/4), f_j =
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

#define INT(json, member, max, d)                                                                  \
    {                                                                                              \
        .key = json, .offset = offsetof(struct vision_config, member), .kind = HF_INT, .lo = 1,    \
        .hi = max, .def = {                                                                        \
            d                                                                                      \
        }                                                                                          \
    }
static const struct hf_choice acts[] = {{"silu", ACT_SILU}, {"swish", ACT_SILU}, {NULL, 0}};
static const struct hf_field fields[] = {
    INT("depth", num_hidden_layers, HF_MAX_BLOCKS, 32),
    INT("hidden_size", hidden_size, HF_MAX_WIDTH, 3584),
    INT("intermediate_size", intermediate_size, HF_MAX_WIDTH, 3420),
    INT("num_heads", num_attention_heads, HF_MAX_COUNT, 16),
    INT("in_channels", num_channels, 3, 3),
    INT("patch_size", patch_size, HF_MAX_COUNT, 14),
    INT("spatial_merge_size", spatial_merge_size, 16, 2),
    INT("temporal_patch_size", temporal_patch_size, 16, 2),
    INT("window_size", window_size, HF_MAX_WIDTH, 112),
    INT("out_hidden_size", out_hidden_size, HF_MAX_WIDTH, 3584),
    {.key = "hidden_act",
     .offset = offsetof(struct vision_config, hidden_act),
     .kind = HF_CHOICE,
     .choices = acts,
     .def = {ACT_SILU}},
};
#undef INT

static bool read_full(const struct hf_reader *r, const cJSON *obj, struct vision_config *v)
{
    static const char key[] = "fullatt_block_indexes";
    static const int usual[] = {7, 15, 23, 31};
    const cJSON *list = hf_get(r, obj, key), *item;
    const double last = (double)v->num_hidden_layers - 1;

    for (size_t i = 0; !list && i < sizeof usual / sizeof *usual; i++)
        if (usual[i] <= last) v->full[usual[i]] = true;
    if (list && !cJSON_IsArray(list)) return hf_refuse(r, key, list, "a list of blocks");
    cJSON_ArrayForEach(item, list)
    {
        if (!hf_is_int(item, 0, HF_MAX_COUNT))
            return hf_refuse(r, key, list, "a list of blocks, counted from 0");
        if (item->valuedouble <= last) v->full[item->valueint] = true;
    }
    return true;
}

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

bool qwen_read_tower(const struct hf_reader *r, const cJSON *obj, struct vision_config *v)
{
    static const char *const types[] = {"qwen2_5_vl", "qwen2_5_vl_vision", NULL};
    static const char *const unused[] = {"in_chans", "spatial_patch_size", "tokens_per_second"};
    const struct hf_field type = {
        .key = "model_type", .kind = HF_NAME, .names = types, .def_name = types[0]};
    const char *name;

    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++)
        hf_get(r, obj, unused[i]); /* transformers ignores the first two; the last is for videos */
    v->model_type = types[0];
    if (!hf_read_fields(r, obj, &type, 1, 0, &name) ||
        !hf_read_fields(r, obj, HF_TABLE(fields), 0, v) || !read_full(r, obj, v) ||
        !read_rope(r, obj))
        return false;
    if (v->hidden_size % (4 * v->num_attention_heads) != 0)
        return hf_fail(r, obj, "hidden_size",
                       "is %lld; allowed: a multiple of 4 num_heads, which is %lld",
                       (long long)v->hidden_size, (long long)(4 * v->num_attention_heads));
    return v->window_size >= v->patch_size * v->spatial_merge_size ||
           hf_fail(r, obj, "window_size",
                   "is %lld; allowed: patch_size * spatial_merge_size or more, which is %lld",
                   (long long)v->window_size, (long long)(v->patch_size * v->spatial_merge_size));
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

static void declare_block(struct model *m, struct qwen_block *b, const char *p)
{
    const struct vision_config *c = &m->cfg.vision;
    const int64_t d = c->hidden_size, f = c->intermediate_size;
    const enum param_kind K = PARAM_VISION;
    struct param **const qkv[] = {&b->q, &b->k, &b->v},
                         **const bias[] = {&b->q_b, &b->k_b, &b->v_b};

    b->norm1 = param_vector(m, K, d, "%snorm1.weight", p);
    b->norm2 = param_vector(m, K, d, "%snorm2.weight", p);
    for (int i = 0; i < 3; i++)
        *qkv[i] = param_part(param_matrix(m, K, 3 * d, d, "%sattn.qkv.weight", p), i * d, d);
    for (int i = 0; i < 3; i++)
        *bias[i] = param_part(param_vector(m, K, 3 * d, "%sattn.qkv.bias", p), i * d, d);
    b->o = param_matrix(m, K, d, d, "%sattn.proj.weight", p);
    b->o_b = param_vector(m, K, d, "%sattn.proj.bias", p);
    b->gate = param_matrix(m, K, f, d, "%smlp.gate_proj.weight", p);
    b->gate_b = param_vector(m, K, f, "%smlp.gate_proj.bias", p);
    b->up = param_matrix(m, K, f, d, "%smlp.up_proj.weight", p);
    b->up_b = param_vector(m, K, f, "%smlp.up_proj.bias", p);
    b->down = param_matrix(m, K, d, f, "%smlp.down_proj.weight", p);
    b->down_b = param_vector(m, K, d, "%smlp.down_proj.bias", p);
}

bool qwen_declare(struct model *m, struct err *e)
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
        declare_block(m, &q->block[i], prefix);
    }
    q->norm = param_vector(m, K, d, "%sln_q.weight", merger);
    q->fc1 = param_matrix(m, K, joined, joined, "%smlp.0.weight", merger);
    q->fc1_b = param_vector(m, K, joined, "%smlp.0.bias", merger);
    q->fc2 = param_matrix(m, K, c->out_hidden_size, joined, "%smlp.2.weight", merger);
    q->fc2_b = param_vector(m, K, c->out_hidden_size, "%smlp.2.bias", merger);
    return true;
}

bool qwen_check(const struct model *m, struct err *e)
{
    static const char in[] = "vision_config.";
    const struct vision_config *c = &m->cfg.vision;
    const char *at = m->layout->vision;
    char blocks[300];
    const struct size_rule rules[] = {
        {in, "hidden_size", c->hidden_size, .prefix = at, "patch_embed.proj.weight", 0},
        {in, "in_channels", c->num_channels, .prefix = at, "patch_embed.proj.weight", 1},
        {in, "temporal_patch_size", c->temporal_patch_size, .prefix = at, "patch_embed.proj.weight",
         2},
        {in, "patch_size", c->patch_size, .prefix = at, "patch_embed.proj.weight", 4},
        {in, "intermediate_size", c->intermediate_size, .prefix = at,
         "blocks.0.mlp.gate_proj.weight", 0},
        {in, "out_hidden_size", c->out_hidden_size, .prefix = m->layout->projector, "mlp.2.weight",
         0},
    };

    if (c->out_hidden_size != m->cfg.text.hidden_size)
        return hf_config_fail(&m->cfg, "vision_config.out_hidden_size", e,
                              "vision_config.out_hidden_size is %lld; allowed: the hidden_size of "
                              "the text, which is %lld",
                              (long long)c->out_hidden_size, (long long)m->cfg.text.hidden_size);
    snprintf(blocks, sizeof blocks, "%sblocks.", at);
    return model_check_sizes(m, rules, sizeof rules / sizeof *rules, e) &&
           model_check_layers(m, "vision_config.depth", c->num_hidden_layers, blocks, e);
}

/* ---- the graph ---- */

/* What all blocks share. */
struct layout {
    struct tensor *table;                    /* [N, dh]: cos, then sin */
    struct attention_sample *window, *whole; /* by window, by picture */
    int64_t windows, pictures;
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
                          const struct picture_shape *shapes, int64_t n, const int32_t *from,
                          int64_t N)
{
    const int64_t m = v->spatial_merge_size;
    int32_t *plain = tape_new_array(t, int32_t, 2 * N), *out = tape_new_array(t, int32_t, 2 * N);
    int64_t at = 0;

    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < shapes[i].inputs; k++, at++) {
            const int64_t cell = k / (m * m), in = k % (m * m), across = shapes[i].grid_w / m;
            plain[at] = (int32_t)(cell / across * m + in / m);
            plain[N + at] = (int32_t)(cell % across * m + in % m);
        }
    for (int64_t i = 0; i < N; i++) {
        out[i] = plain[from[i]];
        out[N + i] = plain[N + from[i]];
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

static struct tensor *linear(struct tape *t, struct tensor *x, struct param *w, struct param *b,
                             struct tensor *add)
{
    return op_linear(t, x, param_tensor(w), param_tensor(b), add);
}

/* Block i: x [N, D], the same shape out. */
static struct tensor *block(struct model *m, struct tape *t, const struct layout *l, int64_t i,
                            struct tensor *x)
{
    const struct vision_config *c = &m->cfg.vision;
    const struct qwen_block *b = &((const struct qwen *)m->tower)->block[i];
    const int64_t H = c->num_attention_heads, dh = c->hidden_size / H;
    struct tensor *h = op_rmsnorm(t, x, param_tensor(b->norm1), EPS);
    struct attention a = {
        .part[0] = {.q = op_rope(t, linear(t, h, b->q, b->q_b, NULL), l->table, 0, H, dh / 2, NULL),
                    .k = op_rope(t, linear(t, h, b->k, b->k_b, NULL), l->table, 0, H, dh / 2, NULL),
                    .width = dh},
        .parts = 1,
        .v = linear(t, h, b->v, b->v_b, NULL),
        .heads = H,
        .groups = H,
        .v_width = dh,
        .samples = c->full[i] ? l->whole : l->window,
        .n_samples = c->full[i] ? l->pictures : l->windows,
        .scale = 1 / sqrt((double)dh)};

    x = linear(t, op_attention(t, &a), b->o, b->o_b, x); /* [N, D] */
    h = op_rmsnorm(t, x, param_tensor(b->norm2), EPS);
    /* [N, intermediate_size] */
    h = op_swiglu(t, linear(t, h, b->gate, b->gate_b, NULL), linear(t, h, b->up, b->up_b, NULL));
    return linear(t, h, b->down, b->down_b, x);
}

static struct attention_sample *samples(struct tape *t, const int64_t *begin, int64_t n)
{
    struct attention_sample *out = tape_new_array(t, struct attention_sample, n);

    for (int64_t i = 0; i < n; i++)
        out[i] = (struct attention_sample){begin[i], begin[i + 1], begin[i], begin[i + 1]};
    return out;
}

struct tensor *qwen_features(struct model *m, struct tape *t, struct tensor *pixels,
                             const struct picture_shape *shapes, int64_t n)
{
    const struct vision_config *c = &m->cfg.vision;
    const struct qwen *q = m->tower;
    const int64_t N = pixels->rows, rows = c->spatial_merge_size * c->spatial_merge_size;
    int32_t *order = tape_new_array(t, int32_t, N / rows + 1);
    int32_t *there = tape_new_array(t, int32_t, N), *back = tape_new_array(t, int32_t, N);
    int64_t *begin = tape_new_array(t, int64_t, N / rows + 1);
    int64_t *picture = tape_new_array(t, int64_t, n + 1);
    struct layout l = {.windows = qwen_windows(c, shapes, n, order, begin), .pictures = n};
    struct tensor *x;

    picture[0] = 0;
    for (int64_t i = 0; i < n; i++)
        picture[i + 1] = picture[i] + shapes[i].inputs;
    CHECK(picture[n] == N && begin[l.windows] == N);
    for (int64_t i = 0; i < N; i++) {
        there[i] = (int32_t)(order[i / rows] * rows + i % rows);
        back[there[i]] = (int32_t)i;
    }
    l.window = samples(t, begin, l.windows);
    l.whole = samples(t, picture, n);
    l.table = rope_table(t, c, positions(t, c, shapes, n, there, N), N);
    x = op_linear(t, pixels, param_tensor(q->patch), NULL, NULL); /* [N, D] */
    x = op_select_rows(t, x, NULL, there, N);
    for (int64_t i = 0; i < c->num_hidden_layers; i++)
        x = block(m, t, &l, i, x);
    return op_select_rows(t, x, NULL, back, N);
}

struct tensor *qwen_project(struct model *m, struct tape *t, const struct forward *f)
{
    const struct vision_config *c = &m->cfg.vision;
    const struct qwen *q = m->tower;
    struct tensor *x = op_rmsnorm(t, f->features, param_tensor(q->norm), EPS);

    x = op_group_rows(t, x, c->spatial_merge_size * c->spatial_merge_size); /* [N/m^2, m^2*D] */
    x = op_activation(t, linear(t, x, q->fc1, q->fc1_b, NULL), ACT_GELU);
    return linear(t, x, q->fc2, q->fc2_b, NULL); /* [N/m^2, out_hidden_size] */
}
