/* qwen2_5_vl.c - Qwen2.5-VL: what qwen_vl.h has, with a tower whose attention is in windows except
 * in some blocks, RMSNorm and a gated MLP; and new models of it. */
#include "base/mem.h"
#include "model/family/qwen_vl.h"

#include <stdlib.h>

/* ---- settings: transformers' Qwen2_5_VLVisionConfig (5.24) ---- */

static const struct hf_choice acts[] = {{"silu", ACT_SILU}, {"swish", ACT_SILU}, {NULL, 0}};
static const struct hf_field fields[] = {
    QWEN_INT("depth", num_hidden_layers, HF_MAX_BLOCKS, 32),
    QWEN_INT("hidden_size", hidden_size, HF_MAX_WIDTH, 3584),
    QWEN_INT("intermediate_size", intermediate_size, HF_MAX_WIDTH, 3420),
    QWEN_INT("num_heads", num_attention_heads, HF_MAX_COUNT, 16),
    QWEN_INT("in_channels", num_channels, 3, 3),
    QWEN_INT("patch_size", patch_size, HF_MAX_COUNT, 14),
    QWEN_INT("spatial_merge_size", spatial_merge_size, 16, 2),
    QWEN_INT("temporal_patch_size", temporal_patch_size, 16, 2),
    QWEN_INT("window_size", window_size, HF_MAX_WIDTH, 112),
    QWEN_INT("out_hidden_size", out_hidden_size, HF_MAX_WIDTH, 3584),
    {.key = "hidden_act",
     .offset = offsetof(struct vision_config, hidden_act),
     .kind = HF_CHOICE,
     .choices = acts,
     .def = {ACT_SILU}},
};

static bool read_full(const struct hf_reader *r, const cJSON *obj, struct vision_config *v)
{
    static const char key[] = "fullatt_block_indexes";
    static const int usual[] = {7, 15, 23, 31};
    const cJSON *list = hf_get(r, obj, key), *item;
    const double last = (double)v->num_hidden_layers - 1;

    for (size_t i = 0; !list && i < sizeof usual / sizeof *usual; i++)
        if (usual[i] <= last) v->full[usual[i]] = true;
    if (list && !cJSON_IsArray(list)) return hf_refuse(r, key, list, "a list of blocks");
    cJSON_ArrayForEach(item, list)
    {
        if (!hf_is_int(item, 0, HF_MAX_COUNT))
            return hf_refuse(r, key, list, "a list of blocks, counted from 0");
        if (item->valuedouble <= last) v->full[item->valueint] = true;
    }
    return true;
}

static bool settle(const struct hf_reader *r, const cJSON *obj, struct vision_config *v)
{
    hf_get(r, obj, "tokens_per_second"); /* is for videos */
    if (!read_full(r, obj, v)) return false;
    return v->window_size >= v->patch_size * v->spatial_merge_size ||
           hf_fail(r, obj, "window_size",
                   "is %lld; allowed: patch_size * spatial_merge_size or more, which is %lld",
                   (long long)v->window_size, (long long)(v->patch_size * v->spatial_merge_size));
}

static const char *const text_types[] = {"qwen2_5_vl_text", "qwen2_5_vl", NULL};
static const char *const vision_types[] = {"qwen2_5_vl", "qwen2_5_vl_vision", NULL};
static const struct qwen_kind kind = {
    .text_types = text_types,
    .vision_types = vision_types,
    .fields = fields,
    .n_fields = sizeof fields / sizeof *fields,
    .settle = settle,
    .width = "hidden_size",
    .out = "out_hidden_size",
    .mlp = {"intermediate_size", false, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"},
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

const struct family family_qwen2_5_vl = {.model_type = "qwen2_5_vl",
                                         .architecture = "Qwen2_5_VLForConditionalGeneration",
                                         .chat = "qwen2_vl",
                                         .read = read,
                                         .processor_class = "Qwen2_5_VLProcessor",
                                         .declare = declare,
                                         .check = check,
                                         .fresh = &fresh,
                                         QWEN_SHARED};
