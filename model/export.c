/* export.c - see export.h. */
#include "model/export.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/sample.h"
#include "model/family/family.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* The file's class for a family has the name of transformers' own behind this. */
static const char prefix[] = "Mha2mla";
enum { PREFIX = sizeof prefix - 1 };

bool export_is_class(const struct family *f, const char *name)
{
    return strncmp(name, prefix, PREFIX) == 0 && strcmp(name + PREFIX, f->architecture) == 0;
}

bool export_wanted(const struct model *m)
{
    return m->pairs && m->cfg.has_mha2mla;
}

bool export_write(const char *dir, struct err *e)
{
    char *path = file_join(dir, EXPORT_FILE, e);
    bool ok = path && file_write(path, export_bytes, export_size, e);

    free(path);
    return ok;
}

/* The ids whose tokens are of the modality image. */
static cJSON *image_tokens(const struct model *m)
{
    struct picture_places p;
    int ids[3], n = 0;

    family_places(&m->cfg, &p);
    for (int i = -1; i < 2; i++) {
        int32_t id = i < 0 ? p.id : p.around[i];
        if (p.id >= 0 && id >= 0) ids[n++] = id;
    }
    return cJSON_CreateIntArray(ids, n);
}

static bool set_modeling(const struct model *m, cJSON *section, struct err *e)
{
    const bool mla = m->state == ATTN_MLA;
    const enum kv_method method = mla ? m->method : KV_NONE;
    const double latent = method == KV_NONE ? 0 : (double)m->latent;
    cJSON *o = cJSON_CreateObject();

    return hf_set_key(section, "modeling", o, e) &&
           hf_set_key(o, "method", cJSON_CreateString(kv_method_names[method]), e) &&
           hf_set_key(o, "latent", cJSON_CreateNumber(latent), e) &&
           hf_set_key(o, "decoupled", cJSON_CreateBool(mla && m->decoupled), e) &&
           hf_set_key(o, "image_tokens", image_tokens(m), e);
}

static bool set_class(cJSON *root, const char *name, struct err *e)
{
    return hf_set_key(root, "architectures", cJSON_CreateStringArray(&name, 1), e);
}

bool export_announce(const struct model *m, cJSON *root, struct err *e)
{
    const char *loader =
        hf_has_vision(&m->cfg) ? "AutoModelForImageTextToText" : "AutoModelForCausalLM";
    char *name = mem_printf(e, "%s%s", prefix, m->cfg.family->architecture);
    char *where = name ? mem_printf(e, EXPORT_MODULE ".%s", name) : NULL;
    cJSON *map = where ? cJSON_CreateObject() : NULL;
    bool ok = where && hf_set_key(root, "auto_map", map, e) &&
              hf_set_key(map, loader, cJSON_CreateString(where), e) && set_class(root, name, e) &&
              set_modeling(m, cJSON_GetObjectItemCaseSensitive(root, "mha2mla"), e);

    free(where);
    free(name);
    return ok;
}

bool export_withdraw(const struct model *m, cJSON *root, struct err *e)
{
    const char *name = cJSON_GetStringValue(
        cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(root, "architectures"), 0));

    if (!name || !export_is_class(m->cfg.family, name)) return true;
    cJSON_DeleteItemFromObjectCaseSensitive(root, "auto_map");
    cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "mha2mla"),
                                            "modeling");
    return set_class(root, m->cfg.family->architecture, e);
}
