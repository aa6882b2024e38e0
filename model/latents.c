/* latents.c - see latents.h. */
#include "model/latents.h"
#include "base/mem.h"
#include "model/config/hfconfig_parts.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool model_set_latents(struct model *m, const int64_t *latents, struct err *e)
{
    const int64_t L = m->cfg.text.num_hidden_layers;
    int64_t sum = 0;

    free(m->latents);
    m->latents = NULL;
    if (!latents) return true;
    m->latents = mem_new((size_t)L, sizeof *m->latents, "the latents' widths", e);
    if (!m->latents) return false;
    for (int64_t l = 0; l < L; l++)
        sum += m->latents[l] = latents[l];
    m->latent = sum / L;
    return true;
}

bool model_set_rope_dims(struct model *m, const int64_t *dims, struct err *e)
{
    const int64_t L = m->cfg.text.num_hidden_layers;
    int64_t sum = 0;
    bool alike = true;

    for (int64_t l = 0; l < L; l++) {
        sum += dims[l];
        alike = alike && dims[l] == dims[0];
    }
    m->rope_dim = sum / L;
    free(m->rope_dims);
    m->rope_dims = NULL;
    if (alike) return true;
    m->rope_dims = mem_new((size_t)L, sizeof *m->rope_dims, "the layers' rotated dims", e);
    if (m->rope_dims) memcpy(m->rope_dims, dims, (size_t)L * sizeof *dims);
    return m->rope_dims;
}

static bool bad_latents(const struct model *m, const char *what, struct err *e)
{
    return hf_config_fail(&m->cfg, "mha2mla.latents", e,
                          "mha2mla.latents: %s; needed is a width from 1 to %d for each of %" PRId64
                          " layers",
                          what, HF_MAX_WIDTH, m->cfg.text.num_hidden_layers);
}

static bool read_latents(struct model *m, const cJSON *list, int64_t *latents, struct err *e)
{
    const cJSON *width;
    int64_t n = 0;

    if (cJSON_GetArraySize(list) != m->cfg.text.num_hidden_layers)
        return bad_latents(m, "not a list with a number for each layer", e);
    cJSON_ArrayForEach(width, list)
    {
        const double v = cJSON_IsNumber(width) ? width->valuedouble : 0;
        if (!(v >= 1 && v <= HF_MAX_WIDTH) || v != (double)(int64_t)v)
            return bad_latents(m, "an entry that is not a width", e);
        latents[n++] = (int64_t)v;
    }
    return model_set_latents(m, latents, e);
}

bool model_open_latents(struct model *m, struct err *e)
{
    const cJSON *section = cJSON_GetObjectItemCaseSensitive(m->cfg.json, "mha2mla");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(section, "latents");
    int64_t *latents;
    bool ok;

    if (!list || m->method == KV_NONE) return true;
    latents = mem_new((size_t)m->cfg.text.num_hidden_layers, sizeof *latents, "latents", e);
    ok = latents && read_latents(m, list, latents, e);
    free(latents);
    return ok;
}

struct cJSON *model_latents_json(const struct model *m)
{
    cJSON *list = cJSON_CreateArray();
    bool ok = list;

    for (int64_t l = 0; ok && l < m->cfg.text.num_hidden_layers; l++)
        ok = cJSON_AddItemToArray(list, cJSON_CreateNumber((double)m->latents[l]));
    if (!ok) cJSON_Delete(list);
    return ok ? list : NULL;
}
