/* qwen_vl.h - what Qwen's families of pictures near their own size share beside the towers: each
 * cell of patches is one row of the text; positions have three axes; <|vision_start|> and
 * <|vision_end|> are around each picture. */
#ifndef MODEL_FAMILY_QWEN_VL_H
#define MODEL_FAMILY_QWEN_VL_H

#include "model/family/qwen_tower.h"

extern const struct name_layout qwen_layouts[];

#define QWEN_PLACE "<|image_pad|>"
#define QWEN_PICTURE "<|vision_start|><|image_pad|><|vision_end|>"

/* What the rows of the families share. */
#define QWEN_SHARED                                                                                \
    .layouts = qwen_layouts, .place = QWEN_PLACE, .picture = QWEN_PICTURE,                         \
    .marker = "patch_embed.proj.weight", .hash = qwen_hash, .new_processor = qwen_new_processor,   \
    .check_processor = qwen_check_processor, .shape = qwen_shape, .positions = qwen_positions,     \
    .input_width = qwen_input_width, .feature_width = qwen_feature_width,                          \
    .features = qwen_features, .project = qwen_project

/* As the functions of struct family. */
bool qwen_read(const struct hf_reader *r, const cJSON *obj, const struct qwen_kind *k,
               struct hf_config *c);
void qwen_new_processor(const struct hf_config *c, struct processor *p);
bool qwen_check_processor(const struct hf_config *c, const struct processor *p, struct err *e);
void qwen_shape(const struct hf_config *c, struct picture_shape *s);
int64_t qwen_input_width(const struct hf_config *c);
int64_t qwen_feature_width(const struct hf_config *c);
int32_t qwen_positions(const struct sample *s, int64_t n, int32_t *out, int64_t stride);

#endif
