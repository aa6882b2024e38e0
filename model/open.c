/* open.c - opens a model from its directory, or creates one with random weights. */
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/signals.h"
#include "model/family/family.h"
#include "model/files/model_dir.h"
#include "model/latents.h"
#include "model/pairs.h"
#include "model/open_parts.h"
#include "model/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Changed tensors take precedence over those of the base. */
const struct st_tensor *model_find_tensor(const struct model *m, const char *name)
{
    const struct st_tensor *t = st_model_find(&m->files, name);

    return t || !m->base.count ? t : st_model_find(&m->base, name);
}

/* ---- which state attention is in, by the tensors present ---- */
static const struct st_tensor *find_in_layer0(const struct model *m, const char *tensor)
{
    char name[300];

    snprintf(name, sizeof name, "%slayers.0.self_attn.%s", m->layout->text, tensor);
    return st_model_find(&m->files, name);
}

/* The method of the factors, by the tensors present. */
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
    return model_open_latents(m, e);
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
    m->cross = hf_is_cross(&m->cfg.mha2mla);
    if (m->rope_dim < 2)
        return hf_config_fail(&m->cfg, "mha2mla.rope_dim_for_mla", e,
                              "mha2mla.rope_dim_for_mla is %lld; allowed: 2 or more",
                              (long long)m->rope_dim);
    m->decoupled = find_in_layer0(m, "kv_proj_text.up_k.weight");
    if (!find_method(m, e)) return false;
    m->state = m->decoupled || m->method != KV_NONE ? ATTN_MLA : ATTN_PARTIAL;
    return model_open_pairs(m, e);
}

/* The config of a directory of changed tensors says where the others are. */
static bool open_base(struct model *m, struct err *e)
{
    if (!m->cfg.has_mha2mla || !m->cfg.mha2mla.base) return true;
    m->base_dir = mem_strdup(m->cfg.mha2mla.base, e);
    if (!m->base_dir) return false;
    if (!m->cfg.mha2mla.base_sum &&
        !model_note(m, e,
                    "%s/config.json: mha2mla.base_sum: missing: the weights in %s are taken "
                    "as they are",
                    m->dir, m->base_dir))
        return false;
    return (model_dir_check(m->base_dir, e) && st_model_open(&m->base, m->base_dir, e)) ||
           err_context(e, "%s/config.json: mha2mla.base", m->dir);
}

/* ---- loading ---- */
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
    if (!same) return t->bytes ? shape_error(p, t, e) : model_refuse_empty(t, e);
    for (size_t i = 0; t->aligned && i < sizeof usable / sizeof *usable; i++) {
        if (usable[i].file != t->dtype) continue;
        p->t.dtype = usable[i].dtype;
        p->t.data = (char *)(uintptr_t)t->data + (size_t)(p->row0 * width) * dtype_size(p->t.dtype);
        return true;
    }
    return param_alloc(p, DT_F32, e) &&
           st_read_f32(t, (size_t)(p->row0 * width), (size_t)count, p->own, e);
}

/* Whether config.json and the tensors' names belong to one model, with nothing left over. */
static bool match(struct model *m, struct err *e)
{
    return (model_choose_names(m, e) && model_check_settings(m, e) && find_state(m, e) &&
            params_declare(m, e) && model_check_tensors(m, e)) ||
           model_dir_blame_index(m->dir, &m->files, e);
}

static bool load(struct model *m, struct err *e)
{
    for (int64_t i = 0; i < m->n_params; i++)
        if (!load_param(&m->params[i], model_param_tensor(m, &m->params[i]), e)) return false;
    return true;
}

/* Notes files that look like the model's but are not. */
static bool note_files(struct model *m, struct err *e)
{
    char *names;
    size_t n;
    bool ok = model_dir_unused(m->dir, &m->files, &names, &n, e);

    if (ok && n)
        ok = model_note(m, e, "%s: %zu file%s of weights %s not used: %s", m->dir, n,
                        n > 1 ? "s" : "", n > 1 ? "are" : "is", names);
    free(names);
    return ok;
}

bool model_open(struct model *m, const char *dir, struct err *e)
{
    char *config = file_join(dir, "config.json", e);
    bool ok;

    memset(m, 0, sizeof *m);
    m->dir = config ? mem_strdup(dir, e) : NULL;
    ok = m->dir && model_dir_check(dir, e) && hf_config_read(&m->cfg, config, e);
    free(config);
    if (ok) {
        ok = st_model_open(&m->files, dir, e) && open_base(m, e) && match(m, e) && load(m, e) &&
             note_files(m, e);
    }
    if (!ok) model_close(m);
    return ok;
}

/* ---- a new model ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Norm weights start at 1 and biases at 0, as in transformers; everything else is normal. */
static void init_param(struct param *p, double deviation, struct rng *r)
{
    bool one = p->ndim == 1 && ends_with(p->name, "weight");
    bool zero = p->ndim == 1 && ends_with(p->name, "bias");

    for (int64_t i = 0; i < tensor_count(&p->t); i++)
        tensor_real(&p->t)[i] = one ? 1 : zero ? 0 : (float)(deviation * rng_normal(r));
}

bool model_declare(struct model *m, struct hf_config *cfg, struct err *e)
{
    *m = (struct model){.cfg = *cfg};
    memset(cfg, 0, sizeof *cfg);
    m->rope_dim = m->cfg.text.head_dim;
    m->layout = m->cfg.family->layouts;
    if (params_declare(m, e)) return true;
    model_close(m);
    return false;
}

bool model_random(struct model *m, struct hf_config *cfg, uint64_t seed, struct err *e)
{
    struct rng r;
    bool ok = model_declare(m, cfg, e);

    rng_seed(&r, seed, 1);
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
    free(m->tower);
    free(m->latents);
    free(m->rope_dims);
    free(m->pairs);
    free(m->q_pairs);
    free(m->dir);
    free(m->base_dir);
    for (size_t i = 0; i < m->n_notes; i++)
        free(m->notes[i]);
    free(m->notes);
    st_model_close(&m->files);
    st_model_close(&m->base);
    hf_config_free(&m->cfg);
    memset(m, 0, sizeof *m);
}

void model_vision_hash(const struct model *m, char hex[65])
{
    struct sha256 s;

    sha256_init(&s);
    m->cfg.family->hash(&m->cfg, &s);
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        if (p->kind != PARAM_VISION) continue;
        sha256_add(&s, p->name, strlen(p->name));
        sha256_add(&s, p->t.data, (size_t)tensor_count(&p->t) * dtype_size(p->t.dtype));
    }
    sha256_hex(&s, hex);
}
