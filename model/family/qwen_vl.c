/* qwen_vl.c - the settings and pictures of Qwen's families; see qwen_vl.h. The tokens around a
 * picture are embedded as text but use the pictures' factors (as in the published conversion). */
#include "model/family/qwen_vl.h"
#include "data/sample.h"

/* The names in the published files and in everything that transformers saves; then those of the
 * first releases of 4.52 and some training programs. */
const struct name_layout qwen_layouts[] = {
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

/* ---- settings: transformers' Qwen2VLConfig and Qwen2_5_VLConfig (5.24), which are alike ---- */

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
bool qwen_read(const struct hf_reader *r, const cJSON *obj, const struct qwen_kind *k,
               struct hf_config *c)
{
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
                   !hf_read_axes_text(&in_text, text, k->text_types, &c->text, &c->unused)
             : !hf_read_axes_text(r, obj, k->text_types, &c->text, &c->unused))
        return false;
    if (text) skip_copies(r, obj, text);
    if (!qwen_read_tower(&in_vision, vision, k, &c->vision) ||
        !hf_list_unused(&in_vision, vision, hf_harmless, false, &c->unused) ||
        !hf_read_fields(r, obj, HF_TABLE(ids), 0, c) || !hf_read_dtype(r, obj, &c->dtype) ||
        !hf_read_fields(r, obj, &tie, 1, 0, &tied))
        return false;
    c->text.tie_word_embeddings |= tied;
    c->pad_token_id = HF_NO_TOKEN;
    return true;
}

/* ---- pictures ---- */

void qwen_new_processor(const struct hf_config *c, struct processor *p)
{
    processor_default_of(p, "native");
    p->patch_size = c->vision.patch_size;
    p->merge_size = c->vision.spatial_merge_size;
    p->temporal_patch_size = c->vision.temporal_patch_size;
}

bool qwen_check_processor(const struct hf_config *c, const struct processor *p, struct err *e)
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

void qwen_shape(const struct hf_config *c, struct picture_shape *s)
{
    s->kept_h = s->grid_h / c->vision.spatial_merge_size;
    s->kept_w = s->grid_w / c->vision.spatial_merge_size;
    s->rows = s->inputs;
    s->tokens = s->kept_h * s->kept_w;
}

int64_t qwen_input_width(const struct hf_config *c)
{
    const struct vision_config *v = &c->vision;

    return v->num_channels * v->temporal_patch_size * v->patch_size * v->patch_size;
}

int64_t qwen_feature_width(const struct hf_config *c)
{
    return c->vision.hidden_size;
}

/* A row of a picture has the picture's time, plus its own row and column in height and width; after
 * a picture, positions continue beyond its longer side. */
int32_t qwen_positions(const struct sample *s, int64_t n, int32_t *out, int64_t stride)
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
