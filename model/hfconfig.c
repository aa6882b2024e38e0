/* hfconfig.c - the settings of the language model, the vision tower and the whole. A setting is one
 * row of a table with its default, as in transformers' LlamaConfig, Qwen2Config, CLIPVisionConfig
 * and LlavaConfig (5.23). Rules between settings follow below each table. */
#include "model/hfconfig.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/hfconfig_parts.h"
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 4 << 20 }; /* bytes */

const struct hf_family hf_families[] = {
    {"llava", true}, {"llama", false}, {"qwen2", false}, {NULL, false}};

/* Also the order of the defaults in text_fields. */
enum { LLAMA, QWEN2, TEXT_TYPES };
static const char *const text_types[TEXT_TYPES + 1] = {"llama", "qwen2", NULL};

static const char *const dtypes[] = {"float32", "float16", "bfloat16", NULL};
static const char *const strategies[] = {"default", "full", NULL};
static const struct hf_choice text_acts[] = {{"silu", ACT_SILU}, {NULL, 0}};
static const struct hf_choice projector_acts[] = {{"gelu", ACT_GELU}, {NULL, 0}};
static const struct hf_choice vision_acts[] = {{"quick_gelu", ACT_QUICK_GELU},
                                               {"gelu", ACT_GELU},
                                               {"gelu_new", ACT_GELU_TANH},
                                               {"gelu_pytorch_tanh", ACT_GELU_TANH},
                                               {NULL, 0}};

/* Limits are far above any known model; they keep products of two within 63 bits. */
#define WIDTH 1, 1 << 20
#define COUNT 1, 1 << 14
#define INT(member, ...)                                                                           \
    {                                                                                              \
#member, HF_INT, offsetof(struct S, member), __VA_ARGS__                                   \
    }
#define NUM(member, ...)                                                                           \
    {                                                                                              \
#member, HF_NUM, offsetof(struct S, member), __VA_ARGS__                                   \
    }
#define BOOL(member, by_default)                                                                   \
    {                                                                                              \
#member, HF_BOOL, offsetof(struct S, member), .def = { by_default, by_default }            \
    }
#define NONE HF_NO_TOKEN

#define S text_config
static const struct hf_field text_fields[] = {
    INT(vocab_size, 1, 1 << 24, {32000, 151936}),
    INT(hidden_size, WIDTH, {4096, 4096}),
    INT(intermediate_size, WIDTH, {11008, 22016}),
    INT(num_hidden_layers, COUNT, {32, 32}),
    INT(num_attention_heads, COUNT, {32, 32}),
    INT(num_key_value_heads, COUNT, {0, 32}, .nullable = true), /* 0: as many as heads */
    INT(head_dim, COUNT, {0, 0}, .nullable = true),             /* 0: hidden / heads */
    INT(max_position_embeddings, 1, 1 << 30, {2048, 32768}),
    NUM(rms_norm_eps, 0, 0.1, {1e-6, 1e-6}),
    NUM(initializer_range, 0, 1, {0.02, 0.02}),
    BOOL(tie_word_embeddings, false),
    {"hidden_act", HF_CHOICE, offsetof(struct S, hidden_act), .choices = text_acts,
     .def = {ACT_SILU, ACT_SILU}},
    {"bos_token_id", HF_TOKEN, offsetof(struct S, bos_token_id), .def = {1, NONE}},
    {"pad_token_id", HF_TOKEN, offsetof(struct S, pad_token_id), .def = {NONE, NONE}},
    {"attention_dropout", HF_FIXED, .lo = 0},
    {"partial_rotary_factor", HF_FIXED, .lo = 1},
};
/* Qwen2 has no such settings: keys of that name mean nothing there. */
static const struct hf_field llama_fields[] = {
    {"attention_bias", HF_BOOL, offsetof(struct S, qkv_bias)},
    {"attention_bias", HF_BOOL, offsetof(struct S, o_bias)},
    BOOL(mlp_bias, false),
};
#undef S

/* The defaults: of CLIPVisionConfig, and of LLaVA where it has no vision_config at all. */
#define S vision_config
static const struct hf_field vision_fields[] = {
    INT(hidden_size, WIDTH, {768, 1024}),
    INT(intermediate_size, WIDTH, {3072, 4096}),
    INT(num_hidden_layers, COUNT, {12, 24}),
    INT(num_attention_heads, COUNT, {12, 16}),
    INT(image_size, COUNT, {224, 336}),
    INT(patch_size, COUNT, {32, 14}),
    INT(num_channels, 1, 16, {3, 3}),
    INT(projection_dim, WIDTH, {512, 768}),
    NUM(layer_norm_eps, 0, 0.1, {1e-5, 1e-5}),
    {"hidden_act", HF_CHOICE, offsetof(struct S, hidden_act), .choices = vision_acts,
     .def = {ACT_QUICK_GELU, ACT_QUICK_GELU}},
    {"attention_dropout", HF_FIXED, .lo = 0},
};
#undef S

#define S hf_config
static const struct hf_field llava_fields[] = {
    INT(image_seq_length, 1, 1 << 24, {576, 576}),
    INT(vision_feature_layer, -(1 << 14), 1 << 14, {-2, -2}),
    BOOL(multimodal_projector_bias, true),
    {"projector_hidden_act", HF_CHOICE, offsetof(struct S, projector_hidden_act),
     .choices = projector_acts, .def = {ACT_GELU, ACT_GELU}},
    {"pad_token_id", HF_TOKEN, offsetof(struct S, pad_token_id), .def = {NONE, NONE}},
};
#undef S

#define FIELDS(table) table, sizeof table / sizeof *table

/* "dtype", in older files "torch_dtype". */
static bool read_dtype(const struct hf_reader *r, const cJSON *obj, const char **out)
{
    struct hf_field f = {"dtype", HF_NAME, 0, .nullable = true, .names = dtypes};

    if (!hf_read_fields(r, obj, &f, 1, 0, out)) return false;
    f.key = "torch_dtype";
    if (!*out && !hf_read_fields(r, obj, &f, 1, 0, out)) return false;
    if (!*out) *out = "";
    return true;
}

/* ---- language model ---- */

static bool read_eos(const struct hf_reader *r, const cJSON *obj, int type, struct text_config *t)
{
    const cJSON *v, *item;

    if (!hf_get(r, obj, "eos_token_id", &v)) return false;
    if (!v && type == LLAMA) t->eos_token_id[t->eos_count++] = 2;
    if (!v || cJSON_IsNull(v)) return true;
    item = cJSON_IsArray(v) ? v->child : v;
    for (; item; item = cJSON_IsArray(v) ? item->next : NULL) {
        if (t->eos_count == HF_MAX_EOS || !hf_is_int(item, 0, (double)t->vocab_size - 1))
            return hf_refuse(r, "eos_token_id", v,
                             "a token id below vocab_size, or 1 to %d of them", HF_MAX_EOS);
        t->eos_token_id[t->eos_count++] = (int64_t)item->valuedouble;
    }
    return true;
}

/* Attention over a window is not supported: neither by rule (Qwen2) nor layer by layer. */
static bool refuse_window(const struct hf_reader *r, const cJSON *obj, int type,
                          const struct text_config *t)
{
    const struct hf_field fields[] = {{"use_sliding_window", HF_BOOL, 0}};
    const cJSON *layers, *window, *from, *item;
    bool used;

    if (!hf_get(r, obj, "layer_types", &layers) || !hf_get(r, obj, "sliding_window", &window) ||
        !hf_get(r, obj, "max_window_layers", &from))
        return false;
    cJSON_ArrayForEach(item, layers)
    {
        if (!cJSON_IsString(item) || strcmp(item->valuestring, "full_attention") != 0)
            return hf_refuse(r, "layer_types", layers, "\"full_attention\" in every layer");
    }
    if (type != QWEN2 || cJSON_IsArray(layers)) return true;
    if (!hf_read_fields(r, obj, fields, 1, 0, &used)) return false;
    if (!used || cJSON_IsNull(window)) return true;
    /* Layers from max_window_layers (28 where it is not said) on have the window. */
    if ((cJSON_IsNumber(from) ? from->valuedouble : 28) >= (double)t->num_hidden_layers)
        return true;
    return err_set(r->e,
                   "%s: %suse_sliding_window is true; attention over a sliding window is not "
                   "supported, allowed: false",
                   r->file, r->prefix);
}

static bool check_text(const struct hf_reader *r, struct text_config *t)
{
    int64_t heads = t->num_attention_heads;

    if (t->hidden_size % heads != 0)
        return err_set(r->e,
                       "%s: %shidden_size is %lld; allowed: a multiple of "
                       "num_attention_heads, which is %lld",
                       r->file, r->prefix, (long long)t->hidden_size, (long long)heads);
    if (t->num_key_value_heads == 0) t->num_key_value_heads = heads;
    if (t->head_dim == 0) t->head_dim = t->hidden_size / heads;
    if (heads % t->num_key_value_heads != 0)
        return err_set(r->e,
                       "%s: %snum_key_value_heads is %lld; allowed: a divisor of "
                       "num_attention_heads, which is %lld",
                       r->file, r->prefix, (long long)t->num_key_value_heads, (long long)heads);
    if (t->head_dim % 2 != 0)
        return err_set(r->e,
                       "%s: %shead_dim is %lld; allowed: an even number, for RoPE turns pairs",
                       r->file, r->prefix, (long long)t->head_dim);
    if (t->bos_token_id >= t->vocab_size || t->pad_token_id >= t->vocab_size)
        return err_set(
            r->e, "%s: %s%s is %lld; allowed: below vocab_size, which is %lld", r->file, r->prefix,
            t->bos_token_id >= t->vocab_size ? "bos_token_id" : "pad_token_id",
            (long long)(t->bos_token_id >= t->vocab_size ? t->bos_token_id : t->pad_token_id),
            (long long)t->vocab_size);
    return true;
}

/* obj may be NULL: all defaults. */
static bool read_text(const struct hf_reader *r, const cJSON *obj, struct text_config *t)
{
    const struct hf_field type_field = {"model_type", HF_NAME, 0, .names = text_types,
                                        .def_name = text_types[LLAMA]};
    int type;

    if (!hf_read_fields(r, obj, &type_field, 1, 0, &t->model_type)) return false;
    type = strcmp(t->model_type, text_types[QWEN2]) == 0 ? QWEN2 : LLAMA;
    if (!hf_read_fields(r, obj, FIELDS(text_fields), type, t)) return false;
    if (type == LLAMA && !hf_read_fields(r, obj, FIELDS(llama_fields), 0, t)) return false;
    if (type == QWEN2) t->qkv_bias = true;
    return read_eos(r, obj, type, t) && read_dtype(r, obj, &t->dtype) && check_text(r, t) &&
           refuse_window(r, obj, type, t) && hf_read_rope(r, obj, t);
}

/* ---- vision tower ---- */

static bool read_vision(const struct hf_reader *r, const cJSON *obj, struct vision_config *v)
{
    static const char *const types[] = {"clip_vision_model", NULL};
    const struct hf_field type_field = {"model_type", HF_NAME, 0, .names = types,
                                        .def_name = types[0]};

    if (!hf_read_fields(r, obj, &type_field, 1, 0, &v->model_type)) return false;
    if (!hf_read_fields(r, obj, FIELDS(vision_fields), obj == NULL, v)) return false;
    if (v->hidden_size % v->num_attention_heads != 0)
        return err_set(r->e,
                       "%s: %shidden_size is %lld; allowed: a multiple of "
                       "num_attention_heads, which is %lld",
                       r->file, r->prefix, (long long)v->hidden_size,
                       (long long)v->num_attention_heads);
    if (v->image_size % v->patch_size != 0)
        return err_set(r->e,
                       "%s: %simage_size is %lld; allowed: a multiple of patch_size, which is "
                       "%lld",
                       r->file, r->prefix, (long long)v->image_size, (long long)v->patch_size);
    return true;
}

/* ---- the whole ---- */

/* The placeholder's id has two names; transformers writes either. */
static bool read_image_token(const struct hf_reader *r, const cJSON *obj, int64_t *out)
{
    struct hf_field f = {"image_token_index", HF_INT, 0, .lo = 0, .hi = 1 << 30, .def = {32000}};
    int64_t other;

    if (!hf_read_fields(r, obj, &f, 1, 0, out)) return false;
    f.key = "image_token_id";
    f.def[0] = (double)*out;
    if (!hf_read_fields(r, obj, &f, 1, 0, &other)) return false;
    if (cJSON_GetObjectItemCaseSensitive(obj, "image_token_index") && other != *out)
        return err_set(r->e,
                       "%s: image_token_index is %lld and image_token_id %lld; allowed: the "
                       "same number",
                       r->file, (long long)*out, (long long)other);
    *out = other;
    return true;
}

static bool read_llava(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    const struct hf_field strategy = {"vision_feature_select_strategy", HF_NAME, 0,
                                      .names = strategies, .def_name = strategies[0]};
    const struct hf_field tie = {"tie_word_embeddings", HF_BOOL, 0};
    const struct hf_reader in_text = {r->file, "text_config.", r->e};
    const struct hf_reader in_vision = {r->file, "vision_config.", r->e};
    const cJSON *text, *vision;
    const char *how;
    bool tied;
    int64_t layers;

    if (!hf_get_object(r, obj, "text_config", &text) || !read_text(&in_text, text, &c->text))
        return false;
    if (!hf_get_object(r, obj, "vision_config", &vision) ||
        !read_vision(&in_vision, vision, &c->vision))
        return false;
    if (!hf_read_fields(r, obj, FIELDS(llava_fields), 0, c) ||
        !hf_read_fields(r, obj, &strategy, 1, 0, &how) ||
        !hf_read_fields(r, obj, &tie, 1, 0, &tied) ||
        !read_image_token(r, obj, &c->image_token_index) || !read_dtype(r, obj, &c->dtype))
        return false;
    c->vision_feature_full = strcmp(how, "full") == 0;
    c->text.tie_word_embeddings |= tied;
    layers = c->vision.num_hidden_layers;
    if (c->vision_feature_layer > layers || c->vision_feature_layer < -layers - 1)
        return err_set(r->e,
                       "%s: vision_feature_layer is %lld; allowed: %lld to %lld, for the tower "
                       "has %lld layers",
                       r->file, (long long)c->vision_feature_layer, (long long)-layers - 1,
                       (long long)layers, (long long)layers);
    return true;
}

static bool find_family(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    char names[256] = "";
    const cJSON *v;
    const char *type;

    if (!hf_get(r, obj, "model_type", &v)) return false;
    type = cJSON_GetStringValue(v);
    for (const struct hf_family *f = hf_families; f->model_type; f++) {
        if (type && strcmp(f->model_type, type) == 0) c->family = f;
        if (f != hf_families) strncat(names, ", ", sizeof names - strlen(names) - 1);
        strncat(names, f->model_type, sizeof names - strlen(names) - 1);
    }
    if (c->family) return true;
    if (!type) return err_set(r->e, "%s: no model_type; supported: %s", r->file, names);
    return err_set(r->e, "%s: model_type \"%.64s\" is not supported; supported: %s", r->file, type,
                   names);
}

/* What changes the weights' meaning as a whole. */
static bool refuse_whole(const struct hf_reader *r, const cJSON *obj)
{
    static const struct {
        const char *key, *allowed;
    } refused[] = {
        {"quantization_config", "null: quantized weights are not supported"},
        {"per_layer_config", "null: layers that differ from each other are not supported"},
    };
    const cJSON *v;

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (!hf_get(r, obj, refused[i].key, &v)) return false;
        if (v && !cJSON_IsNull(v)) return hf_refuse(r, refused[i].key, v, "%s", refused[i].allowed);
    }
    return true;
}

/* Fills everything from c->json and c->file. */
static bool read_all(struct hf_config *c, struct err *e)
{
    const struct hf_reader r = {c->file, "", e};
    const struct hf_reader in_text = {c->file, "text_config.", e};
    const cJSON *section, *text;

    if (!find_family(&r, c->json, c) || !refuse_whole(&r, c->json)) return false;
    if (c->family->vision) {
        if (!hf_get_object(&r, c->json, "text_config", &text) || !refuse_whole(&in_text, text) ||
            !read_llava(&r, c->json, c))
            return false;
    } else {
        if (!read_text(&r, c->json, &c->text)) return false;
        c->pad_token_id = c->text.pad_token_id;
        c->dtype = c->text.dtype;
        c->image_token_index = HF_NO_TOKEN;
    }
    if (!hf_get_object(&r, c->json, "mha2mla", &section)) return false;
    c->has_mha2mla = section != NULL;
    return !section || hf_read_mha2mla(c->file, section, &c->text, &c->mha2mla, e);
}

bool hf_config_parse(struct hf_config *c, const char *text, size_t len, const char *name,
                     struct err *e)
{
    memset(c, 0, sizeof *c);
    c->file = mem_strdup(name, e);
    c->json = c->file ? st_parse_object(text, len, name, e) : NULL;
    if (c->json && read_all(c, e)) return true;
    hf_config_free(c);
    return false;
}

bool hf_config_read(struct hf_config *c, const char *path, struct err *e)
{
    char *text;
    size_t len;
    bool ok;

    memset(c, 0, sizeof *c);
    if (!file_read(path, MAX_CONFIG, &text, &len, e)) return false;
    ok = hf_config_parse(c, text, len, path, e);
    free(text);
    return ok;
}

void hf_config_free(struct hf_config *c)
{
    cJSON_Delete(c->json);
    free(c->file);
    memset(c, 0, sizeof *c);
}

bool hf_config_copy(struct hf_config *dst, const struct hf_config *src, struct err *e)
{
    memset(dst, 0, sizeof *dst);
    dst->file = mem_strdup(src->file, e);
    dst->json = cJSON_Duplicate(src->json, true);
    if (dst->file && !dst->json) err_set(e, "%s: out of memory", src->file);
    if (dst->file && dst->json && read_all(dst, e)) return true;
    hf_config_free(dst);
    return false;
}

bool hf_config_adopt(struct hf_config *c, struct cJSON *json, struct err *e)
{
    struct hf_config fresh = {.json = json, .file = c->file};

    if (!json) return err_set(e, "%s: out of memory", c->file);
    if (!read_all(&fresh, e)) {
        cJSON_Delete(json);
        return false;
    }
    cJSON_Delete(c->json);
    *c = fresh;
    return true;
}

/* Sets the key that is there, both where both are; `otherwise` where none is. */
static bool set_dtype(cJSON *obj, const char *dtype, const char *otherwise)
{
    static const char *const keys[] = {"dtype", "torch_dtype"};
    bool found = false;

    for (size_t i = 0; i < 2; i++) {
        if (!cJSON_GetObjectItemCaseSensitive(obj, keys[i])) continue;
        cJSON_DeleteItemFromObjectCaseSensitive(obj, keys[i]);
        if (!cJSON_AddStringToObject(obj, keys[i], dtype)) return false;
        found = true;
    }
    return found || !otherwise || cJSON_AddStringToObject(obj, otherwise, dtype);
}

bool hf_config_set_dtype(struct hf_config *c, const char *dtype, struct err *e)
{
    cJSON *json = cJSON_Duplicate(c->json, true);
    cJSON *text = cJSON_GetObjectItemCaseSensitive(json, "text_config");

    if (!json || !set_dtype(json, dtype, "torch_dtype") ||
        (cJSON_IsObject(text) && !set_dtype(text, dtype, NULL))) {
        cJSON_Delete(json);
        return err_set(e, "%s: out of memory", c->file);
    }
    return hf_config_adopt(c, json, e);
}

bool hf_config_write(const struct hf_config *c, const char *path, struct err *e)
{
    struct file_out out;
    char *text = cJSON_Print(c->json);

    if (!text) return err_set(e, "%s: out of memory", path);
    if (!file_out_open(&out, path, e)) {
        cJSON_free(text);
        return false;
    }
    fprintf(out.fp, "%s\n", text);
    cJSON_free(text);
    return file_out_commit(&out, e);
}

int64_t hf_image_tokens(const struct hf_config *c)
{
    int64_t side;

    if (!c->family->vision) return 0;
    side = c->vision.image_size / c->vision.patch_size;
    return side * side + c->vision_feature_full;
}

int64_t hf_vision_layers(const struct hf_config *c)
{
    int64_t layer = c->vision_feature_layer;

    return layer >= 0 ? layer : c->vision.num_hidden_layers + 1 + layer;
}

bool hf_check_image_tokens(const struct hf_config *c, struct err *e)
{
    int64_t tokens = hf_image_tokens(c);

    if (!c->family->vision || c->image_seq_length == tokens) return true;
    return err_set(e,
                   "%s: image_seq_length is %lld; allowed: %lld, for images of %lld with patches "
                   "of %lld and the class token %s",
                   c->file, (long long)c->image_seq_length, (long long)tokens,
                   (long long)c->vision.image_size, (long long)c->vision.patch_size,
                   c->vision_feature_full ? "kept" : "dropped");
}

bool hf_is_eos(const struct text_config *t, int64_t token)
{
    for (int i = 0; i < t->eos_count; i++) {
        if (t->eos_token_id[i] == token) return true;
    }
    return false;
}
