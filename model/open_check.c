/* open_check.c - whether config.json and the tensors are of one model. Loading would notice most of
 * it, as a tensor that is missing or has another shape; here the setting is named that is wrong. */
#include "model/params.h"
#include "base/plural.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OTHER_MODEL "config.json and the tensors must be of the same model"

void shape_text(const int64_t *dim, int n, char *text, size_t size)
{
    size_t at = 0;

    if (size) text[0] = '\0';
    for (int i = 0; i < n && at < size; i++) {
        int used = snprintf(text + at, size - at, "%s%lld", i ? ", " : "", (long long)dim[i]);
        at += used > 0 ? (size_t)used : 0;
    }
}

/* A setting, and the tensor one of whose dims it gives: `value` itself, or `makes` where another
 * setting has a part in it. */
struct size_rule {
    const char *section, *key;
    int64_t value;
    const char *with; /* NULL: none */
    int64_t other, makes;
    const char *prefix, *tensor;
    int dim;
};

static bool check_size(const struct model *m, const struct size_rule *r, struct err *e)
{
    int64_t want = r->with ? r->makes : r->value;
    char name[300], shape[128], part[128] = "", path[64];
    const struct st_tensor *t;

    snprintf(name, sizeof name, "%s%s", r->prefix, r->tensor);
    t = model_find_tensor(m, name);
    if (!t || t->ndim <= r->dim || t->dim[r->dim] == want) return true;
    shape_text(t->dim, t->ndim, shape, sizeof shape);
    if (r->with)
        snprintf(part, sizeof part, ", which with %s %lld makes %lld", r->with, (long long)r->other,
                 (long long)want);
    snprintf(path, sizeof path, "%s%s", r->section, r->key);
    return hf_config_fail(&m->cfg, path, e, "%s is %lld%s, but tensor %s is [%s]: " OTHER_MODEL,
                          path, (long long)r->value, part, name, shape);
}

static bool check_sizes(const struct model *m, const struct size_rule *rules, size_t n,
                        struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (!check_size(m, &rules[i], e)) return false;
    return true;
}

/* One more than the largest N of the tensors PREFIXN.*. */
static int64_t count_layers(const struct st_model *files, const char *prefix, int64_t most)
{
    size_t n = strlen(prefix);

    for (size_t i = 0; i < files->count; i++) {
        const char *name = files->tensors[i]->name;
        char *end;
        if (strncmp(name, prefix, n) != 0) continue;
        long long layer = strtoll(name + n, &end, 10);
        if (end > name + n && *end == '.' && layer >= most && layer < INT64_MAX) most = layer + 1;
    }
    return most;
}

static bool check_layers(const struct model *m, const char *section, int64_t layers,
                         const char *before, struct err *e)
{
    char prefix[300], path[64];

    snprintf(prefix, sizeof prefix, "%slayers.", before);
    int64_t found = count_layers(&m->base, prefix, count_layers(&m->files, prefix, 0));
    if (found == layers) return true;
    snprintf(path, sizeof path, "%snum_hidden_layers", section);
    return hf_config_fail(&m->cfg, path, e,
                          "%s is %lld, but the tensors %s* have %lld layer%s: " OTHER_MODEL, path,
                          (long long)layers, prefix, (long long)found, plural(found));
}

/* What the setting at `path` says about a tensor that is there or is not: "SECTIONKEY SAYS". A bias
 * of zeros that it does not want is as good as none. */
struct presence_rule {
    const char *section, *key, *says;
    bool wanted;
    const char *prefix, *tensor;
};

static bool check_presence(const struct model *m, const struct presence_rule *r, struct err *e)
{
    const struct st_tensor *t;
    char name[300], path[64];

    snprintf(name, sizeof name, "%s%s", r->prefix, r->tensor);
    t = model_find_tensor(m, name);
    if (!t == !r->wanted || (!r->wanted && model_is_zero(t))) return true;
    snprintf(path, sizeof path, "%s%s", r->section, r->key);
    return hf_config_fail(&m->cfg, path, e, "%s is %s, but there is %s tensor %s: " OTHER_MODEL,
                          path, r->says, r->wanted ? "no" : "a", name);
}

static const char *truth(bool is)
{
    return is ? "true" : "false";
}

static bool check_biases(const struct model *m, const char *section, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    bool qwen2 = strcmp(c->model_type, "qwen2") == 0;
    const struct presence_rule rules[] = {
        {section, qwen2 ? "model_type" : "attention_bias",
         qwen2 ? "\"qwen2\", which has biases" : truth(c->qkv_bias), c->qkv_bias, m->layout->text,
         "layers.0.self_attn.q_proj.bias"},
        {section, "mlp_bias", truth(c->mlp_bias), c->mlp_bias, m->layout->text,
         "layers.0.mlp.gate_proj.bias"},
    };

    return check_presence(m, &rules[0], e) && check_presence(m, &rules[1], e);
}

static bool check_text(const struct model *m, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const char *in = m->has_vision ? "text_config." : "", *at = m->layout->text;
    int64_t dh = c->head_dim, H = c->num_attention_heads, G = c->num_key_value_heads;
    const struct size_rule rules[] = {
        {in, "vocab_size", c->vocab_size, .prefix = at, "embed_tokens.weight", 0},
        {in, "hidden_size", c->hidden_size, .prefix = at, "embed_tokens.weight", 1},
        {in, "intermediate_size", c->intermediate_size, .prefix = at,
         "layers.0.mlp.gate_proj.weight", 0},
        {in, "num_attention_heads", H, "head_dim", dh, H * dh, at,
         "layers.0.self_attn.q_proj.weight", 0},
        {in, "num_key_value_heads", G, "head_dim", dh, G * dh, at,
         "layers.0.self_attn.k_proj.weight", 0},
    };

    return check_sizes(m, rules, sizeof rules / sizeof *rules, e) &&
           check_layers(m, in, c->num_hidden_layers, at, e) && check_biases(m, in, e);
}

/* The projector takes the features of all layers that are named. */
static bool check_features(const struct model *m, struct err *e)
{
    static const char key[] = "vision_feature_layer";
    const struct st_tensor *t;
    char name[300], shape[128];

    snprintf(name, sizeof name, "%slinear_1.weight", m->layout->projector);
    t = model_find_tensor(m, name);
    if (!t || t->ndim != 2 || t->dim[1] == hf_feature_width(&m->cfg)) return true;
    shape_text(t->dim, t->ndim, shape, sizeof shape);
    return hf_config_fail(
        &m->cfg, key, e,
        "%s names %d of the tower's layers, which with hidden_size %lld make %lld, "
        "but tensor %s is [%s]: " OTHER_MODEL,
        key, m->cfg.feature_count, (long long)m->cfg.vision.hidden_size,
        (long long)hf_feature_width(&m->cfg), name, shape);
}

static bool check_vision(const struct model *m, struct err *e)
{
    static const char in[] = "vision_config.";
    const struct vision_config *c = &m->cfg.vision;
    const char *at = m->layout->vision;
    int64_t side = c->image_size / c->patch_size;
    char encoder[300];
    const struct size_rule rules[] = {
        {in, "hidden_size", c->hidden_size, .prefix = at, "embeddings.class_embedding", 0},
        {in, "intermediate_size", c->intermediate_size, .prefix = at,
         "encoder.layers.0.mlp.fc1.weight", 0},
        {in, "num_channels", c->num_channels, .prefix = at, "embeddings.patch_embedding.weight", 1},
        {in, "patch_size", c->patch_size, .prefix = at, "embeddings.patch_embedding.weight", 3},
        {in, "image_size", c->image_size, "a class token and a patch_size of", c->patch_size,
         side * side + 1, at, "embeddings.position_embedding.weight", 0},
    };

    const struct presence_rule bias = {"",
                                       "multimodal_projector_bias",
                                       truth(m->cfg.multimodal_projector_bias),
                                       m->cfg.multimodal_projector_bias,
                                       m->layout->projector,
                                       "linear_1.bias"};

    snprintf(encoder, sizeof encoder, "%sencoder.", at);
    return check_sizes(m, rules, sizeof rules / sizeof *rules, e) &&
           check_layers(m, in, c->num_hidden_layers, encoder, e) && check_features(m, e) &&
           check_presence(m, &bias, e);
}

bool model_check_settings(const struct model *m, struct err *e)
{
    return check_text(m, e) && (!m->has_vision || check_vision(m, e));
}
