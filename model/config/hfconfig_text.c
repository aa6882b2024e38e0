/* hfconfig_text.c - the settings of a language model, with the defaults of transformers'
 * LlamaConfig, Qwen2Config, MistralConfig, and of the decoders with three axes, which have
 * Qwen2_5_VLTextConfig's (5.24). Each setting is one row of a table; rules between settings follow
 * it. */
#include "model/config/hfconfig_parts.h"

#include <string.h>

/* Also the order of the defaults in text_fields. */
enum { LLAMA, QWEN2, MISTRAL, THREE_AXES, TEXT_TYPES };
static const struct text_type {
    const char *name; /* NULL: the family's */
    enum hf_window window;
    double rope_theta;
    bool qkv_bias; /* always; else according to attention_bias, if there is such a setting */
    int axes;      /* of the positions */
} text_types[TEXT_TYPES] = {
    [LLAMA] = {"llama", HF_WINDOW_NONE, 1e4, false, 1},
    [QWEN2] = {"qwen2", HF_WINDOW_SWITCHED, 1e4, true, 1},
    [MISTRAL] = {"mistral", HF_WINDOW_ALWAYS, 1e4, false, 1},
    [THREE_AXES] = {NULL, HF_WINDOW_SWITCHED, 1e6, true, 3},
};
static const char *const text_names[] = {"llama", "qwen2", "mistral", NULL};

static const char *const dtypes[] = {"float32", "float16", "bfloat16", NULL};
static const struct hf_choice text_acts[] = {{"silu", ACT_SILU}, {"swish", ACT_SILU}, {NULL, 0}};

#define INT(member, max, ...) HF_INT_ROW(text_config, member, max, __VA_ARGS__)
static const struct hf_field text_fields[] = {
    INT(vocab_size, 1 << 24, 32000, 151936, 32000, 152064),
    INT(hidden_size, HF_MAX_WIDTH, 4096, 4096, 4096, 8192),
    INT(intermediate_size, HF_MAX_WIDTH, 11008, 22016, 14336, 29568),
    INT(num_hidden_layers, HF_MAX_COUNT, 32, 32, 32, 80),
    INT(num_attention_heads, HF_MAX_COUNT, 32, 32, 32, 64),
    INT(max_position_embeddings, 1 << 30, 2048, 32768, 131072, 32768),
    /* Until check_text, 0 means "same as heads" and "hidden / heads". */
    {HF_ROW(text_config, num_key_value_heads), .kind = HF_INT, .lo = 1, .hi = HF_MAX_COUNT,
     .def = {0, 32, 8, 8}, .nullable = true},
    {HF_ROW(text_config, head_dim), .kind = HF_INT, .lo = 1, .hi = HF_MAX_COUNT, .nullable = true},
    {HF_ROW(text_config, rms_norm_eps), .kind = HF_NUM, .hi = 0.1, .def = {1e-6, 1e-6, 1e-6, 1e-5}},
    HF_NUM_ROW(text_config, initializer_range, 0, 1, 0.02),
    HF_BOOL_ROW(text_config, tie_word_embeddings, false),
    {HF_ROW(text_config, hidden_act), .kind = HF_CHOICE, .choices = text_acts,
     .def = {ACT_SILU, ACT_SILU, ACT_SILU, ACT_SILU}},
    {HF_ROW(text_config, bos_token_id), .kind = HF_TOKEN, .def = {1, HF_NO_TOKEN, 1, 151643}},
    {HF_ROW(text_config, pad_token_id), .kind = HF_TOKEN,
     .def = {HF_NO_TOKEN, HF_NO_TOKEN, HF_NO_TOKEN, HF_NO_TOKEN}},
    {HF_ROW(text_config, attention_dropout), .kind = HF_NUM, .lo = 0, .hi = 1, .nullable = true},
    {.key = "partial_rotary_factor", .kind = HF_FIXED, .lo = 1},
};
#undef INT

/* Only Llama has these settings: in the other configs keys of these names have no meaning. */
static const struct hf_field llama_fields[] = {
    {.key = "attention_bias", .kind = HF_BOOL, .offset = offsetof(struct text_config, qkv_bias)},
    {.key = "attention_bias", .kind = HF_BOOL, .offset = offsetof(struct text_config, o_bias)},
    HF_BOOL_ROW(text_config, mlp_bias, false),
};

bool hf_read_dtype(const struct hf_reader *r, const cJSON *obj, const char **out)
{
    struct hf_field f = {.key = "dtype", .kind = HF_NAME, .nullable = true, .names = dtypes};

    if (!hf_read_fields(r, obj, &f, 1, 0, out)) return false;
    f.key = "torch_dtype";
    if (!*out && !hf_read_fields(r, obj, &f, 1, 0, out)) return false;
    if (!*out) *out = "";
    return true;
}

bool hf_read_eos(const struct hf_reader *r, const cJSON *v, int64_t vocab_size, int64_t *ids,
                 int *count)
{
    const cJSON *item = cJSON_IsArray(v) ? v->child : v;

    if (!v || cJSON_IsNull(v)) return true;
    for (; item; item = cJSON_IsArray(v) ? item->next : NULL) {
        if (*count == HF_MAX_EOS || !hf_is_int(item, HF_NO_TOKEN, (double)vocab_size - 1))
            return hf_refuse(r, "eos_token_id", v,
                             "a token id below vocab_size, which is %lld, or 1 to %d of them",
                             (long long)vocab_size, HF_MAX_EOS);
        if (item->valuedouble >= 0) ids[(*count)++] = (int64_t)item->valuedouble;
    }
    return true;
}

static bool read_eos(const struct hf_reader *r, const cJSON *obj, int type, struct text_config *t)
{
    const cJSON *v = hf_get(r, obj, "eos_token_id");

    if (!v && type != QWEN2) t->eos_token_id[t->eos_count++] = type == THREE_AXES ? 151645 : 2;
    return hf_read_eos(r, v, t->vocab_size, t->eos_token_id, &t->eos_count);
}

/* torch.nn.Embedding's padding_idx: null means none, -1 counts from the end. */
static void find_pad_row(const cJSON *obj, struct text_config *t)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, "pad_token_id");

    t->pad_row = !cJSON_IsNumber(v)      ? HF_NO_TOKEN
                 : t->pad_token_id == -1 ? t->vocab_size - 1
                                         : t->pad_token_id;
}

static bool check_text(const struct hf_reader *r, const cJSON *obj, struct text_config *t)
{
    int64_t heads = t->num_attention_heads;
    bool bos = t->bos_token_id >= t->vocab_size;

    if (t->hidden_size % heads != 0)
        return hf_fail(r, obj, "hidden_size",
                       "is %lld; allowed: a multiple of num_attention_heads, which is %lld",
                       (long long)t->hidden_size, (long long)heads);
    if (t->num_key_value_heads == 0) t->num_key_value_heads = heads;
    if (t->head_dim == 0) t->head_dim = t->hidden_size / heads;
    if (heads % t->num_key_value_heads != 0)
        return hf_fail(r, obj, "num_key_value_heads",
                       "is %lld; allowed: a divisor of num_attention_heads, which is %lld",
                       (long long)t->num_key_value_heads, (long long)heads);
    if (t->head_dim % 2 != 0)
        return hf_fail(r, obj, "head_dim",
                       "is %lld; allowed: an even number, because RoPE rotates pairs",
                       (long long)t->head_dim);
    if (bos || t->pad_token_id >= t->vocab_size)
        return hf_fail(r, obj, bos ? "bos_token_id" : "pad_token_id",
                       "is %lld; allowed: below vocab_size, which is %lld",
                       (long long)(bos ? t->bos_token_id : t->pad_token_id),
                       (long long)t->vocab_size);
    return true;
}

static bool read_as(const struct hf_reader *r, const cJSON *obj, int type, struct text_config *t,
                    char **unused)
{
    const struct text_type *is = &text_types[type];

    t->rope_theta = is->rope_theta;
    t->axes = is->axes;
    if (!hf_read_fields(r, obj, HF_TABLE(text_fields), type, t)) return false;
    if (type == LLAMA && !hf_read_fields(r, obj, HF_TABLE(llama_fields), 0, t)) return false;
    if (is->qkv_bias) t->qkv_bias = t->bias_by_type = true;
    find_pad_row(obj, t);
    return read_eos(r, obj, type, t) && hf_read_dtype(r, obj, &t->dtype) && check_text(r, obj, t) &&
           hf_read_window(r, obj, is->window, t) && hf_read_rope(r, obj, t, unused);
}

/* The model_type, which must be one of `names`; the first if missing. */
static bool read_name(const struct hf_reader *r, const cJSON *obj, const char *const *names,
                      const char **name)
{
    const struct hf_field f = {
        .key = "model_type", .kind = HF_NAME, .names = names, .def_name = names[0]};

    return hf_read_fields(r, obj, &f, 1, 0, name);
}

bool hf_read_text(const struct hf_reader *r, const cJSON *obj, struct text_config *t, char **unused)
{
    int type = LLAMA;

    if (!read_name(r, obj, text_names, &t->model_type)) return false;
    while (strcmp(t->model_type, text_types[type].name) != 0)
        type++;
    return read_as(r, obj, type, t, unused);
}

bool hf_read_axes_text(const struct hf_reader *r, const cJSON *obj, const char *const *names,
                       struct text_config *t, char **unused)
{
    const char *name;

    t->model_type = names[0];
    if (!read_name(r, obj, names, &name) || !read_as(r, obj, THREE_AXES, t, unused)) return false;
    return t->head_dim == t->hidden_size / t->num_attention_heads ||
           hf_fail(r, obj, "head_dim",
                   "is %lld; allowed: hidden_size / num_attention_heads, which is %lld",
                   (long long)t->head_dim, (long long)(t->hidden_size / t->num_attention_heads));
}
