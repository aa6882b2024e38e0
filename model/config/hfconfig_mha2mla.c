/* hfconfig_mha2mla.c - the object "mha2mla" of config.json: how attention was changed. The
 * keys of published checkpoints keep their names and meaning, so that either program reads
 * the other's files. */
#include "model/config/choices.h"
#include "model/config/hfconfig_parts.h"

#include <string.h>

static const char *const versions[] = {RANK_VERSION_NAMES, NULL};
static const char *const svd_methods[] = {KV_METHOD_NAMES, NULL};
static const char *const calibrations[] = {MDSVD_NAMES, NULL};
static const char *const bases[] = {BASIS_NAMES, NULL};
static const char *const statistics[] = {KV_STATISTICS_NAMES, NULL};

#define ROW(member) HF_ROW(mha2mla_config, member)
#define SIZE_ROW(member, max, d)                                                                   \
    {                                                                                              \
        ROW(member), .kind = HF_INT, .lo = 0, .hi = max, .def = { d, d }                           \
    }
#define TEXT_ROW(member, list)                                                                     \
    {                                                                                              \
        ROW(member), .kind = HF_NAME, .nullable = true, .names = list                              \
    }
static const struct hf_field published[] = {
    {ROW(partial_rope_version), .kind = HF_NAME, .names = versions, .def_name = "high"},
    SIZE_ROW(rope_dim_for_mla, HF_MAX_COUNT, 0),
    SIZE_ROW(uniform_start_point, HF_MAX_COUNT, 0),
    TEXT_ROW(qk_tensor_path, NULL),
    {ROW(svd_init_method), .kind = HF_NAME, .names = svd_methods, .def_name = "none"},
    SIZE_ROW(low_rank, HF_MAX_WIDTH, 8),
    HF_BOOL_ROW(mha2mla_config, is_gqa2mha2mla, false),
    HF_BOOL_ROW(mha2mla_config, is_baseline, false),
    HF_BOOL_ROW(mha2mla_config, is_mla_from_scratch, false),
    TEXT_ROW(peft_train, NULL),
};
static const struct hf_field ours[] = {
    {ROW(decoupled), .kind = HF_BOOL, .def = {false, true}},
    TEXT_ROW(calibration, calibrations),
    TEXT_ROW(statistics, statistics),
    HF_BOOL_ROW(mha2mla_config, refit, false),
    TEXT_ROW(rope_basis, bases),
    TEXT_ROW(base, NULL),
    TEXT_ROW(base_sum, NULL),
};
enum { PUBLISHED = sizeof published / sizeof *published, OURS = sizeof ours / sizeof *ours };

bool hf_is_cross(const struct mha2mla_config *m)
{
    return m->rope_basis && strcmp(m->rope_basis, bases[BASIS_CROSS]) == 0;
}

bool hf_read_mha2mla(const struct hf_reader *whole, const cJSON *section,
                     const struct text_config *t, bool vision, struct mha2mla_config *m)
{
    struct hf_reader r = *whole;
    int64_t dr, most = t->head_dim;
    bool compressed, cross;

    r.prefix = "mha2mla.";
    if (!hf_read_fields(&r, section, published, PUBLISHED, 0, m)) return false;
    /* The published code has a latent per modality whenever there are latents and images. */
    compressed = strcmp(m->svd_init_method, "none") != 0;
    if (!hf_read_fields(&r, section, ours, OURS, compressed && vision, m)) return false;
    dr = m->rope_dim_for_mla;
    cross = hf_is_cross(m);
    if (cross) most *= t->num_key_value_heads;
    if (dr % 2 != 0 || dr > most)
        return hf_fail(&r, section, "rope_dim_for_mla",
                       "is %lld; allowed: an even number up to head_dim%s, which is %lld",
                       (long long)dr, cross ? " of all kv heads" : "", (long long)most);
    if (compressed && m->low_rank == 0)
        return hf_fail(&r, section, "low_rank",
                       "is 0; allowed: 1 or more where svd_init_method is %s", m->svd_init_method);
    if (strcmp(m->partial_rope_version, "uniform") == 0 && dr > 0 &&
        (t->head_dim % dr != 0 || m->uniform_start_point >= t->head_dim / dr))
        return hf_fail(
            &r, section, "uniform_start_point",
            "is %lld and rope_dim_for_mla %lld; allowed: a divisor of head_dim %lld, and "
            "a start below their quotient",
            (long long)m->uniform_start_point, (long long)dr, (long long)t->head_dim);
    return true;
}

bool hf_config_set_mha2mla(struct hf_config *c, const struct mha2mla_config *m, struct err *e)
{
    cJSON *json = cJSON_Duplicate(c->json, true), *section;

    if (!m || !cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(json, "mha2mla")))
        cJSON_DeleteItemFromObjectCaseSensitive(json, "mha2mla");
    if (!m) return hf_config_adopt(c, json, e);
    section = cJSON_GetObjectItemCaseSensitive(json, "mha2mla");
    if (!section) section = cJSON_AddObjectToObject(json, "mha2mla");
    if (!section || !hf_write_fields(section, published, PUBLISHED, m, true, e) ||
        !hf_write_fields(section, ours, OURS, m, false, e)) {
        cJSON_Delete(json);
        return section ? false : err_set(e, "%s: out of memory", c->file);
    }
    return hf_config_adopt(c, json, e);
}
