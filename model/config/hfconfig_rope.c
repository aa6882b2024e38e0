/* hfconfig_rope.c - RoPE settings. They are "rope_theta" and "rope_scaling" among the text
 * settings, or since transformers 5 both in "rope_parameters". */
#include "model/config/hfconfig_parts.h"

#include <stdio.h>
#include <string.h>

const char *const rope_type_names[ROPE_TYPES] = {"default", "linear", "dynamic", "llama3", "yarn"};

static const struct hf_field factor_field[] = {HF_NUM_ROW(rope_scaling, factor, 1, 1e6, 0)};
static const struct hf_field llama3_fields[] = {
    HF_NUM_ROW(rope_scaling, factor, 1, 1e6, 0),
    HF_NUM_ROW(rope_scaling, low_freq_factor, 1e-6, 1e6, 0),
    HF_NUM_ROW(rope_scaling, high_freq_factor, 1e-6, 1e6, 0),
};
static const struct hf_field yarn_factor[] = {
    {HF_ROW(rope_scaling, factor), .kind = HF_NUM, .lo = 1, .hi = 1e6, .nullable = true},
};

/* Optional settings of yarn; 0 and null mean the default. */
#define YARN_ROW(member, max)                                                                      \
    {                                                                                              \
        HF_ROW(rope_scaling, member), .kind = HF_NUM, .lo = 0, .hi = max, .nullable = true         \
    }
static const struct hf_field yarn_fields[] = {
    {HF_ROW(rope_scaling, attention_factor), .kind = HF_NUM, .lo = 1e-6, .hi = 1e6,
     .nullable = true},
    YARN_ROW(mscale, 1e6),
    YARN_ROW(mscale_all_dim, 1e6),
    YARN_ROW(beta_fast, 1e9),
    YARN_ROW(beta_slow, 1e9),
    {HF_ROW(rope_scaling, truncate), .kind = HF_BOOL, .def = {true, true}, .nullable = true},
};

/* Keys of one type or another, without effect when a different type is used. */
static const char *const harmless[] = {"type",
                                       "rope_type",
                                       "rope_theta",
                                       "factor",
                                       "low_freq_factor",
                                       "high_freq_factor",
                                       "original_max_position_embeddings",
                                       "attention_factor",
                                       "mscale",
                                       "mscale_all_dim",
                                       "beta_fast",
                                       "beta_slow",
                                       "truncate",
                                       "short_factor",
                                       "long_factor",
                                       "short_mscale",
                                       "long_mscale",
                                       "finetuned",
                                       NULL};

static bool read_type(const struct hf_reader *r, const cJSON *rope, int axes, enum rope_type *type)
{
    const cJSON *old = hf_get(r, rope, "type"), *v = hf_get(r, rope, "rope_type");
    const char *name;

    *type = ROPE_DEFAULT;
    if (!v && !old) return true;
    name = cJSON_GetStringValue(v ? v : old);
    if (axes == 3) { /* "mrope" in the earliest files */
        if (name && (strcmp(name, "default") == 0 || strcmp(name, "mrope") == 0)) return true;
        return hf_refuse(r, v ? "rope_type" : "type", v ? v : old, "default, mrope");
    }
    for (int i = 0; name && i < ROPE_TYPES; i++) {
        if (strcmp(name, rope_type_names[i]) == 0) {
            *type = (enum rope_type)i;
            return true;
        }
    }
    return hf_refuse(r, v ? "rope_type" : "type", v ? v : old,
                     "default, linear, dynamic, llama3, yarn");
}

/* The number of positions that the model was trained for before its range was extended: the value
 * outside RoPE's object takes precedence over the one inside, and both over
 * max_position_embeddings. */
static bool read_original(const struct hf_reader *beside, const cJSON *obj,
                          const struct hf_reader *inside, const cJSON *rope, struct text_config *t)
{
    struct hf_field f = {"original_max_position_embeddings",         HF_INT, 0, 1, 1 << 30,
                         .def = {(double)t->max_position_embeddings}};
    int64_t *out = &t->rope_scaling.original_max_position_embeddings;

    if (!hf_read_fields(inside, rope, &f, 1, 0, out)) return false;
    f.def[0] = (double)*out;
    return hf_read_fields(beside, obj, &f, 1, 0, out);
}

static bool read_llama3(const struct hf_reader *r, const cJSON *rope, struct text_config *t)
{
    const struct rope_scaling *s = &t->rope_scaling;

    return s->high_freq_factor > s->low_freq_factor ||
           hf_fail(r, rope, "high_freq_factor",
                   "is %g; allowed: above low_freq_factor, which is %g", s->high_freq_factor,
                   s->low_freq_factor);
}

static bool read_yarn(const struct hf_reader *r, const cJSON *rope, struct text_config *t)
{
    /* the formula divides by log(theta) */
    if (t->rope_theta <= 1)
        return hf_fail(r, rope, "rope_theta", "is %g; allowed: above 1, because rope_type is yarn",
                       t->rope_theta);
    return hf_read_fields(r, rope, HF_TABLE(yarn_fields), 0, &t->rope_scaling);
}

/* The formula's exponent is head_dim / (head_dim - 2). */
static bool read_dynamic(const struct hf_reader *r, const cJSON *rope, struct text_config *t)
{
    const char *key = cJSON_GetObjectItemCaseSensitive(rope, "rope_type") ? "rope_type" : "type";

    return t->head_dim >= 4 ||
           hf_fail(r, rope, key, "is dynamic; allowed: with a head_dim of 4 or more");
}

/* The settings of a type: the required ones, whether it uses the original positions, and a
 * reader for the rest. */
static const struct {
    const struct hf_field *fields;
    size_t n;
    bool original;
    bool (*read)(const struct hf_reader *, const cJSON *, struct text_config *);
} types[ROPE_TYPES] = {
    [ROPE_LINEAR] = {factor_field, 1, false, NULL},
    [ROPE_DYNAMIC] = {factor_field, 1, false, read_dynamic},
    [ROPE_LLAMA3] = {llama3_fields, 3, true, read_llama3},
    [ROPE_YARN] = {yarn_factor, 1, true, read_yarn},
};

/* Reads the required settings; a missing one is an error. */
static bool read_needed(const struct hf_reader *r, const cJSON *rope, struct rope_scaling *s)
{
    for (size_t i = 0; i < types[s->type].n; i++) {
        const char *key = types[s->type].fields[i].key;
        if (!hf_get(r, rope, key))
            return hf_refuse(r, key, NULL, "a number, because rope_type is %s",
                             rope_type_names[s->type]);
    }
    return hf_read_fields(r, rope, types[s->type].fields, types[s->type].n, 0, s);
}

/* Per-layer-type RoPE is an object under the type's name. */
static bool refuse_nested(const struct hf_reader *r, const cJSON *rope)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, rope)
    {
        if (cJSON_IsObject(item))
            return hf_refuse(r, item->string, item,
                             "to leave it out: layers that differ from each other are not "
                             "supported");
    }
    return true;
}

static bool read_scaling(const struct hf_reader *beside, const cJSON *obj,
                         const struct hf_reader *r, const cJSON *rope, struct text_config *t)
{
    const struct hf_field partial = {.key = "partial_rotary_factor", .kind = HF_FIXED, .lo = 1};
    struct rope_scaling *s = &t->rope_scaling;

    if (!refuse_nested(r, rope) || !read_type(r, rope, t->axes, &s->type) ||
        !hf_read_fields(r, rope, &partial, 1, 0, s) || !read_needed(r, rope, s))
        return false;
    return (!types[s->type].original || read_original(beside, obj, r, rope, t)) &&
           (!types[s->type].read || types[s->type].read(r, rope, t));
}

/* Which axis rotates which pairs. transformers' default is Qwen2.5-VL's, with heads of 128. */
static bool read_sections(const struct hf_reader *r, const cJSON *rope, struct text_config *t)
{
    static const char key[] = "mrope_section";
    static const int64_t usual[] = {16, 24, 24};
    const cJSON *v, *item;
    int64_t sum = 0;
    int n = 0;

    if (t->axes == 1) return true;
    v = hf_get(r, rope, key);
    item = cJSON_IsArray(v) ? v->child : NULL;
    for (int i = 0; !v && i < 3; i++)
        sum += t->mrope_section[n++] = usual[i];
    for (; item && n < 3 && hf_is_int(item, 1, HF_MAX_COUNT); item = item->next)
        sum += t->mrope_section[n++] = (int64_t)item->valuedouble;
    if (n == 3 && !item && sum == t->head_dim / 2) return true;
    if (!v)
        return hf_refuse(r, key, NULL, "three numbers that come to half a head, which is %lld",
                         (long long)t->head_dim / 2);
    return hf_refuse(r, key, v, "three whole numbers from 1, together half a head, which is %lld",
                     (long long)t->head_dim / 2);
}

bool hf_read_rope(const struct hf_reader *r, const cJSON *obj, struct text_config *t, char **unused)
{
    struct hf_field theta = {
        .key = "rope_theta", .kind = HF_NUM, .lo = 1, .hi = 1e15, .def = {t->rope_theta}};
    const char *key = "rope_scaling";
    const cJSON *rope;
    char prefix[64];
    struct hf_reader in = *r;

    /* An empty object counts as absent, and rope_scaling takes precedence over rope_parameters. */
    if (!hf_get_object(r, obj, key, &rope)) return false;
    if ((!rope || !rope->child) && !hf_get_object(r, obj, key = "rope_parameters", &rope))
        return false;
    if (!hf_read_fields(r, obj, &theta, 1, 0, &t->rope_theta)) return false;
    if (!rope) return read_sections(r, NULL, t);
    snprintf(prefix, sizeof prefix, "%s%s.", r->prefix, key);
    in.prefix = prefix;
    theta.def[0] = t->rope_theta; /* the one inside takes precedence */
    return hf_read_fields(&in, rope, &theta, 1, 0, &t->rope_theta) &&
           read_scaling(r, obj, &in, rope, t) && read_sections(&in, rope, t) &&
           hf_list_unused(&in, rope, harmless, false, unused);
}
