/* pairs.c - which RoPE pairs a converted model keeps rotated, as recorded in its directory. We list
 * them in config.json (rope_pairs). The published code derives them from the strategy, or from the
 * rank file named by qk_tensor_path; both are read, and also written for its sake. */
#include "model/pairs.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/params.h"
#include "model/strategy.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

int64_t model_first_rope_dim(const struct model *m)
{
    const cJSON *section = cJSON_GetObjectItemCaseSensitive(m->cfg.json, "mha2mla");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(section, "rope_pairs");
    const int n = cJSON_GetArraySize(cJSON_GetArrayItem(cJSON_GetArrayItem(list, 0), 0));

    return n > 0 ? 2 * (int64_t)n : m->cfg.mha2mla.rope_dim_for_mla;
}

static const char rank_file[] = "rope_ranks.pth";

struct rank_dims model_rank_dims(const struct model *m)
{
    const struct text_config *c = &m->cfg.text;

    return (struct rank_dims){c->num_hidden_layers, c->num_attention_heads, c->num_key_value_heads,
                              c->head_dim};
}

static bool bad_pairs(const struct model *m, const char *what, struct err *e)
{
    return hf_config_fail(
        &m->cfg, "mha2mla.rope_pairs", e,
        "mha2mla.rope_pairs: %s; needed is, for each layer%s, %lld %spairs in ascending order",
        what, m->cross ? "" : " and kv head", (long long)(m->rope_dim / 2),
        m->cross ? "" : "different ");
}

/* Of one key for all heads, each layer's list may have its own length; their mean is what the
 * settings say. */
static bool read_rope_dims(struct model *m, const cJSON *list, struct err *e)
{
    const int64_t L = m->cfg.text.num_hidden_layers, mean = m->rope_dim;
    int64_t *dims = mem_new((size_t)L, sizeof *dims, "the layers' rotated dims", e), l = 0, sum = 0;
    const cJSON *layer;
    bool ok = dims;

    if (!ok) return false;
    cJSON_ArrayForEach(layer, list) sum += dims[l++] =
        2 * cJSON_GetArraySize(cJSON_GetArrayItem(layer, 0));
    for (l = 0; ok && l < L; l++)
        ok = dims[l] > 0 || bad_pairs(m, "a layer without pairs", e);
    ok = ok && (sum == L * mean || bad_pairs(m, "another number of pairs in all", e)) &&
         model_set_rope_dims(m, dims, e);
    free(dims);
    return ok;
}

/* rope_pairs [L][K][dr/2], our addition to the section: the pairs that stay rotated. */
static bool read_pairs(struct model *m, const cJSON *list, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const cJSON *layer, *head, *pair;
    int64_t n = 0, l = 0;

    if (cJSON_GetArraySize(list) != c->num_hidden_layers)
        return bad_pairs(m, "not a list with an entry for each layer", e);
    if (m->cross && !read_rope_dims(m, list, e)) return false;
    cJSON_ArrayForEach(layer, list)
    {
        const int64_t kept = model_rope_dim(m, l++) / 2;
        if (cJSON_GetArraySize(layer) != model_rope_keys(m))
            return bad_pairs(m, "a layer without an entry for each rotated key", e);
        cJSON_ArrayForEach(head, layer)
        {
            int64_t last = m->cross ? 0 : -1;
            if (cJSON_GetArraySize(head) != kept)
                return bad_pairs(m, "a head with another number", e);
            cJSON_ArrayForEach(pair, head)
            {
                double v = cJSON_IsNumber(pair) ? pair->valuedouble : -1;
                if (!((m->cross ? v >= (double)last : v > (double)last) &&
                      v < (double)(c->head_dim / 2)) ||
                    v != (double)(int64_t)v)
                    return bad_pairs(m, "a number that is not a pair, or out of order", e);
                m->pairs[n++] = (int32_t)(last = (int64_t)v);
            }
        }
    }
    return true;
}

static enum rank_strategy strategy_of(const struct model *m)
{
    return rank_strategy_of(m->cfg.mha2mla.partial_rope_version);
}

/* Resolves qk_tensor_path: in the model's directory, with its whole path or just its name, or
 * relative to the working directory, as in the published code. NULL with *e set if not found. */
static char *find_ranks(const struct model *m, const char *named, struct err *e)
{
    const char *slash = strrchr(named, '/'), *name = slash ? slash + 1 : named;
    char *tries[] = {file_join(m->dir, named, e), file_join(m->dir, name, e), mem_strdup(named, e)};
    char *found = NULL;
    bool ok = true;

    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        bool there = false;
        ok = ok && tries[i] && (found || file_there(tries[i], &there, e));
        if (ok && there)
            found = tries[i];
        else
            free(tries[i]);
    }
    if (!ok) {
        free(found);
        return NULL;
    }
    if (!found)
        hf_config_fail(&m->cfg, "mha2mla.qk_tensor_path", e,
                       "mha2mla.rope_pairs: missing, and the file of qk_tensor_path, %s, is not "
                       "there; put it beside config.json as %s",
                       named, name);
    return found;
}

/* rank[L,G,P] from the file of qk_tensor_path. */
static bool read_ranks(const struct model *m, const struct rank_dims *n, int32_t *rank,
                       struct err *e)
{
    const char *named = m->cfg.mha2mla.qk_tensor_path;
    char *path;
    bool ok;

    if (!named)
        return hf_config_fail(&m->cfg, "mha2mla", e,
                              "mha2mla.rope_pairs: missing, and so is qk_tensor_path; one of them "
                              "must say which pairs \"%s\" keeps",
                              m->cfg.mha2mla.partial_rope_version);
    path = find_ranks(m, named, e);
    ok = path && rankfile_read(path, n, rank, NULL, e);
    free(path);
    return ok;
}

/* The pairs of a section without a list of them. */
static bool ranked_pairs(struct model *m, struct err *e)
{
    const enum rank_strategy s = strategy_of(m);
    const struct rank_dims n = model_rank_dims(m);
    int32_t *rank = mem_new((size_t)(n.L * n.G * n.dh / 2), sizeof *rank, "ranks", e);
    bool ok =
        rank && (rank_strategy_kind(s) == RANK_KIND_FIXED
                     ? rank_fixed(rank, s, &n, m->rope_dim, m->cfg.mha2mla.uniform_start_point, e)
                     : read_ranks(m, &n, rank, e));

    if (ok) rank_select(m->pairs, rank, &n, m->rope_dim);
    free(rank);
    return ok;
}

bool model_open_pairs(struct model *m, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const cJSON *section = cJSON_GetObjectItemCaseSensitive(m->cfg.json, "mha2mla");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(section, "rope_pairs");
    int64_t n = c->num_hidden_layers * model_rope_keys(m) * m->rope_dim / 2;
    bool ok;

    m->pairs = mem_new((size_t)n, sizeof *m->pairs, "the kept RoPE pairs", e);
    if (!m->pairs) return false;
    if (!list && m->cross) return bad_pairs(m, "missing", e);
    ok = list ? read_pairs(m, list, e) : ranked_pairs(m, e);
    return ok && model_set_query_pairs(m, e);
}

struct cJSON *model_pairs_json(const struct model *m)
{
    int64_t L = m->cfg.text.num_hidden_layers, K = model_rope_keys(m);
    const int32_t *next = m->pairs;
    cJSON *list = cJSON_CreateArray();
    bool ok = list;

    for (int64_t l = 0; ok && l < L; l++) {
        cJSON *layer = cJSON_CreateArray();
        const int64_t kept = model_rope_dim(m, l) / 2;
        ok = cJSON_AddItemToArray(list, layer); /* fails if layer is NULL */
        for (int64_t k = 0; ok && k < K; k++, next += kept)
            ok = cJSON_AddItemToArray(layer, cJSON_CreateIntArray(next, (int)kept));
    }
    if (!ok) cJSON_Delete(list);
    return ok ? list : NULL;
}

bool model_save_ranks(const struct model *m, const char *dir, struct cJSON *section, struct err *e)
{
    const struct rank_dims n = model_rank_dims(m);
    char *path;
    bool ok;

    if (m->cross || rank_strategy_kind(strategy_of(m)) == RANK_KIND_FIXED) return true;
    path = file_join(dir, rank_file, e);
    ok = path && rankfile_write_kept(path, &n, m->pairs, m->rope_dim, e);
    free(path);
    cJSON_DeleteItemFromObjectCaseSensitive(section, "qk_tensor_path");
    return ok && (cJSON_AddStringToObject(section, "qk_tensor_path", rank_file) ||
                  err_set(e, "%s: out of memory", dir));
}
