/* save.c - writes a model to a Hugging Face directory: streamed tensor by tensor, with config.json
 * last, so that a directory with a config.json is complete. */
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/signals.h"
#include "model/export.h"
#include "model/family/family.h"
#include "model/latents.h"
#include "model/pairs.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM = 1 << 16 }; /* values converted at a time */

static const enum st_dtype file_dtypes[] = {
    [DT_F32] = ST_F32, [DT_F64] = ST_F64, [DT_BF16] = ST_BF16, [DT_F16] = ST_F16};

/* A tensor of the file: one parameter, or several that are its consecutive rows. */
struct whole {
    const struct param *p;
    int parts;
    enum st_dtype dtype;
    const char *name;
};

/* Whether any of its parts was computed or trained. Rows that were only moved still have the file's
 * values, in its dtype, unless that is fp32. */
static bool is_changed(const struct param *p, int parts)
{
    return (p->own && p->t.dtype == DT_F32) || (parts > 1 && is_changed(p + 1, parts - 1));
}

/* Whether the files that a delta builds on contain p unchanged and under its name (v_proj's rows,
 * for example, continue as up_v). */
static bool in_base(const struct model *m, const struct param *p)
{
    const struct st_tensor *t = st_model_find(m->base.count ? &m->base : &m->files, p->name);
    const char *data = p->t.data;

    return t && !p->own && data >= (const char *)t->data && data < (const char *)t->data + t->bytes;
}

static bool all_in_base(const struct model *m, const struct param *p, int parts)
{
    for (int k = 0; k < parts; k++)
        if (!in_base(m, p + k)) return false;
    return true;
}

/* The published code loads its conversions strictly, and asks for lm_head even if that is the
 * embeddings. NULL: no extra tensor needed. */
static const char *extra_head(const struct model *m)
{
    return m->state == ATTN_FULL || m->head != m->embed ? NULL : m->layout->head;
}

static int64_t list_tensors(const struct model *m, enum dtype own, bool delta, struct whole *list)
{
    int64_t n = 0;

    for (int64_t i = 0; i < m->n_params;) {
        const struct param *p = &m->params[i];
        int parts = 1;
        while (i + parts < m->n_params && strcmp(p[parts].name, p->name) == 0)
            parts++;
        bool changed = is_changed(p, parts);
        if (!delta || !all_in_base(m, p, parts))
            list[n++] = (struct whole){
                p, parts, changed ? file_dtypes[own] : file_dtypes[p->t.dtype], p->name};
        i += parts;
    }
    if (!delta && extra_head(m)) {
        CHECK(list[0].p == m->embed);
        list[n] = list[0];
        list[n++].name = extra_head(m);
    }
    return n;
}

static bool write_part(struct st_writer *w, size_t index, const struct param *p,
                       enum st_dtype dtype, struct err *e)
{
    int64_t count = tensor_count(&p->t);
    float *buf;
    bool ok = true;

    if (file_dtypes[p->t.dtype] == dtype)
        return st_write_raw(w, index, p->t.data, (size_t)count * dtype_size(p->t.dtype), e);
    buf = mem_new(STREAM, sizeof *buf, "writing a model", e);
    if (!buf) return false;
    for (int64_t i = 0; ok && i < count; i += STREAM) {
        int64_t n = count - i < STREAM ? count - i : STREAM;
        tensor_to_real(&p->t, i, n, buf);
        ok = st_write_f32(w, index, buf, (size_t)n, e);
    }
    free(buf);
    return ok;
}

static bool write_tensors(const struct model *m, const char *dir, enum dtype own, bool delta,
                          struct err *e)
{
    size_t most = (size_t)m->n_params + 1;
    struct whole *list = mem_new(most, sizeof *list, "tensor list", e);
    struct st_spec *specs = mem_new(most, sizeof *specs, "tensor list", e);
    struct st_writer w = {0};
    bool ok = list && specs;
    int64_t n = ok ? list_tensors(m, own, delta, list) : 0;

    for (int64_t i = 0; ok && i < n; i++) {
        const struct param *p = list[i].p;
        specs[i] = (struct st_spec){.name = list[i].name, .dtype = list[i].dtype, .ndim = p->ndim};
        memcpy(specs[i].dim, p->dim, sizeof p->dim);
    }
    ok = ok && st_write_model_begin(&w, dir, specs, (size_t)n, NULL, 0, e);
    for (int64_t i = 0; ok && i < n; i++)
        for (int k = 0; ok && k < list[i].parts; k++)
            ok = signals_go_on(e) && write_part(&w, (size_t)i, list[i].p + k, list[i].dtype, e);
    if (ok)
        ok = st_write_end(&w, e);
    else
        st_write_abort(&w);
    free(list);
    free(specs);
    return ok;
}

static bool keep_file(const char *dir, const char *name, struct err *e)
{
    char *path = file_join(dir, name, e);
    bool ok = path && watch_keep(path, e);

    free(path);
    return ok;
}

static bool keep_model(const char *dir, const struct st_model *files, struct err *e)
{
    bool ok = keep_file(dir, "config.json", e) &&
              keep_file(dir, "model.safetensors.index.json", e) && model_keep_copied(dir, e);

    for (size_t i = 0; ok && i < files->file_count; i++)
        ok = watch_keep(files->files[i].path, e);
    return ok;
}

/* The sum64 of each file of weights, in the model's order; the caller frees it. */
static char *weights_sums(const struct st_model *files, struct err *e)
{
    char *all = mem_strdup("", e), hex[17];

    for (size_t i = 0; all && i < files->file_count; i++) {
        char *more = watch_sum(files->files[i].path, hex, e)
                         ? mem_printf(e, "%s%s%s", all, i ? " " : "", hex)
                         : NULL;
        free(all);
        all = more;
    }
    return all;
}

char *model_sums(const struct model *m, struct err *e)
{
    char *own = weights_sums(&m->files, e), *base = own ? weights_sums(&m->base, e) : NULL;
    char *json = base ? cJSON_PrintUnformatted(m->cfg.json) : NULL;
    char *hex = json ? mem_new(1, 65, "checksums", e) : NULL;
    struct sha256 sum;

    if (base && !json) err_set(e, "%s: out of memory", m->dir);
    if (hex) {
        sha256_init(&sum);
        sha256_add(&sum, json, strlen(json));
        sha256_add(&sum, own, strlen(own));
        sha256_add(&sum, base, strlen(base));
        sha256_hex(&sum, hex);
    }
    free(json);
    free(own);
    free(base);
    return hex;
}

/* Changed tensors in other weights than they came from would be a model that nobody made. */
static bool check_base(const struct model *m, struct err *e)
{
    char *now = m->cfg.mha2mla.base_sum ? weights_sums(&m->base, e) : NULL;
    bool ok = !m->cfg.mha2mla.base_sum ||
              (now && (strcmp(now, m->cfg.mha2mla.base_sum) == 0 ||
                       err_set(e,
                               "%s/config.json: mha2mla.base: %s has other weights than those that "
                               "this model was made from: put them back, or give their directory",
                               m->dir, m->base_dir)));

    free(now);
    return ok;
}

bool model_keep_files(const struct model *m, struct err *e)
{
    return keep_model(m->dir, &m->files, e) &&
           (!m->base_dir || (keep_model(m->base_dir, &m->base, e) && check_base(m, e)));
}

/* The directory with everything except the changed tensors. */
static const char *base_dir(const struct model *m)
{
    return m->base_dir ? m->base_dir : m->dir;
}

static bool write_base(const struct model *m, cJSON *section, struct err *e)
{
    char *sums = weights_sums(m->base_dir ? &m->base : &m->files, e);
    bool ok = sums && hf_set_key(section, "base", cJSON_CreateString(base_dir(m)), e) &&
              hf_set_key(section, "base_sum", cJSON_CreateString(sums), e);

    free(sums);
    return ok;
}

static void drop_base(cJSON *section)
{
    cJSON_DeleteItemFromObjectCaseSensitive(section, "base");
    cJSON_DeleteItemFromObjectCaseSensitive(section, "base_sum");
}

/* The published code finds a stage-2 checkpoint's kept pairs through the config of its stage-1
 * checkpoint, which must also have the training keys. */
static const char stage1[] = "stage1";

static bool write_stage1(struct hf_config *c, cJSON *section, const char *dir, struct err *e)
{
    char *sub = file_join(dir, stage1, e), *path = sub ? file_join(sub, "config.json", e) : NULL;
    bool ok = path && file_mkdirs(sub, e) &&
              hf_set_key(section, "svd_init_method", cJSON_CreateString("none"), e) &&
              hf_set_key(section, "low_rank", cJSON_CreateNumber(0), e) &&
              hf_config_write(c, path, e);

    free(sub);
    free(path);
    return ok;
}

/* Adds what the published code needs to open the directory, which is more than we need. */
static bool write_for_published(const struct model *m, const struct hf_config *c, const char *dir,
                                cJSON *section, struct err *e)
{
    struct hf_config copy = {0};
    bool ok = model_save_ranks(m, dir, section, e);

    cJSON_DeleteItemFromObjectCaseSensitive(section, "stage1_path");
    cJSON_DeleteItemFromObjectCaseSensitive(section, "svd_init_weight_path");
    if (!ok || m->state != ATTN_MLA || !m->decoupled) return ok;
    ok = hf_config_copy(&copy, c, e) &&
         write_stage1(&copy, cJSON_GetObjectItemCaseSensitive(copy.json, "mha2mla"), dir, e);
    hf_config_free(&copy);
    return ok && hf_set_key(section, "stage1_path", cJSON_CreateString(stage1), e) &&
           hf_set_key(section, "svd_init_weight_path", cJSON_CreateString(""), e);
}

static bool write_config(const struct model *m, const char *dir, bool delta, struct err *e)
{
    char *path = file_join(dir, "config.json", e);
    struct hf_config c = {0};
    cJSON *section;
    bool ok = path && hf_config_copy(&c, &m->cfg, e) && export_withdraw(m, c.json, e);

    if (ok && (section = cJSON_GetObjectItemCaseSensitive(c.json, "mha2mla"))) {
        if (m->pairs) ok = hf_set_key(section, "rope_pairs", model_pairs_json(m), e);
        if (m->latents) ok = ok && hf_set_key(section, "latents", model_latents_json(m), e);
        if (delta)
            ok = ok && write_base(m, section, e);
        else
            drop_base(section);
        if (ok && m->pairs && !delta)
            ok = write_for_published(m, &c, dir, section, e) && export_announce(m, c.json, e);
    }
    ok = ok && hf_config_write(&c, path, e);
    hf_config_free(&c);
    free(path);
    return ok;
}

bool model_move_base(const char *dir, const char *was, const char *now, bool *changed,
                     struct err *e)
{
    char *path = file_join(dir, "config.json", e);
    struct hf_config c = {0};
    bool ok = path && hf_config_read(&c, path, e);

    *changed = ok && c.has_mha2mla && c.mha2mla.base && strcmp(c.mha2mla.base, was) == 0;
    if (*changed)
        ok = hf_set_key(cJSON_GetObjectItemCaseSensitive(c.json, "mha2mla"), "base",
                        cJSON_CreateString(now), e) &&
             hf_config_write(&c, path, e);
    hf_config_free(&c);
    free(path);
    return ok;
}

bool model_save(const struct model *m, const char *dir, enum dtype own, bool delta, struct err *e)
{
    CHECK(!delta || (m->dir && m->cfg.has_mha2mla));
    if (!file_mkdirs(dir, e)) return false;
    if (m->dir && !delta && !model_copy_files(base_dir(m), dir, e)) return false;
    return write_tensors(m, dir, own, delta, e) &&
           (delta || !export_wanted(m) || export_write(dir, e)) && write_config(m, dir, delta, e);
}
