/* hfconfig.c - the settings of the vision tower and of the whole, with the defaults of
 * transformers' CLIPVisionConfig and LlavaConfig (5.24). A setting is one row of a table; rules
 * between settings follow the tables. */
#include "model/hfconfig.h"
#include "base/file.h"
#include "base/jsonc.h"
#include "base/mem.h"
#include "model/hfconfig_parts.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 4 << 20 }; /* bytes */

const struct hf_family hf_families[] = {
    {"llava", true}, {"llama", false}, {"qwen2", false}, {NULL, false}};

static const char *const strategies[] = {"default", "full", NULL};
static const struct hf_choice projector_acts[] = {{"gelu", ACT_GELU}, {NULL, 0}};
static const struct hf_choice vision_acts[] = {{"quick_gelu", ACT_QUICK_GELU},
                                               {"gelu", ACT_GELU},
                                               {"gelu_new", ACT_GELU_TANH},
                                               {"gelu_pytorch_tanh", ACT_GELU_TANH},
                                               {NULL, 0}};

/* The defaults: of CLIPVisionConfig, and of LLaVA where it has no vision_config at all. */
#define INT(member, max, clip, llava) HF_INT_ROW(vision_config, member, max, clip, llava)
static const struct hf_field vision_fields[] = {
    INT(hidden_size, HF_MAX_WIDTH, 768, 1024),
    INT(intermediate_size, HF_MAX_WIDTH, 3072, 4096),
    INT(num_hidden_layers, HF_MAX_COUNT, 12, 24),
    INT(num_attention_heads, HF_MAX_COUNT, 12, 16),
    INT(image_size, HF_MAX_COUNT, 224, 336),
    INT(patch_size, HF_MAX_COUNT, 32, 14),
    INT(num_channels, 16, 3, 3),
    INT(projection_dim, HF_MAX_WIDTH, 512, 768),
    HF_NUM_ROW(vision_config, layer_norm_eps, 0, 0.1, 1e-5),
    {HF_ROW(vision_config, hidden_act), .kind = HF_CHOICE, .choices = vision_acts,
     .def = {ACT_QUICK_GELU, ACT_QUICK_GELU}},
    {.key = "attention_dropout", .kind = HF_FIXED, .lo = 0},
};
#undef INT

static const struct hf_field llava_fields[] = {
    HF_INT_ROW(hf_config, image_seq_length, 1 << 24, 576, 576),
    {HF_ROW(hf_config, vision_feature_layer), .kind = HF_INT, .lo = -HF_MAX_COUNT,
     .hi = HF_MAX_COUNT, .def = {-2, -2}},
    HF_BOOL_ROW(hf_config, multimodal_projector_bias, true),
    {HF_ROW(hf_config, projector_hidden_act), .kind = HF_CHOICE, .choices = projector_acts,
     .def = {ACT_GELU, ACT_GELU}},
    {HF_ROW(hf_config, pad_token_id), .kind = HF_TOKEN, .def = {HF_NO_TOKEN, HF_NO_TOKEN}},
};

/* ---- vision tower ---- */

static bool read_vision(const struct hf_reader *r, const cJSON *obj, struct vision_config *v)
{
    static const char *const types[] = {"clip_vision_model", NULL};
    const struct hf_field type_field = {
        .key = "model_type", .kind = HF_NAME, .names = types, .def_name = types[0]};

    if (!hf_read_fields(r, obj, &type_field, 1, 0, &v->model_type)) return false;
    if (!hf_read_fields(r, obj, HF_TABLE(vision_fields), obj == NULL, v)) return false;
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
    struct hf_field f = {
        .key = "image_token_index", .kind = HF_INT, .lo = 0, .hi = 1 << 30, .def = {32000}};
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
    const struct hf_field strategy = {.key = "vision_feature_select_strategy",
                                      .kind = HF_NAME,
                                      .names = strategies,
                                      .def_name = strategies[0]};
    const struct hf_field tie = {.key = "tie_word_embeddings", .kind = HF_BOOL};
    const struct hf_reader in_text = {r->file, "text_config.", r->e};
    const struct hf_reader in_vision = {r->file, "vision_config.", r->e};
    const cJSON *text, *vision, *layer;
    const char *how;
    bool tied;
    int64_t layers;

    if (!hf_get_object(r, obj, "text_config", &text) || !hf_read_text(&in_text, text, &c->text))
        return false;
    if (!hf_get_object(r, obj, "vision_config", &vision) ||
        !read_vision(&in_vision, vision, &c->vision))
        return false;
    if (!hf_get(r, obj, "vision_feature_layer", &layer)) return false;
    if (cJSON_IsArray(layer))
        return hf_refuse(r, "vision_feature_layer", layer, "one number: the features of one layer");
    if (!hf_read_fields(r, obj, HF_TABLE(llava_fields), 0, c) ||
        !hf_read_fields(r, obj, &strategy, 1, 0, &how) ||
        !hf_read_fields(r, obj, &tie, 1, 0, &tied) ||
        !read_image_token(r, obj, &c->image_token_index) || !hf_read_dtype(r, obj, &c->dtype))
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
    char names[256] = "", *found;
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
    if (!v) return err_set(r->e, "%s: no model_type; supported: %s", r->file, names);
    found = cJSON_PrintUnformatted(v); /* quoted, on one line */
    err_set(r->e, "%s: model_type %.100s is not supported; supported: %s", r->file,
            found ? found : "?", names);
    cJSON_free(found);
    return false;
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

/* Checkpoints of LLaVA's own code have the same model_type and nothing else in common. */
static bool refuse_original(const struct hf_reader *r, const cJSON *obj)
{
    const cJSON *v, *text;

    if (!hf_get(r, obj, "mm_projector_type", &v) || !hf_get(r, obj, "text_config", &text))
        return false;
    return !v || cJSON_IsNull(v) || text ||
           hf_refuse(
               r, "mm_projector_type", v,
               "to leave it out: this is a checkpoint of LLaVA's own code, bring the same model "
               "in transformers' form, as llava-hf/llava-1.5-7b-hf is");
}

/* Fills everything from c->json and c->file. */
static bool read_all(struct hf_config *c, struct err *e)
{
    const struct hf_reader r = {c->file, "", e};
    const struct hf_reader in_text = {c->file, "text_config.", e};
    const cJSON *section, *text;

    if (!refuse_original(&r, c->json) || !find_family(&r, c->json, c) || !refuse_whole(&r, c->json))
        return false;
    if (c->family->vision) {
        if (!hf_get_object(&r, c->json, "text_config", &text) || !refuse_whole(&in_text, text) ||
            !read_llava(&r, c->json, c))
            return false;
    } else {
        if (!hf_read_text(&r, c->json, &c->text)) return false;
        c->pad_token_id = c->text.pad_token_id;
        c->dtype = c->text.dtype;
        c->image_token_index = HF_NO_TOKEN;
    }
    if (!hf_get_object(&r, c->json, "mha2mla", &section)) return false;
    c->has_mha2mla = section != NULL;
    return !section ||
           hf_read_mha2mla(c->file, section, &c->text, c->family->vision, &c->mha2mla, e);
}

bool hf_config_parse(struct hf_config *c, const char *text, size_t len, const char *name,
                     struct err *e)
{
    static const struct jsonc_rules rules = {.plain = true};
    struct jsonc doc;

    memset(c, 0, sizeof *c);
    if (!jsonc_parse_as(&doc, name, text, len, &rules, e)) return false;
    c->json = doc.root;
    doc.root = NULL;
    jsonc_close(&doc);
    c->file = mem_strdup(name, e);
    if (c->file && read_all(c, e)) return true;
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

bool hf_config_untie(struct hf_config *c, struct err *e)
{
    static const char key[] = "tie_word_embeddings";
    cJSON *json = cJSON_Duplicate(c->json, true);
    cJSON *part[2] = {json, cJSON_GetObjectItemCaseSensitive(json, "text_config")};
    bool ok = json;

    for (int i = 0; ok && i < 2; i++) {
        if (!cJSON_IsObject(part[i])) continue;
        cJSON_DeleteItemFromObjectCaseSensitive(part[i], key);
        ok = cJSON_AddFalseToObject(part[i], key);
    }
    if (ok) return hf_config_adopt(c, json, e);
    cJSON_Delete(json);
    return err_set(e, "%s: out of memory", c->file);
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

bool hf_is_eos(const struct text_config *t, int64_t token)
{
    for (int i = 0; i < t->eos_count; i++) {
        if (t->eos_token_id[i] == token) return true;
    }
    return false;
}
