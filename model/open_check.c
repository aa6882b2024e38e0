/* open_check.c - checks that config.json and the tensors belong to one model. Loading would
 * notice most mismatches, as a missing tensor or a wrong shape; here the message names the
 * setting at fault. */
#include "base/plural.h"
#include "model/family/family.h"
#include "model/open_parts.h"
#include "model/pairs.h"
#include "model/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void shape_text(const int64_t *dim, int n, char *text, size_t size)
{
    size_t at = 0;

    if (size) text[0] = '\0';
    for (int i = 0; i < n && at < size; i++) {
        int used = snprintf(text + at, size - at, "%s%lld", i ? ", " : "", (long long)dim[i]);
        at += used > 0 ? (size_t)used : 0;
    }
}

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

bool model_check_sizes(const struct model *m, const struct size_rule *rules, size_t n,
                       struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (!check_size(m, &rules[i], e)) return false;
    return true;
}

/* One more than the largest N in tensor names PREFIXN.*, or `most` if that is larger. */
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

bool model_check_layers(const struct model *m, const char *path, int64_t layers, const char *prefix,
                        struct err *e)
{
    int64_t found = count_layers(&m->base, prefix, count_layers(&m->files, prefix, 0));

    return found == layers ||
           hf_config_fail(&m->cfg, path, e,
                          "%s is %lld, but the tensors %s* have %lld layer%s: " OTHER_MODEL, path,
                          (long long)layers, prefix, (long long)found, plural(found));
}

bool model_check_presence(const struct model *m, const struct presence_rule *r, struct err *e)
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

const char *model_truth(bool is)
{
    return is ? "true" : "false";
}

static bool check_biases(const struct model *m, const char *section, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    char by_type[64];
    const struct presence_rule rules[] = {
        {section, c->bias_by_type ? "model_type" : "attention_bias",
         c->bias_by_type ? by_type : model_truth(c->qkv_bias), c->qkv_bias, m->layout->text,
         "layers.0.self_attn.q_proj.bias"},
        {section, "mlp_bias", model_truth(c->mlp_bias), c->mlp_bias, m->layout->text,
         "layers.0.mlp.gate_proj.bias"},
    };

    snprintf(by_type, sizeof by_type, "\"%s\", which has biases", c->model_type);
    return model_check_presence(m, &rules[0], e) && model_check_presence(m, &rules[1], e);
}

static bool check_text(const struct model *m, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const char *in = hf_has_vision(&m->cfg) ? "text_config." : "", *at = m->layout->text;
    int64_t dh = c->head_dim, H = c->num_attention_heads, G = c->num_key_value_heads;
    bool cross = m->cfg.has_mha2mla && hf_is_cross(&m->cfg.mha2mla);
    int64_t own = cross ? model_first_rope_dim(m) : 0; /* rotated dims besides the head's */
    char path[64], prefix[300];
    const struct size_rule rules[] = {
        {in, "vocab_size", c->vocab_size, .prefix = at, "embed_tokens.weight", 0},
        {in, "hidden_size", c->hidden_size, .prefix = at, "embed_tokens.weight", 1},
        {in, "intermediate_size", c->intermediate_size, .prefix = at,
         "layers.0.mlp.gate_proj.weight", 0},
        {in, "num_attention_heads", H, cross ? "head_dim + mha2mla.rope_dim_for_mla" : "head_dim",
         dh + own, H * (dh + own), at, "layers.0.self_attn.q_proj.weight", 0},
        {in, "num_key_value_heads", G, "head_dim", dh, G * dh, at,
         "layers.0.self_attn.k_proj.weight", 0},
    };

    snprintf(path, sizeof path, "%snum_hidden_layers", in);
    snprintf(prefix, sizeof prefix, "%slayers.", at);
    return model_check_sizes(m, rules, sizeof rules / sizeof *rules, e) &&
           model_check_layers(m, path, c->num_hidden_layers, prefix, e) && check_biases(m, in, e);
}

bool model_check_settings(const struct model *m, struct err *e)
{
    return check_text(m, e) && (!m->cfg.family->check || m->cfg.family->check(m, e));
}
