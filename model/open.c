/* open.c - a model from its directory, or new with random weights. */
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/signals.h"
#include "model/pairs.h"
#include "model/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Buffers that older checkpoints carry and that are computed anew. */
static const char *const ignored_ends[] = {"rotary_emb.inv_freq", "embeddings.position_ids"};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && strcmp(s + n - k, end) == 0;
}

/* The changed tensors go before those of the base. */
const struct st_tensor *model_find_tensor(const struct model *m, const char *name)
{
    const struct st_tensor *t = st_model_find(&m->files, name);

    return t || !m->base.count ? t : st_model_find(&m->base, name);
}

static const struct st_tensor *find_in_layer0(const struct model *m, const char *tensor)
{
    char name[300];

    snprintf(name, sizeof name, "%slayers.0.self_attn.%s", m->layout->text, tensor);
    return st_model_find(&m->files, name);
}

static bool choose_layout(struct model *m, struct err *e)
{
    char name[300];

    for (m->layout = name_layouts; m->layout->text; m->layout++) {
        if (!m->has_vision != !m->layout->vision) continue;
        snprintf(name, sizeof name, "%sembed_tokens.weight", m->layout->text);
        if (!model_find_tensor(m, name)) continue;
        snprintf(name, sizeof name, "%sembeddings.class_embedding", m->layout->vision);
        if (!m->has_vision || model_find_tensor(m, name)) return true;
    }
    return err_set(
        e,
        "%s: model_type is \"%s\", but no tensor ...embed_tokens.weight%s has a name that "
        "such a model gives it; the first tensor is %s",
        m->cfg.file, m->cfg.family->model_type,
        m->has_vision ? " or ...embeddings.class_embedding" : "",
        m->files.count ? m->files.tensors[0]->name : "none");
}

/* Which method the factors are of, by the tensors that are there. */
static bool find_method(struct model *m, struct err *e)
{
    const char *set = m->decoupled ? "kv_proj_text" : "kv_proj";
    static const char *const downs[] = {"down_kv", "down_k", "down_v"};
    const struct st_tensor *t[3];
    int last = -1;

    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%s.weight", set, downs[i]);
        t[i] = find_in_layer0(m, name);
        if (t[i]) last = i;
    }
    m->method = t[0]           ? KV_JOINT
                : t[1] && t[2] ? KV_SPLIT
                : t[1]         ? KV_ONLY_KEY
                : t[2]         ? KV_ONLY_VALUE
                               : KV_NONE;
    if (last >= 0) {
        if (t[last]->ndim != 2 || t[last]->dim[0] < 1)
            return err_set(e, "%s: %s: a matrix is needed", t[last]->file, t[last]->name);
        m->latent = t[last]->dim[0];
    }
    return true;
}

static bool find_state(struct model *m, struct err *e)
{
    m->rope_dim = m->cfg.text.head_dim;
    if (!find_in_layer0(m, "k_r_proj.weight")) {
        m->state = ATTN_FULL;
        return true;
    }
    if (!m->cfg.has_mha2mla)
        return err_set(
            e, "%s/config.json: mha2mla: missing, but the tensors are a converted model's", m->dir);
    m->rope_dim = m->cfg.mha2mla.rope_dim_for_mla;
    if (m->rope_dim < 2)
        return err_set(e, "%s/config.json: mha2mla.rope_dim_for_mla: must be 2 or more, found %lld",
                       m->dir, (long long)m->rope_dim);
    m->decoupled = find_in_layer0(m, "kv_proj_text.up_k.weight");
    if (!find_method(m, e)) return false;
    m->state = m->decoupled || m->method != KV_NONE ? ATTN_MLA : ATTN_PARTIAL;
    return model_open_pairs(m, e);
}

/* A directory of changed tensors says in its config where the others are. */
static bool open_base(struct model *m, struct err *e)
{
    if (!m->cfg.has_mha2mla || !m->cfg.mha2mla.base) return true;
    m->base_dir = mem_strdup(m->cfg.mha2mla.base, e);
    return m->base_dir && st_model_open(&m->base, m->base_dir, e);
}

static bool shape_error(const struct param *p, const struct st_tensor *t, struct err *e)
{
    char want[128], found[128];

    shape_text(p->dim, p->ndim, want, sizeof want);
    shape_text(t->dim, t->ndim, found, sizeof found);
    return err_set(e,
                   "%s: tensor %s: has shape [%s], by config.json it must be [%s]: one of the two "
                   "is of another model",
                   t->file, t->name, found, want);
}

static bool load_param(struct param *p, const struct st_tensor *t, struct err *e)
{
    static const struct {
        enum st_dtype file;
        enum dtype dtype;
    } usable[] = {{ST_F32, DT_F32}, {ST_BF16, DT_BF16}, {ST_F16, DT_F16}};
    int64_t width = p->ndim == 1 ? 1 : p->t.cols, count = tensor_count(&p->t);
    bool same = t->ndim == p->ndim;

    for (int i = 0; same && i < p->ndim; i++)
        same = t->dim[i] == p->dim[i];
    if (!same) return shape_error(p, t, e);
    for (size_t i = 0; t->aligned && i < sizeof usable / sizeof *usable; i++) {
        if (usable[i].file != t->dtype) continue;
        p->t.dtype = usable[i].dtype;
        p->t.data = (char *)(uintptr_t)t->data + (size_t)(p->row0 * width) * dtype_size(p->t.dtype);
        return true;
    }
    return param_alloc(p, DT_F32, e) &&
           st_read_f32(t, (size_t)(p->row0 * width), (size_t)count, p->own, e);
}

static bool is_used(const struct model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_params; i++)
        if (strcmp(m->params[i].name, name) == 0) return true;
    for (size_t i = 0; i < sizeof ignored_ends / sizeof *ignored_ends; i++)
        if (ends_with(name, ignored_ends[i])) return true;
    return m->cfg.text.tie_word_embeddings && ends_with(name, "lm_head.weight");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names the first tensor that no parameter wants. */
static bool check_unused(const struct model *m, struct err *e)
{
    const char **names = mem_new((size_t)m->n_params, sizeof *names, "parameter names", e);
    bool ok = names;

    for (int64_t i = 0; ok && i < m->n_params; i++)
        names[i] = m->params[i].name;
    if (ok) qsort(names, (size_t)m->n_params, sizeof *names, by_name);
    for (size_t i = 0; ok && i < m->files.count; i++) {
        const struct st_tensor *t = m->files.tensors[i];
        if (bsearch(&t->name, names, (size_t)m->n_params, sizeof *names, by_name)) continue;
        if (!is_used(m, t->name))
            ok = err_set(e,
                         "%s: tensor %s: is not used by a model of this config.json: remove it, or "
                         "use the config.json that belongs to it",
                         t->file, t->name);
    }
    free(names);
    return ok;
}

static bool load(struct model *m, struct err *e)
{
    if (!params_declare(m, e)) return false;
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = &m->params[i];
        const struct st_tensor *t = model_find_tensor(m, p->name);
        if (!t)
            return err_set(
                e,
                "%s: tensor %s is missing: the files are not complete, or config.json is "
                "another model's",
                m->dir, p->name);
        if (!load_param(p, t, e)) return false;
    }
    return check_unused(m, e);
}

bool model_open(struct model *m, const char *dir, struct err *e)
{
    char *config = file_join(dir, "config.json", e);
    bool ok;

    memset(m, 0, sizeof *m);
    m->dir = config ? mem_strdup(dir, e) : NULL;
    ok = m->dir && hf_config_read(&m->cfg, config, e);
    free(config);
    if (ok) {
        m->has_vision = m->cfg.family->vision;
        ok = st_model_open(&m->files, dir, e) && open_base(m, e) && choose_layout(m, e) &&
             model_check_settings(m, e) && find_state(m, e) && load(m, e);
    }
    if (!ok) model_close(m);
    return ok;
}

/* Vectors of norms start at 1, biases and class tokens as HF does; the rest is normal. */
static void init_param(struct param *p, double deviation, struct rng *r)
{
    bool one = p->ndim == 1 && ends_with(p->name, "weight");
    bool zero = p->ndim == 1 && ends_with(p->name, "bias");

    for (int64_t i = 0; i < tensor_count(&p->t); i++)
        tensor_real(&p->t)[i] = one ? 1 : zero ? 0 : (float)(deviation * rng_normal(r));
}

bool model_random(struct model *m, struct hf_config *cfg, uint64_t seed, struct err *e)
{
    struct rng r;
    bool ok;

    memset(m, 0, sizeof *m);
    m->cfg = *cfg;
    memset(cfg, 0, sizeof *cfg);
    m->has_vision = m->cfg.family->vision;
    m->rope_dim = m->cfg.text.head_dim;
    m->layout = name_layouts;
    while (!m->has_vision != !m->layout->vision)
        m->layout++;
    rng_seed(&r, seed, 1);
    ok = params_declare(m, e);
    for (int64_t i = 0; ok && i < m->n_params; i++) {
        ok = signals_go_on(e) && param_alloc(&m->params[i], DT_F32, e);
        if (ok) init_param(&m->params[i], m->cfg.text.initializer_range, &r);
    }
    if (!ok) model_close(m);
    return ok;
}

void model_close(struct model *m)
{
    params_free(m->params, m->n_params);
    free(m->layers);
    free(m->vision.layers);
    free(m->pairs);
    free(m->q_pairs);
    free(m->dir);
    free(m->base_dir);
    st_model_close(&m->files);
    st_model_close(&m->base);
    hf_config_free(&m->cfg);
    memset(m, 0, sizeof *m);
}

void model_vision_hash(const struct model *m, char hex[65])
{
    const struct vision_config *c = &m->cfg.vision;
    const double settings[] = {(double)c->num_attention_heads, (double)c->image_size,
                               (double)c->patch_size, c->layer_norm_eps, c->hidden_act};
    struct sha256 s;

    sha256_init(&s);
    sha256_add(&s, settings, sizeof settings);
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        if (p->kind != PARAM_VISION) continue;
        sha256_add(&s, p->name, strlen(p->name));
        sha256_add(&s, p->t.data, (size_t)tensor_count(&p->t) * dtype_size(p->t.dtype));
    }
    sha256_add(&s, &m->cfg.vision_feature_layer, sizeof m->cfg.vision_feature_layer);
    sha256_add(&s, &m->cfg.vision_feature_full, sizeof m->cfg.vision_feature_full);
    sha256_hex(&s, hex);
}
