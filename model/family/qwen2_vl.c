/* qwen2_vl.c - Qwen2-VL: what qwen_vl.h has, with a tower whose attention always covers the whole
 * picture, LayerNorm, and an MLP without a gate. */
#include "model/family/qwen_vl.h"

/* transformers' Qwen2VLVisionConfig (5.24). Its hidden_size is that of the text. */
static const struct hf_field fields[] = {
    QWEN_INT("depth", num_hidden_layers, HF_MAX_BLOCKS, 32),
    QWEN_INT("embed_dim", hidden_size, HF_MAX_WIDTH, 1280),
    QWEN_INT("mlp_ratio", intermediate_size, 64, 4), /* until settle, which makes it a width */
    QWEN_INT("num_heads", num_attention_heads, HF_MAX_COUNT, 16),
    QWEN_INT("in_channels", num_channels, 3, 3),
    QWEN_INT("patch_size", patch_size, HF_MAX_COUNT, 14),
    QWEN_INT("spatial_merge_size", spatial_merge_size, 16, 2),
    QWEN_INT("temporal_patch_size", temporal_patch_size, 16, 2),
    QWEN_INT("hidden_size", out_hidden_size, HF_MAX_WIDTH, 3584),
    {.key = "hidden_act",
     .offset = offsetof(struct vision_config, hidden_act),
     .kind = HF_CHOICE,
     .choices = hf_acts,
     .def = {ACT_QUICK_GELU}},
};

static bool settle(const struct hf_reader *r, const cJSON *obj, struct vision_config *v)
{
    (void)r;
    (void)obj;
    v->intermediate_size *= v->hidden_size;
    return true;
}

static const char *const text_types[] = {"qwen2_vl_text", "qwen2_vl", NULL};
static const char *const vision_types[] = {"qwen2_vl", "qwen2_vl_vision", NULL};
static const struct qwen_kind kind = {
    .text_types = text_types,
    .vision_types = vision_types,
    .fields = fields,
    .n_fields = sizeof fields / sizeof *fields,
    .settle = settle,
    .width = "embed_dim",
    .out = "hidden_size",
    .mlp = {.key = "mlp_ratio", .ratio = true, .up = "mlp.fc1", .down = "mlp.fc2"},
    .layernorm = true,
};

static bool read(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    return qwen_read(r, obj, &kind, c);
}

static bool declare(struct model *m, struct err *e)
{
    return qwen_declare(m, &kind, e);
}

static bool check(const struct model *m, struct err *e)
{
    return qwen_check(m, &kind, e);
}

const struct family family_qwen2_vl = {.model_type = "qwen2_vl",
                                       .architecture = "Qwen2VLForConditionalGeneration",
                                       .chat = "qwen2_vl",
                                       .read = read,
                                       .processor_class = "Qwen2VLProcessor",
                                       .declare = declare,
                                       .check = check,
                                       QWEN_SHARED};
