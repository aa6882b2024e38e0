/* hfconfig_rope.c - RoPE settings. They stand as "rope_theta" and "rope_scaling" beside the others,
 * or since transformers 5 together in "rope_parameters". */
#include "model/hfconfig_parts.h"
#include "model/safetensors.h"

#include <stdio.h>
#include <string.h>

const char *const rope_type_names[ROPE_TYPES] = {"default", "linear", "dynamic", "llama3"};

static const struct hf_field factor_field[] = {HF_NUM_ROW(rope_scaling, factor, 1, 1e6, 0)};
static const struct hf_field llama3_fields[] = {
    HF_NUM_ROW(rope_scaling, factor, 1, 1e6, 0),
    HF_NUM_ROW(rope_scaling, low_freq_factor, 1e-6, 1e6, 0),
    HF_NUM_ROW(rope_scaling, high_freq_factor, 1e-6, 1e6, 0),
};

/* What a type must say; a missing key is an error there. */
static const struct {
    const struct hf_field *fields;
    size_t n;
} needs[ROPE_TYPES] = {
    [ROPE_LINEAR] = {factor_field, 1},
    [ROPE_DYNAMIC] = {factor_field, 1},
    [ROPE_LLAMA3] = {llama3_fields, 3},
};

/* Another key may change the angles in a way that is not computed here (mrope_section, ...). */
static bool check_keys(const struct hf_reader *r, const cJSON *rope)
{
    static const char *const known[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "original_max_position_embeddings",
                                        "partial_rotary_factor"};
    const cJSON *item;

    cJSON_ArrayForEach(item, rope)
    {
        size_t i = 0, n = sizeof known / sizeof *known;
        while (i < n && strcmp(known[i], item->string) != 0)
            i++;
        if (i == n)
            return hf_refuse(r, st_name_is_plain(item->string) ? item->string : "?", item,
                             "to leave it out: it is not supported");
    }
    return true;
}

static bool read_type(const struct hf_reader *r, const cJSON *rope, enum rope_type *type)
{
    const char *key = "rope_type", *name;
    const cJSON *v;

    *type = ROPE_DEFAULT;
    if (!hf_get(r, rope, key, &v)) return false;
    if (!v && !hf_get(r, rope, key = "type", &v)) return false;
    if (!v) return true;
    name = cJSON_GetStringValue(v);
    for (int i = 0; name && i < ROPE_TYPES; i++) {
        if (strcmp(name, rope_type_names[i]) == 0) {
            *type = (enum rope_type)i;
            return true;
        }
    }
    return hf_refuse(r, key, v, "default, linear, dynamic, llama3");
}

static bool read_llama3(const struct hf_reader *r, const cJSON *rope, struct text_config *t)
{
    struct rope_scaling *s = &t->rope_scaling;
    const struct hf_field original = {
        "original_max_position_embeddings",         HF_INT, 0, 1, 1 << 30,
        .def = {(double)t->max_position_embeddings}};

    if (!hf_read_fields(r, rope, &original, 1, 0, &s->original_max_position_embeddings))
        return false;
    if (s->high_freq_factor > s->low_freq_factor) return true;
    return err_set(r->e,
                   "%s: %shigh_freq_factor is %g; allowed: above low_freq_factor, which is %g",
                   r->file, r->prefix, s->high_freq_factor, s->low_freq_factor);
}

static bool read_scaling(const struct hf_reader *r, const cJSON *rope, struct text_config *t)
{
    const struct hf_field partial = {.key = "partial_rotary_factor", .kind = HF_FIXED, .lo = 1};
    struct rope_scaling *s = &t->rope_scaling;

    if (!read_type(r, rope, &s->type) || !check_keys(r, rope) ||
        !hf_read_fields(r, rope, &partial, 1, 0, s))
        return false;
    for (size_t i = 0; i < needs[s->type].n; i++) {
        const cJSON *v;
        if (!hf_get(r, rope, needs[s->type].fields[i].key, &v)) return false;
        if (!v)
            return hf_refuse(r, needs[s->type].fields[i].key, v, "a number, for rope_type is %s",
                             rope_type_names[s->type]);
    }
    if (!hf_read_fields(r, rope, needs[s->type].fields, needs[s->type].n, 0, s)) return false;
    /* The exponent of its formula is head_dim / (head_dim - 2). */
    if (s->type == ROPE_DYNAMIC && t->head_dim < 4)
        return err_set(r->e, "%s: %srope_type is dynamic; allowed: with a head_dim of 4 or more",
                       r->file, r->prefix);
    return s->type != ROPE_LLAMA3 || read_llama3(r, rope, t);
}

bool hf_read_rope(const struct hf_reader *r, const cJSON *obj, struct text_config *t)
{
    struct hf_field theta = {
        .key = "rope_theta", .kind = HF_NUM, .lo = 1, .hi = 1e15, .def = {10000}};
    const char *key = "rope_scaling";
    const cJSON *rope;
    char prefix[64];
    struct hf_reader in = {r->file, prefix, r->e};

    /* An empty object counts as none, and rope_scaling goes before rope_parameters. */
    if (!hf_get_object(r, obj, key, &rope)) return false;
    if ((!rope || !rope->child) && !hf_get_object(r, obj, key = "rope_parameters", &rope))
        return false;
    if (!hf_read_fields(r, obj, &theta, 1, 0, &t->rope_theta)) return false;
    if (!rope) return true;
    snprintf(prefix, sizeof prefix, "%s%s.", r->prefix, key);
    theta.def[0] = t->rope_theta; /* the one inside goes before the one beside */
    return hf_read_fields(&in, rope, &theta, 1, 0, &t->rope_theta) && read_scaling(&in, rope, t);
}
