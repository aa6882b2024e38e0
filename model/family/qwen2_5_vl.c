/* qwen2_5_vl.c - Qwen2.5-VL: pictures near their own size, each cell of patches one row of the
 * text; positions with three axes; <|vision_start|> and <|vision_end|> around each picture, which
 * are embedded as text but use the pictures' factors (as in the published conversion). */
#include "base/mem.h"
#include "data/sample.h"
#include "model/family/qwen_tower.h"

#include <stdlib.h>
#include <string.h>

/* The names in the published files and in everything that transformers saves; then those of the
 * first releases of 4.52 and some training programs. */
static const struct name_layout layouts[] = {
    {.text = "model.",
     .head = "lm_head.weight",
     .vision = "visual.",
     .projector = "visual.merger."},
    {.text = "model.language_model.",
     .head = "lm_head.weight",
     .vision = "model.visual.",
     .projector = "model.visual.merger."},
    {0},
};

/* ---- settings: transformers' Qwen2_5_VLConfig (5.24) ---- */

#define ID(json, member, d)                                                                        \
    {                                                                                              \
        .key = json, .offset = offsetof(struct hf_config, member), .kind = HF_INT, .hi = 1 << 30,  \
        .def = {                                                                                   \
            d                                                                                      \
        }                                                                                          \
    }
static const struct hf_field ids[] = {
    ID("image_token_id", image_token_index, 151655),
    ID("video_token_id", video_token_id, 151656),
    ID("vision_start_token_id", vision_start_token_id, 151652),
    ID("vision_end_token_id", vision_end_token_id, 151653),
};
#undef ID

/* transformers 4.52 to 4.57 wrote some keys of text_config at the top too. */
static void skip_copies(const struct hf_reader *r, const cJSON *obj, const cJSON *text)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, text)
    {
        hf_get(r, obj, item->string);
    }
}

/* The decoder's keys are in text_config if there is one, and only there: copies at the top are not
 * defaults. In older files they are at the top. */
static bool read(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    static const char *const text_types[] = {"qwen2_5_vl_text", "qwen2_5_vl", NULL};
    const struct hf_field tie = {.key = "tie_word_embeddings", .kind = HF_BOOL};
    const struct hf_reader in_text = {r->doc, "text_config.", r->used, r->e};
    const struct hf_reader in_vision = {r->doc, "vision_config.", r->used, r->e};
    const cJSON *text, *vision;
    bool tied;

    hf_get(r, obj, "vision_token_id"); /* ignored, as in transformers */
    if (!hf_get_object(r, obj, "text_config", &text) ||
        !hf_get_object(r, obj, "vision_config", &vision))
        return false;
    if (text ? !hf_refuse_whole(&in_text, text) ||
                   !hf_read_axes_text(&in_text, text, text_types, &c->text, &c->unused)
             : !hf_read_axes_text(r, obj, text_types, &c->text, &c->unused))
        return false;
    if (text) skip_copies(r, obj, text);
    if (!qwen_read_tower(&in_vision, vision, &c->vision) ||
        !hf_list_unused(&in_vision, vision, hf_harmless, false, &c->unused) ||
        !hf_read_fields(r, obj, HF_TABLE(ids), 0, c) || !hf_read_dtype(r, obj, &c->dtype) ||
        !hf_read_fields(r, obj, &tie, 1, 0, &tied))
        return false;
    c->text.tie_word_embeddings |= tied;
    c->pad_token_id = HF_NO_TOKEN;
    return true;
}

/* ---- a new model ---- */

/* As in the published models, a quarter of the pairs of a head turns with time and the rest with
 * height and width; half of the tower's blocks, the last among them, see the whole picture. */
static char *text_json(const struct fresh_shape *s, int64_t vocab, const int32_t id[FRESH_TOKENS],
                       struct err *e)
{
    const int64_t pairs = s->hidden_size / s->heads / 2, time = pairs / 4;
    const int64_t height = (pairs - time + 1) / 2;

    return mem_printf(e,
                      "\"hidden_size\":%lld,\"intermediate_size\":%lld,\"num_hidden_layers\":%lld,"
                      "\"num_attention_heads\":%lld,\"num_key_value_heads\":%lld,"
                      "\"max_position_embeddings\":%lld,\"vocab_size\":%lld,\"rms_norm_eps\":1e-6,"
                      "\"rope_theta\":%.17g,\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":"
                      "[%lld,%lld,%lld]},\"tie_word_embeddings\":%s,\"use_sliding_window\":false,"
                      "\"bos_token_id\":%d,\"eos_token_id\":%d,\"initializer_range\":%.17g",
                      (long long)s->hidden_size, (long long)s->intermediate_size,
                      (long long)s->layers, (long long)s->heads, (long long)s->kv_heads,
                      (long long)s->max_length, (long long)vocab, s->rope_theta, (long long)time,
                      (long long)height, (long long)(pairs - time - height),
                      s->tie ? "true" : "false", id[FRESH_BOS], id[FRESH_EOS], fresh_deviation(s));
}

static char *vision_json(const struct fresh_shape *s, struct err *e)
{
    return mem_printf(e,
                      "{\"model_type\":\"qwen2_5_vl\",\"depth\":%lld,\"hidden_size\":%lld,"
                      "\"intermediate_size\":%lld,\"num_heads\":%lld,\"out_hidden_size\":%lld,"
                      "\"patch_size\":%lld,\"window_size\":%lld,\"temporal_patch_size\":2,"
                      "\"spatial_merge_size\":2,\"fullatt_block_indexes\":[%lld,%lld]}",
                      (long long)s->vision_layers, (long long)s->vision_hidden_size,
                      (long long)s->vision_intermediate_size, (long long)s->vision_heads,
                      (long long)s->hidden_size, (long long)s->patch_size, (long long)s->image_size,
                      (long long)((s->vision_layers - 1) / 2), (long long)(s->vision_layers - 1));
}

static char *fresh_json(const struct fresh_shape *s, int64_t vocab, const int32_t id[FRESH_TOKENS],
                        struct err *e)
{
    char *text = text_json(s, vocab, id, e), *vision = text ? vision_json(s, e) : NULL;
    char *json = NULL;

    if (vision)
        json = mem_printf(e,
                          "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",%s,"
                          "\"image_token_id\":%d,\"vision_start_token_id\":%d,"
                          "\"vision_end_token_id\":%d,\"torch_dtype\":\"float32\","
                          "\"vision_config\":%s}",
                          family_qwen2_5_vl.architecture, family_qwen2_5_vl.model_type, text,
                          id[FRESH_PLACE], id[FRESH_START], id[FRESH_END], vision);
    free(text);
    free(vision);
    return json;
}

static const struct fresh fresh = {
    {"<|endoftext|>", "<|im_end|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"},
    fresh_json};

/* ---- pictures ---- */

static void new_processor(const struct hf_config *c, struct processor *p)
{
    processor_default_of(p, "native");
    p->patch_size = c->vision.patch_size;
    p->merge_size = c->vision.spatial_merge_size;
    p->temporal_patch_size = c->vision.temporal_patch_size;
}

static bool check_processor(const struct hf_config *c, const struct processor *p, struct err *e)
{
    const struct vision_config *v = &c->vision;

    if (!processor_is(p, "native", e)) return false;
    return (p->patch_size == v->patch_size && p->merge_size == v->spatial_merge_size &&
            p->temporal_patch_size == v->temporal_patch_size) ||
           err_set(e,
                   "makes patches of %lld pixels, %lld x %lld and %lld frames together; the tower "
                   "takes %lld, %lld x %lld and %lld",
                   (long long)p->patch_size, (long long)p->merge_size, (long long)p->merge_size,
                   (long long)p->temporal_patch_size, (long long)v->patch_size,
                   (long long)v->spatial_merge_size, (long long)v->spatial_merge_size,
                   (long long)v->temporal_patch_size);
}

static void shape(const struct hf_config *c, struct picture_shape *s)
{
    s->kept_h = s->grid_h / c->vision.spatial_merge_size;
    s->kept_w = s->grid_w / c->vision.spatial_merge_size;
    s->rows = s->inputs;
    s->tokens = s->kept_h * s->kept_w;
}

static int64_t input_width(const struct hf_config *c)
{
    const struct vision_config *v = &c->vision;

    return v->num_channels * v->temporal_patch_size * v->patch_size * v->patch_size;
}

static int64_t feature_width(const struct hf_config *c)
{
    return c->vision.hidden_size;
}

/* A row of a picture has the picture's time, plus its own row and column in height and width; after
 * a picture, positions continue beyond its longer side. */
static int32_t positions(const struct sample *s, int64_t n, int32_t *out, int64_t stride)
{
    const struct picture_shape *shape = s->shape;
    int32_t now = 0;

    for (int64_t i = 0; i < n;) {
        if (s->kind[i] != TOKEN_PLACE) {
            for (int axis = 0; axis < 3; axis++)
                out[axis * stride + i] = now;
            now++;
            i++;
            continue;
        }
        for (int64_t k = 0; k < shape->tokens && i < n; k++, i++) {
            out[i] = now;
            out[stride + i] = now + (int32_t)(k / shape->kept_w);
            out[2 * stride + i] = now + (int32_t)(k % shape->kept_w);
        }
        now += (int32_t)(shape->kept_h > shape->kept_w ? shape->kept_h : shape->kept_w);
        shape++;
    }
    return now;
}

const struct family family_qwen2_5_vl = {.model_type = "qwen2_5_vl",
                                         .architecture = "Qwen2_5_VLForConditionalGeneration",
                                         .layouts = layouts,
                                         .read = read,
                                         .place = "<|image_pad|>",
                                         .picture = "<|vision_start|><|image_pad|><|vision_end|>",
                                         .marker = "patch_embed.proj.weight",
                                         .processor_class = "Qwen2_5_VLProcessor",
                                         .declare = qwen_declare,
                                         .check = qwen_check,
                                         .hash = qwen_hash,
                                         .new_processor = new_processor,
                                         .check_processor = check_processor,
                                         .shape = shape,
                                         .positions = positions,
                                         .input_width = input_width,
                                         .feature_width = feature_width,
                                         .features = qwen_features,
                                         .project = qwen_project,
                                         .fresh = &fresh};
