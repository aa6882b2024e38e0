/* hfconfig_text.c - the settings of a language model, with the defaults of transformers'
 * LlamaConfig, Qwen2Config and MistralConfig (5.24). A setting is one row of a table; rules between settings
 * follow it. */
#include "model/config/hfconfig_parts.h"

#include <string.h>

/* Also the order of the defaults in text_fields. */
enum { LLAMA, QWEN2, MISTRAL, TEXT_TYPES };
static const char *const text_types[TEXT_TYPES + 1] = {"llama", "qwen2", "mistral", NULL};

static const char *const dtypes[] = {"float32", "float16", "bfloat16", NULL};
static const struct hf_choice text_acts[] = {{"silu", ACT_SILU}, {"swish", ACT_SILU}, {NULL, 0}};

#define INT(member, max, ...) HF_INT_ROW(text_config, member, max, __VA_ARGS__)
static const struct hf_field text_fields[] = {
    INT(vocab_size, 1 << 24, 32000, 151936, 32000),
    INT(hidden_size, HF_MAX_WIDTH, 4096, 4096, 4096),
    INT(intermediate_size, HF_MAX_WIDTH, 11008, 22016, 14336),
    INT(num_hidden_layers, HF_MAX_COUNT, 32, 32, 32),
    INT(num_attention_heads, HF_MAX_COUNT, 32, 32, 32),
    INT(max_position_embeddings, 1 << 30, 2048, 32768, 131072),
    /* 0 stands for "as many as heads" and "hidden / heads" until check_text. */
    {HF_ROW(text_config, num_key_value_heads), .kind = HF_INT, .lo = 1, .hi = HF_MAX_COUNT,
     .def = {0, 32, 8}, .nullable = true},
    {HF_ROW(text_config, head_dim), .kind = HF_INT, .lo = 1, .hi = HF_MAX_COUNT, .nullable = true},
    HF_NUM_ROW(text_config, rms_norm_eps, 0, 0.1, 1e-6),
    HF_NUM_ROW(text_config, initializer_range, 0, 1, 0.02),
    HF_BOOL_ROW(text_config, tie_word_embeddings, false),
    {HF_ROW(text_config, hidden_act), .kind = HF_CHOICE, .choices = text_acts,
     .def = {ACT_SILU, ACT_SILU, ACT_SILU}},
    {HF_ROW(text_config, bos_token_id), .kind = HF_TOKEN, .def = {1, HF_NO_TOKEN, 1}},
    {HF_ROW(text_config, pad_token_id), .kind = HF_TOKEN,
     .def = {HF_NO_TOKEN, HF_NO_TOKEN, HF_NO_TOKEN}},
    {HF_ROW(text_config, attention_dropout), .kind = HF_NUM, .lo = 0, .hi = 1, .nullable = true},
    {.key = "partial_rotary_factor", .kind = HF_FIXED, .lo = 1},
};
#undef INT

/* The others have no such settings: keys of that name mean nothing there. */
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

    if (!v && type != QWEN2) t->eos_token_id[t->eos_count++] = 2;
    return hf_read_eos(r, v, t->vocab_size, t->eos_token_id, &t->eos_count);
}

/* torch.nn.Embedding's padding_idx: a null is none, a -1 counts from the end. */
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
        return hf_fail(r, obj, "head_dim", "is %lld; allowed: an even number, for RoPE turns pairs",
                       (long long)t->head_dim);
    if (bos || t->pad_token_id >= t->vocab_size)
        return hf_fail(r, obj, bos ? "bos_token_id" : "pad_token_id",
                       "is %lld; allowed: below vocab_size, which is %lld",
                       (long long)(bos ? t->bos_token_id : t->pad_token_id),
                       (long long)t->vocab_size);
    return true;
}

static bool read_window(const struct hf_reader *r, const cJSON *obj, int type,
                        struct text_config *t)
{
    static const enum hf_window windows[TEXT_TYPES] = {
        [LLAMA] = HF_WINDOW_NONE, [QWEN2] = HF_WINDOW_SWITCHED, [MISTRAL] = HF_WINDOW_ALWAYS};

    return hf_read_window(r, obj, windows[type], t);
}

bool hf_read_text(const struct hf_reader *r, const cJSON *obj, struct text_config *t, char **unused)
{
    const struct hf_field type_field = {
        .key = "model_type", .kind = HF_NAME, .names = text_types, .def_name = text_types[LLAMA]};
    int type;

    if (!hf_read_fields(r, obj, &type_field, 1, 0, &t->model_type)) return false;
    for (type = LLAMA; strcmp(t->model_type, text_types[type]) != 0;)
        type++;
    if (!hf_read_fields(r, obj, HF_TABLE(text_fields), type, t)) return false;
    if (type == LLAMA && !hf_read_fields(r, obj, HF_TABLE(llama_fields), 0, t)) return false;
    if (type == QWEN2) t->qkv_bias = true;
    find_pad_row(obj, t);
    return read_eos(r, obj, type, t) && hf_read_dtype(r, obj, &t->dtype) && check_text(r, obj, t) &&
           read_window(r, obj, type, t) && hf_read_rope(r, obj, t, unused);
}
