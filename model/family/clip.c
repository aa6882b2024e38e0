/* clip.c - CLIP's vision tower, up to the last layer that features are taken from.
 *
 *     x = LN_pre([class; patches(pixels)] + position)               [N*(P+1), D]
 * for each layer, with h = LN1(x):
 *     o = softmax(Wq h (Wk h)^T / sqrt(dh)) Wv h                    [N*(P+1), H*dh]
 *     x = x + Wo o                                                  [N*(P+1), D]
 *     x = x + W2 act(W1 h), h = LN2(x)                              [N*(P+1), D]
 * and the features are the x after the layers of vision_feature_layer, side by side, without the
 * class rows unless the select strategy is "full"                   [N*P, layers*D]
 *
 * N images of C channels and S x S pixels, back to back; P = (S/p)^2 patches of p x p pixels each;
 * D = H*dh width, F MLP width. Biases are left out. Attention covers all of an image's rows and no
 * others. The tower's post_layernorm is not used. */
#include "model/family/clip.h"
#include "base/hash.h"
#include "model/open_parts.h"
#include "model/params.h"

#include <math.h>
#include <stdio.h>

/* ---- settings ---- */

/* Two defaults: CLIPVisionConfig's, and LLaVA's if it has no vision_config at all. */
#define INT(member, max, clip, llava) HF_INT_ROW(vision_config, member, max, clip, llava)
static const struct hf_field vision_fields[] = {
    INT(hidden_size, HF_MAX_WIDTH, 768, 1024),
    INT(intermediate_size, HF_MAX_WIDTH, 3072, 4096),
    INT(num_hidden_layers, HF_MAX_COUNT, 12, 24),
    INT(num_attention_heads, HF_MAX_COUNT, 12, 16),
    INT(image_size, HF_MAX_COUNT, 224, 336),
    INT(patch_size, HF_MAX_COUNT, 32, 14),
    INT(num_channels, 16, 3, 3),
    INT(projection_dim, HF_MAX_WIDTH, 512, 768),
    HF_NUM_ROW(vision_config, layer_norm_eps, 0, 0.1, 1e-5),
    {HF_ROW(vision_config, hidden_act), .kind = HF_CHOICE, .choices = hf_acts,
     .def = {ACT_QUICK_GELU, ACT_QUICK_GELU}},
    {HF_ROW(vision_config, attention_dropout), .kind = HF_NUM, .lo = 0, .hi = 1, .nullable = true},
};
#undef INT

bool clip_read(const struct hf_reader *r, const cJSON *obj, struct vision_config *v)
{
    static const char *const types[] = {"clip_vision_model", NULL};
    const struct hf_field type_field = {
        .key = "model_type", .kind = HF_NAME, .names = types, .def_name = types[0]};

    if (!hf_read_fields(r, obj, &type_field, 1, 0, &v->model_type)) return false;
    if (!hf_read_fields(r, obj, HF_TABLE(vision_fields), obj == NULL, v)) return false;
    if (v->hidden_size % v->num_attention_heads != 0)
        return hf_fail(r, obj, "hidden_size",
                       "is %lld; allowed: a multiple of num_attention_heads, which is %lld",
                       (long long)v->hidden_size, (long long)v->num_attention_heads);
    if (v->image_size % v->patch_size != 0)
        return hf_fail(r, obj, "image_size",
                       "is %lld; allowed: a multiple of patch_size, which is %lld",
                       (long long)v->image_size, (long long)v->patch_size);
    return true;
}

/* A layer of the tower, or a list of layers. */
bool clip_read_feature_layers(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    static const char key[] = "vision_feature_layer";
    const cJSON *v = hf_get(r, obj, key), *item = cJSON_IsArray(v) ? v->child : v;
    int64_t layers = c->vision.num_hidden_layers;

    if (!v) {
        c->vision_feature_layer[c->feature_count++] = -2;
        return true;
    }
    for (; item; item = cJSON_IsArray(v) ? item->next : NULL) {
        if (c->feature_count == HF_MAX_FEATURES ||
            !hf_is_int(item, (double)(-layers - 1), (double)layers))
            break;
        c->vision_feature_layer[c->feature_count++] = (int64_t)item->valuedouble;
    }
    return (!item && c->feature_count > 0) ||
           hf_refuse(r, key, v,
                     "%lld to %lld, because the tower has %lld layers, or 1 to %d of them",
                     (long long)-layers - 1, (long long)layers, (long long)layers, HF_MAX_FEATURES);
}

int64_t clip_feature_layer(const struct hf_config *c, int i)
{
    int64_t layer = c->vision_feature_layer[i];

    return layer >= 0 ? layer : c->vision.num_hidden_layers + 1 + layer;
}

int64_t clip_layers(const struct hf_config *c)
{
    int64_t most = 0;

    for (int i = 0; i < c->feature_count; i++)
        if (clip_feature_layer(c, i) > most) most = clip_feature_layer(c, i);
    return most;
}

int64_t clip_feature_width(const struct hf_config *c)
{
    return c->feature_count * c->vision.hidden_size;
}

int64_t clip_input_width(const struct hf_config *c)
{
    const struct vision_config *v = &c->vision;

    return v->num_channels * v->image_size * v->image_size;
}

int64_t clip_rows(const struct hf_config *c)
{
    int64_t side = c->vision.image_size / c->vision.patch_size;

    return side * side + c->vision_feature_full;
}

void clip_new_processor(const struct hf_config *c, struct processor *p)
{
    processor_default(p);
    p->size_h = p->size_w = p->crop_h = p->crop_w = c->vision.image_size;
}

bool clip_check_processor(const struct hf_config *c, const struct processor *p, struct err *e)
{
    const long long size = c->vision.image_size;

    return (p->height == size && p->width == size) ||
           err_set(e, "makes pictures of %lld x %lld, the tower takes %lld x %lld",
                   (long long)p->height, (long long)p->width, size, size);
}

void clip_hash(const struct hf_config *c, struct sha256 *s)
{
    const struct vision_config *v = &c->vision;
    const double settings[] = {(double)v->num_attention_heads, (double)v->image_size,
                               (double)v->patch_size, v->layer_norm_eps, v->hidden_act};

    sha256_add(s, settings, sizeof settings);
    sha256_add(s, c->vision_feature_layer,
               (size_t)c->feature_count * sizeof *c->vision_feature_layer);
    sha256_add(s, &c->vision_feature_full, sizeof c->vision_feature_full);
}

/* ---- parameters ---- */

static void declare_layer(struct model *m, struct clip_layer *l, const char *p)
{
    const struct vision_config *c = &m->cfg.vision;
    int64_t d = c->hidden_size, f = c->intermediate_size;
    const enum param_kind K = PARAM_VISION;
    struct {
        struct param **w, **b;
        int64_t out, in;
        const char *name;
    } rows[] = {{&l->k, &l->k_b, d, d, "self_attn.k_proj"},
                {&l->v, &l->v_b, d, d, "self_attn.v_proj"},
                {&l->q, &l->q_b, d, d, "self_attn.q_proj"},
                {&l->o, &l->o_b, d, d, "self_attn.out_proj"},
                {&l->norm1, &l->norm1_b, 0, d, "layer_norm1"},
                {&l->fc1, &l->fc1_b, f, d, "mlp.fc1"},
                {&l->fc2, &l->fc2_b, d, f, "mlp.fc2"},
                {&l->norm2, &l->norm2_b, 0, d, "layer_norm2"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t out = rows[i].out;
        *rows[i].w = out ? param_matrix(m, K, out, rows[i].in, "%s%s.weight", p, rows[i].name)
                         : param_vector(m, K, rows[i].in, "%s%s.weight", p, rows[i].name);
        *rows[i].b = param_vector(m, K, out ? out : rows[i].in, "%s%s.bias", p, rows[i].name);
    }
}

/* Shapes as in the file: patch [D, C, p, p] (in the graph [D, C*p*p]), position [P+1, D], q, k, v
 * and out [D, D], fc1 [F, D], fc2 [D, F]. */
void clip_declare(struct model *m, struct clip *clip)
{
    const struct vision_config *c = &m->cfg.vision;
    const char *pre = m->layout->vision;
    int64_t d = c->hidden_size, side = c->image_size / c->patch_size;

    clip->class_embedding = param_vector(m, PARAM_VISION, d, "%sembeddings.class_embedding", pre);
    clip->patch = param_matrix(m, PARAM_VISION, d, c->num_channels * c->patch_size * c->patch_size,
                               "%sembeddings.patch_embedding.weight", pre);
    clip->patch->ndim = 4;
    clip->patch->dim[1] = c->num_channels;
    clip->patch->dim[2] = clip->patch->dim[3] = c->patch_size;
    clip->position = param_matrix(m, PARAM_VISION, side * side + 1, d,
                                  "%sembeddings.position_embedding.weight", pre);
    clip->pre = param_vector(m, PARAM_VISION, d, "%spre_layrnorm.weight", pre);
    clip->pre_b = param_vector(m, PARAM_VISION, d, "%spre_layrnorm.bias", pre);
    for (int64_t i = 0; i < c->num_hidden_layers; i++) {
        char prefix[256];
        snprintf(prefix, sizeof prefix, "%sencoder.layers.%d.", pre, (int)i);
        declare_layer(m, &clip->layer[i], prefix);
    }
    clip->post = param_vector(m, PARAM_VISION, d, "%spost_layernorm.weight", pre);
    clip->post_b = param_vector(m, PARAM_VISION, d, "%spost_layernorm.bias", pre);
}

bool clip_check(const struct model *m, struct err *e)
{
    static const char in[] = "vision_config.";
    const struct vision_config *c = &m->cfg.vision;
    const char *at = m->layout->vision;
    int64_t side = c->image_size / c->patch_size;
    char layers[300];
    const struct size_rule rules[] = {
        {in, "hidden_size", c->hidden_size, .prefix = at, "embeddings.class_embedding", 0},
        {in, "intermediate_size", c->intermediate_size, .prefix = at,
         "encoder.layers.0.mlp.fc1.weight", 0},
        {in, "num_channels", c->num_channels, .prefix = at, "embeddings.patch_embedding.weight", 1},
        {in, "patch_size", c->patch_size, .prefix = at, "embeddings.patch_embedding.weight", 3},
        {in, "image_size", c->image_size, "a class token and a patch_size of", c->patch_size,
         side * side + 1, at, "embeddings.position_embedding.weight", 0},
    };

    snprintf(layers, sizeof layers, "%sencoder.layers.", at);
    return model_check_sizes(m, rules, sizeof rules / sizeof *rules, e) &&
           model_check_layers(m, "vision_config.num_hidden_layers", c->num_hidden_layers, layers,
                              e);
}

/* ---- the graph ---- */

/* One layer of the tower for n images: x [N*(P+1), D], the same shape out. */
static struct tensor *clip_layer(struct model *m, struct tape *t, const struct clip_layer *l,
                                 struct tensor *x, const struct attention_sample *samples,
                                 int64_t n)
{
    const struct vision_config *c = &m->cfg.vision;
    int64_t H = c->num_attention_heads, dh = c->hidden_size / H;
    struct tensor *h =
        op_layernorm(t, x, param_tensor(l->norm1), param_tensor(l->norm1_b), c->layer_norm_eps);
    struct attention a = {
        .part[0] = {.q = op_linear(t, h, param_tensor(l->q), param_tensor(l->q_b), NULL),
                    .k = op_linear(t, h, param_tensor(l->k), param_tensor(l->k_b), NULL),
                    .width = dh},
        .parts = 1,
        .v = op_linear(t, h, param_tensor(l->v), param_tensor(l->v_b), NULL),
        .heads = H,
        .groups = H,
        .v_width = dh,
        .samples = samples,
        .n_samples = n,
        .scale = 1 / sqrt((double)dh)};

    /* [N*(P+1), D] */
    x = op_linear(t, op_attention(t, &a), param_tensor(l->o), param_tensor(l->o_b), x);
    h = op_layernorm(t, x, param_tensor(l->norm2), param_tensor(l->norm2_b), c->layer_norm_eps);
    /* [N*(P+1), F], then [N*(P+1), D] */
    h = op_activation(t, op_linear(t, h, param_tensor(l->fc1), param_tensor(l->fc1_b), NULL),
                      c->hidden_act);
    return op_linear(t, h, param_tensor(l->fc2), param_tensor(l->fc2_b), x);
}

/* x [N*(P+1), D] without the class rows, unless those are wanted: [N*P, D]. */
static struct tensor *features_of(struct model *m, struct tape *t, struct tensor *x, int64_t n,
                                  int64_t patches)
{
    int64_t rows = patches + 1;
    int32_t *index;

    if (m->cfg.vision_feature_full) return x;
    index = tape_new_array(t, int32_t, n * patches);
    for (int64_t i = 0; i < n * patches; i++)
        index[i] = (int32_t)(i / patches * rows + 1 + i % patches);
    return op_select_rows(t, x, NULL, index, n * patches);
}

struct tensor *clip_features(struct model *m, struct tape *t, const struct clip *clip,
                             struct tensor *pixels)
{
    const struct vision_config *c = &m->cfg.vision;
    int64_t n = pixels->rows, side = c->image_size / c->patch_size, P = side * side, rows = P + 1;
    int64_t layers = clip_layers(&m->cfg);
    int32_t *with_class = tape_new_array(t, int32_t, n * rows);
    struct attention_sample *samples = tape_new_array(t, struct attention_sample, n);
    struct tensor **state = tape_new_array(t, struct tensor *, layers + 1), *all = NULL;
    struct tensor *x = op_patch_embed(t, pixels, param_tensor(clip->patch), NULL, c->num_channels,
                                      c->image_size, c->patch_size); /* [N*P, D] */

    for (int64_t i = 0; i < n; i++) {
        samples[i] = (struct attention_sample){i * rows, (i + 1) * rows, i * rows, (i + 1) * rows};
        with_class[i * rows] = -1; /* the class row */
        for (int64_t j = 0; j < P; j++)
            with_class[i * rows + 1 + j] = (int32_t)(i * P + j);
    }
    /* [N*(P+1), D] */
    x = op_select_rows(t, x, param_tensor(clip->class_embedding), with_class, n * rows);
    x = op_layernorm(t, op_add(t, x, param_tensor(clip->position)), param_tensor(clip->pre),
                     param_tensor(clip->pre_b), c->layer_norm_eps);
    /* state[i]: the output of layer i, state[0] the embeddings */
    state[0] = x;
    for (int64_t i = 0; i < layers; i++)
        state[i + 1] = clip_layer(m, t, &clip->layer[i], state[i], samples, n);
    for (int i = 0; i < m->cfg.feature_count; i++) {
        x = features_of(m, t, state[clip_feature_layer(&m->cfg, i)], n, P);
        all = all ? op_join(t, all, x) : x; /* [N*P, (i+1)*D] */
    }
    return all;
}
