/* test_hfconfig.c - configs are read as by transformers (golden.json, made by
 * data/hfconfig/make_golden.py), unsupported settings are refused by name, and writing keeps the
 * rest of the file. */
#include "base/file.h"
#include "base/mem.h"
#include "model/config/hfconfig.h"
#include "model/family/clip.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIR "tests/data/hfconfig/"

static void parse(struct hf_config *c, const char *text)
{
    struct err e = {0};

    if (!hf_config_parse(c, text, strlen(text), "c.json", &e)) fail_msg("%s: %s", text, e.msg);
}

/* ---- against transformers ---- */

enum kind { INT, NUM, BOOL, WORD, ACT };
struct golden {
    const char *key;
    enum kind kind;
    size_t offset;
};
#define T(kind, member)                                                                            \
    {                                                                                              \
#member, kind, offsetof(struct text_config, member)                                        \
    }
#define R(kind, member)                                                                            \
    {                                                                                              \
#member, kind, offsetof(struct text_config, rope_scaling.member)                           \
    }
static const struct golden text_golden[] = {
    T(WORD, model_type),
    T(INT, hidden_size),
    T(INT, intermediate_size),
    T(INT, num_hidden_layers),
    T(INT, num_attention_heads),
    T(INT, num_key_value_heads),
    T(INT, head_dim),
    T(INT, vocab_size),
    T(INT, max_position_embeddings),
    T(NUM, rms_norm_eps),
    T(NUM, initializer_range),
    T(NUM, rope_theta),
    R(NUM, factor),
    R(NUM, low_freq_factor),
    R(NUM, high_freq_factor),
    R(NUM, attention_factor),
    R(NUM, mscale),
    R(NUM, mscale_all_dim),
    R(NUM, beta_fast),
    R(NUM, beta_slow),
    R(BOOL, truncate),
    T(BOOL, qkv_bias),
    T(BOOL, o_bias),
    T(BOOL, mlp_bias),
    T(BOOL, tie_word_embeddings),
    T(ACT, hidden_act),
    T(INT, bos_token_id),
    T(INT, pad_token_id),
    T(INT, pad_row),
    T(INT, window),
    T(NUM, attention_dropout),
    T(WORD, dtype),
};
#define V(kind, member)                                                                            \
    {                                                                                              \
#member, kind, offsetof(struct vision_config, member)                                      \
    }
static const struct golden vision_golden[] = {
    V(WORD, model_type),       V(INT, hidden_size),         V(INT, intermediate_size),
    V(INT, num_hidden_layers), V(INT, num_attention_heads), V(INT, image_size),
    V(INT, patch_size),        V(INT, num_channels),        V(INT, projection_dim),
    V(NUM, layer_norm_eps),    V(ACT, hidden_act),          V(NUM, attention_dropout),
};
#define W(kind, member)                                                                            \
    {                                                                                              \
#member, kind, offsetof(struct hf_config, member)                                          \
    }
static const struct golden whole_golden[] = {
    W(INT, image_token_index),    W(INT, image_seq_length), W(BOOL, multimodal_projector_bias),
    W(ACT, projector_hidden_act), W(INT, pad_token_id),     W(WORD, dtype),
};

static const struct golden qwen_vision_golden[] = {
    {"depth", INT, offsetof(struct vision_config, num_hidden_layers)},
    {"num_heads", INT, offsetof(struct vision_config, num_attention_heads)},
    {"in_channels", INT, offsetof(struct vision_config, num_channels)},
    V(INT, hidden_size),
    V(INT, intermediate_size),
    V(INT, patch_size),
    V(INT, spatial_merge_size),
    V(INT, temporal_patch_size),
    V(INT, window_size),
    V(INT, out_hidden_size),
    V(ACT, hidden_act),
};
/* Its hidden_size is that of what comes out; the MLP's width is a multiple. */
static const struct golden qwen2_vision_golden[] = {
    {"depth", INT, offsetof(struct vision_config, num_hidden_layers)},
    {"num_heads", INT, offsetof(struct vision_config, num_attention_heads)},
    {"in_channels", INT, offsetof(struct vision_config, num_channels)},
    {"embed_dim", INT, offsetof(struct vision_config, hidden_size)},
    {"hidden_size", INT, offsetof(struct vision_config, out_hidden_size)},
    V(INT, intermediate_size),
    V(INT, patch_size),
    V(INT, spatial_merge_size),
    V(INT, temporal_patch_size),
    V(ACT, hidden_act),
};
static const struct golden qwen_golden[] = {
    {"image_token_id", INT, offsetof(struct hf_config, image_token_index)},
    W(INT, video_token_id),
    W(INT, vision_start_token_id),
    W(INT, vision_end_token_id),
    W(INT, pad_token_id),
    W(WORD, dtype),
};

static const char *act_name(int act)
{
    static const char *const names[] = {[ACT_GELU] = "gelu",
                                        [ACT_GELU_TANH] = "gelu_new",
                                        [ACT_QUICK_GELU] = "quick_gelu",
                                        [ACT_SILU] = "silu",
                                        [ACT_RELU] = "relu"};

    return names[act];
}

static void compare(const char *file, const cJSON *want, const struct golden *g, size_t n,
                    const void *got)
{
    assert_non_null(want);
    for (size_t i = 0; i < n; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(want, g[i].key);
        const void *at = (const char *)got + g[i].offset;
        double number = v && cJSON_IsNull(v) ? HF_NO_TOKEN : cJSON_GetNumberValue(v);
        const char *text = cJSON_GetStringValue(v);
        bool same = false;
        if (!v) fail_msg("%s: golden.json lacks %s", file, g[i].key);
        if (g[i].kind == INT) same = (double)*(const int64_t *)at == number;
        if (g[i].kind == NUM) same = *(const double *)at == number;
        if (g[i].kind == BOOL) same = cJSON_IsBool(v) && *(const bool *)at == cJSON_IsTrue(v);
        if (g[i].kind == WORD) same = text && strcmp(*(const char *const *)at, text) == 0;
        if (g[i].kind == ACT) same = text && strcmp(act_name(*(const int *)at), text) == 0;
        if (!same) fail_msg("%s: %s is not what transformers reads", file, g[i].key);
    }
}

/* A null, a number or a list of numbers. */
static void compare_eos(const cJSON *want, const struct text_config *t)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(want, "eos_token_id");

    if (cJSON_IsNumber(v)) {
        assert_int_equal(t->eos_count, 1);
        assert_int_equal(t->eos_token_id[0], v->valueint);
    } else {
        assert_int_equal(t->eos_count, cJSON_GetArraySize(v));
        for (int i = 0; i < t->eos_count; i++)
            assert_int_equal(t->eos_token_id[i], cJSON_GetArrayItem(v, i)->valueint);
    }
}

/* A number or a list of numbers. */
static void compare_layers(const cJSON *whole, const struct hf_config *c)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(whole, "vision_feature_layer");
    int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 1;

    assert_int_equal(c->feature_count, n);
    for (int i = 0; i < n; i++)
        assert_int_equal(c->vision_feature_layer[i],
                         (cJSON_IsArray(v) ? cJSON_GetArrayItem(v, i) : v)->valueint);
}

#define LIST(a) a, sizeof a / sizeof *a

static void compare_clip(const char *path, const cJSON *item, const struct hf_config *c)
{
    const cJSON *whole = cJSON_GetObjectItemCaseSensitive(item, "whole"), *size;
    const cJSON *grids = cJSON_GetObjectItemCaseSensitive(whole, "image_grid_pinpoints");
    int64_t n = 0;

    compare(path, cJSON_GetObjectItem(item, "vision"), LIST(vision_golden), &c->vision);
    compare(path, whole, LIST(whole_golden), c);
    compare_layers(whole, c);
    assert_string_equal(c->vision_feature_full ? "full" : "default",
                        cJSON_GetObjectItem(whole, "vision_feature_select_strategy")->valuestring);
    cJSON_ArrayForEach(size, grids)
    {
        assert_int_equal(c->grid[n][0], size->child->valueint);
        assert_int_equal(c->grid[n++][1], size->child->next->valueint);
    }
    assert_int_equal(c->grids, n);
}

static void compare_qwen(const char *path, const cJSON *item, const struct hf_config *c)
{
    const cJSON *vision = cJSON_GetObjectItemCaseSensitive(item, "vision");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(item, "text");
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(vision, "fullatt_block_indexes"), *block;
    int blocks = 0;

    if (c->family == &family_qwen2_vl) {
        compare(path, vision, LIST(qwen2_vision_golden), &c->vision);
        assert_int_equal(c->vision.window_size, 0);
    } else {
        compare(path, vision, LIST(qwen_vision_golden), &c->vision);
    }
    compare(path, cJSON_GetObjectItem(item, "whole"), LIST(qwen_golden), c);
    cJSON_ArrayForEach(block, full) assert_true(c->vision.full[block->valueint]);
    for (int i = 0; i < HF_MAX_BLOCKS; i++)
        blocks += c->vision.full[i];
    assert_int_equal(blocks, cJSON_GetArraySize(full));
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            c->text.mrope_section[i],
            cJSON_GetArrayItem(cJSON_GetObjectItem(text, "mrope_section"), i)->valueint);
}

/* Every config that a file of golden values lists; the number of them. */
static int compare_golden(const char *name)
{
    struct err e;
    char *text;
    size_t len;
    cJSON *all;
    const cJSON *item;
    int n = 0;

    assert_true(file_read(name, 1 << 20, &text, &len, &e));
    all = cJSON_Parse(text);
    free(text);
    cJSON_ArrayForEach(item, all)
    {
        struct hf_config c;
        const cJSON *t = cJSON_GetObjectItemCaseSensitive(item, "text");
        const cJSON *whole = cJSON_GetObjectItemCaseSensitive(item, "whole");
        char path[256];
        snprintf(path, sizeof path, DIR "%s", item->string);
        n++;
        /* transformers takes one of two ids that differ; we ask which */
        if (!hf_config_read(&c, path, &e)) {
            if (!strstr(e.msg, "and image_token_id 64002; allowed: the same number"))
                fail_msg("%s", e.msg);
            continue;
        }
        compare(path, t, LIST(text_golden), &c.text);
        compare_eos(t, &c.text);
        /* rope_scaling takes precedence over it */
        if (c.unused && strcmp(c.unused, "rope_parameters") != 0 &&
            !strstr(path, "qwen2.5-vl-copies"))
            fail_msg("%s: not used: %s", path, c.unused);
        assert_string_equal(rope_type_names[c.text.rope_scaling.type],
                            cJSON_GetObjectItem(t, "rope_type")->valuestring);
        assert_int_equal(c.text.rope_scaling.original_max_position_embeddings,
                         cJSON_GetObjectItem(t, "original_max_position_embeddings")->valueint);
        assert_int_equal(hf_has_vision(&c), whole != NULL);
        if (whole) (c.text.axes == 3 ? compare_qwen : compare_clip)(path, item, &c);
        hf_config_free(&c);
    }
    cJSON_Delete(all);
    return n;
}

static void test_golden(void **state)
{
    (void)state;
    assert_int_equal(compare_golden(DIR "golden.json"), 29);
    assert_int_equal(compare_golden(DIR "golden-families.json"), 45);
}

/* ---- refusals ---- */

#define LLAMA(rest) "{\"model_type\":\"llama\"," rest "}"
#define QWEN2(rest) "{\"model_type\":\"qwen2\"," rest "}"
#define QWEN2_VL(vision) "{\"model_type\":\"qwen2_vl\",\"vision_config\":{" vision "}}"
#define LLAVA(rest) "{\"model_type\":\"llava\"," rest "}"
#define ROPE(rest) LLAMA("\"rope_scaling\":{" rest "}")
#define MLA(rest) LLAMA("\"mha2mla\":{" rest "}")

static const struct {
    const char *json, *says;
} refused[] = {
    {"", "c.json:1:1: "},
    {"[]", "c.json:1:1: is not a JSON object"},
    {"{} x", "c.json:1:4: "},
    {"{\"model_type\":\"llama\",}", "c.json:1:22: a trailing comma is not allowed before }"},
    {"{\n \"model_type\":\"llama\",\n", "c.json:3:1: "},
    {"{\"model_type\":\"llama\" // text\n}", "c.json:1:23: "},
    {"{\"model_type\":\"llama\\u0000\"}", "c.json:1:21: \\u0000 is not allowed"},
    {"{}",
     "c.json: model_type is missing; allowed: llava, llava_next, qwen2_vl, qwen2_5_vl, llama, "
     "mistral, qwen2"},
    {"{\n  \"model_type\": \"llava_1_7\"}",
     "c.json:2:17: model_type is \"llava_1_7\"; allowed: llava, llava_next, qwen2_vl, qwen2_5_vl, "
     "llama, mistral, qwen2"},
    {"{\"model_type\":\"qwen3_vl\"}", "model_type is \"qwen3_vl\"; allowed: "},
    {"{\"model_type\":\"a\\nb\"}", "model_type is \"a\\nb\"; allowed: "},
    {"{\"model_type\":3}", "model_type is 3; allowed: "},
    {"{\"model_type\":\"llama\",\"model_type\":\"qwen2\"}",
     "c.json:1:23: the key \"model_type\" is there twice in one object, first in line 1"},
    {LLAMA("\"hidden_size\":0"),
     "c.json:1:37: hidden_size is 0; allowed: a whole number from 1 to"},
    {LLAMA("\"hidden_size\":-4096"), "hidden_size is -4096"},
    {LLAMA("\"hidden_size\":4096.5"), "hidden_size is 4096.5"},
    {LLAMA("\"hidden_size\":1e30"), "hidden_size is 1e30; allowed: a whole number"},
    {LLAMA("\"hidden_size\":\"4096\""), "hidden_size is \"4096\""},
    {LLAMA("\"hidden_size\":null"), "hidden_size is null"},
    {LLAMA("\"hidden_size\":4096,\"hidden_size\":4096"), "the key \"hidden_size\" is there twice"},
    {LLAMA("\"hidden_size\":4100"), "hidden_size is 4100; allowed: a multiple of"},
    {LLAMA("\"num_key_value_heads\":5"), "num_key_value_heads is 5; allowed: a divisor of"},
    {LLAMA("\"num_key_value_heads\":64"), "num_key_value_heads is 64; allowed: a divisor of"},
    {LLAMA("\"head_dim\":127"), "head_dim is 127; allowed: an even number"},
    {LLAMA("\"rms_norm_eps\":-1"), "rms_norm_eps is -1; allowed: a number from 0 to 0.1"},
    {LLAMA("\"rope_theta\":0"), "rope_theta is 0; allowed: a number from 1"},
    {LLAMA("\"tie_word_embeddings\":1"), "tie_word_embeddings is 1; allowed: true, false"},
    {LLAMA("\"hidden_act\":\"gelu\""), "hidden_act is \"gelu\"; allowed: silu"},
    {LLAMA("\"attention_dropout\":1.5"), "attention_dropout is 1.5; allowed: a number from 0 to 1"},
    {LLAMA("\"layer_types\":[\"full_attention\"]"),
     "layer_types has 1 entries; allowed: one for each of num_hidden_layers, which is 32"},
    {LLAMA("\"layer_types\":4"), "layer_types is 4; allowed: a list"},
    {LLAMA("\"partial_rotary_factor\":0.5"), "partial_rotary_factor is 0.5; allowed: to leave it"},
    {LLAMA("\"quantization_config\":{}"), "quantization_config is {}; allowed: null"},
    {LLAMA("\"num_hidden_layers\":2,\"layer_types\":[\"full_attention\",\"sliding_attention\"]"),
     "layer_types[1] is \"sliding_attention\"; allowed: full_attention"},
    {QWEN2("\"num_hidden_layers\":2,\"layer_types\":[\"chunked_attention\",\"full_attention\"]"),
     "layer_types[0] is \"chunked_attention\"; allowed: full_attention, sliding_attention"},
    {QWEN2("\"num_hidden_layers\":1,\"layer_types\":[\"sliding_attention\"]"),
     "layer_types[0] is \"sliding_attention\"; allowed: full_attention, because "
     "use_sliding_window"},
    {QWEN2("\"use_sliding_window\":true,\"sliding_window\":0"),
     "sliding_window is 0; allowed: a whole number from 1"},
    {QWEN2("\"use_sliding_window\":1"), "use_sliding_window is 1; allowed: true, false"},
    {LLAMA("\"torch_dtype\":\"int8\""), "torch_dtype is \"int8\"; allowed: float32, float16, bf"},
    {LLAMA("\"bos_token_id\":-2"), "bos_token_id is -2; allowed: a token id, -1 or null"},
    {LLAMA("\"bos_token_id\":32000"), "bos_token_id is 32000; allowed: below vocab_size"},
    {LLAMA("\"pad_token_id\":32000"), "pad_token_id is 32000; allowed: below vocab_size"},
    {LLAMA("\"eos_token_id\":[1,32000]"),
     "eos_token_id is [1,32000]; allowed: a token id below vocab_size, which is 32000, or 1 to"},
    {LLAMA("\"eos_token_id\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]"), "or 1 to 16 of them"},
    {QWEN2("\"num_attention_heads\":16"), "num_key_value_heads is 32; allowed: a divisor"},
    {ROPE("\"rope_type\":\"yarn\""),
     "rope_scaling.factor is missing; allowed: a number, because rope_"},
    {ROPE("\"rope_type\":\"yarn\",\"factor\":0.5"),
     "rope_scaling.factor is 0.5; allowed: a number"},
    {ROPE("\"rope_type\":\"yarn\",\"factor\":4,\"rope_theta\":1"),
     "rope_scaling.rope_theta is 1; allowed: above 1, because rope_type is yarn"},
    {ROPE("\"rope_type\":\"yarn\",\"factor\":4,\"beta_fast\":-1"), "rope_scaling.beta_fast is -1"},
    {ROPE("\"rope_type\":\"yarn\",\"factor\":4,\"attention_factor\":0"),
     "rope_scaling.attention_factor is 0"},
    {ROPE("\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":0"),
     "rope_scaling.original_max_position_embeddings is 0"},
    {LLAMA("\"original_max_position_embeddings\":\"8192\",\"rope_scaling\":{\"rope_type\":\"yarn\","
           "\"factor\":4}"),
     "c.json:1:58: original_max_position_embeddings is \"8192\"; allowed: a whole number"},
    {ROPE("\"rope_type\":\"longrope\",\"long_factor\":[1]"),
     "rope_type is \"longrope\"; allowed: default, linear, dynamic, llama3, yarn"},
    {ROPE("\"type\":\"mrope\",\"mrope_section\":[16,24,24]"), "rope_scaling.type is \"mrope\""},
    {ROPE("\"type\":\"linear\""), "rope_scaling.factor is missing; allowed: a number"},
    {ROPE("\"type\":\"linear\",\"factor\":0.5"), "rope_scaling.factor is 0.5; allowed: a number"},
    {ROPE("\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1"),
     "rope_scaling.high_freq_factor is missing"},
    {ROPE("\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4"),
     "rope_scaling.high_freq_factor is 4; allowed: above low_freq_factor"},
    {LLAMA("\"rope_scaling\":[]"), "rope_scaling is []; allowed: an object"},
    {LLAMA("\"rope_parameters\":{\"full_attention\":{}}"), "rope_parameters.full_attention is {}"},
    {LLAMA("\"rope_parameters\":{\"rope_theta\":0}"), "rope_parameters.rope_theta is 0"},
    {LLAMA("\"rope_parameters\":{\"rope\\ntheta\":{}}"),
     "rope_parameters.rope\\ntheta is {}; allowed: to leave it out: layers that differ"},
    {LLAVA("\"text_config\":3"), "c.json:1:37: text_config is 3; allowed: an object"},
    {LLAVA("\"text_config\":{\"model_type\":\"gemma\"}"),
     "text_config.model_type is \"gemma\"; allowed: llama, qwen2, mistral"},
    {LLAVA("\"text_config\":{\"hidden_size\":0}"), "text_config.hidden_size is 0"},
    {LLAVA("\"text_config\":{\"rope_scaling\":{\"type\":\"su\"}}"),
     "text_config.rope_scaling.type is \"su\""},
    {LLAVA("\"text_config\":{\"quantization_config\":{\"bits\":4}}"),
     "text_config.quantization_config is {\"bits\":4}"},
    {LLAVA("\"vision_config\":{\"model_type\":\"siglip_vision_model\"}"),
     "vision_config.model_type is \"siglip_vision_model\"; allowed: clip_vision_model"},
    {LLAVA("\"vision_config\":{\"patch_size\":14,\"image_size\":225}"),
     "vision_config.image_size is 225; allowed: a multiple of patch_size"},
    {LLAVA("\"vision_config\":{\"image_size\":[336,336]}"),
     "vision_config.image_size is [336,336]"},
    {LLAVA("\"vision_config\":{\"hidden_act\":\"mish\"}"),
     "vision_config.hidden_act is \"mish\"; allowed: quick_gelu, gelu, gelu_python, gelu_new, "
     "gelu_"},
    {LLAVA("\"vision_config\":{\"num_attention_heads\":7}"), "vision_config.hidden_size is 768"},
    {LLAVA("\"vision_feature_layer\":[-2,-50]"),
     "vision_feature_layer is [-2,-50]; allowed: -25 "
     "to 24, because the tower has 24 layers, or 1 to 16"},
    {LLAVA("\"vision_feature_layer\":[]"), "vision_feature_layer is []; allowed: -25 to 24"},
    {LLAVA("\"vision_feature_layer\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]"), "or 1 to 16 of them"},
    {LLAVA("\"vision_feature_layer\":null"), "vision_feature_layer is null; allowed: -25 to 24"},
    {LLAVA("\"vision_feature_layer\":-26"), "vision_feature_layer is -26; allowed: -25 to 24"},
    {LLAVA("\"vision_feature_layer\":25"), "vision_feature_layer is 25; allowed: -25 to 24"},
    {LLAVA("\"vision_feature_select_strategy\":\"cls\""), "is \"cls\"; allowed: default, full"},
    {LLAVA("\"projector_hidden_act\":\"relu6\""),
     "projector_hidden_act is \"relu6\"; allowed: quick"},
    {LLAVA("\"image_token_index\":1,\"image_token_id\":2"),
     "image_token_index is 1 and image_token_id 2; allowed: the same number"},
    {LLAVA("\"image_token_index\":-1"), "image_token_index is -1; allowed: a whole number from 0"},
    {LLAVA("\"mm_projector_type\":\"mlp2x_gelu\""),
     "mm_projector_type is \"mlp2x_gelu\"; allowed: to leave it out: this is a checkpoint of "
     "LLaVA's"},
    {LLAVA("\"vision_config\":{\"attention_dropout\":\"0.1\"}"),
     "vision_config.attention_dropout is \"0.1\""},
    {QWEN2_VL("\"mlp_ratio\":2.5"),
     "vision_config.mlp_ratio is 2.5; allowed: a whole number from 1 to 64"},
    {QWEN2_VL("\"embed_dim\":1284"),
     "vision_config.embed_dim is 1284; allowed: a multiple of 4 num_heads, which is 64"},
    {QWEN2_VL("\"hidden_act\":\"mish\""),
     "vision_config.hidden_act is \"mish\"; allowed: quick_gelu"},
    {QWEN2_VL("\"model_type\":\"qwen2_5_vl\""),
     "vision_config.model_type is \"qwen2_5_vl\"; allowed: qwen2_vl, qwen2_vl_vision"},
    {QWEN2_VL("\"rope_parameters\":{\"rope_theta\":5000}"),
     "vision_config.rope_parameters.rope_theta is 5000; allowed: to leave it out"},
    {"{\"model_type\":\"qwen2_vl\",\"text_config\":{\"model_type\":\"qwen2_5_vl_text\"}}",
     "text_config.model_type is \"qwen2_5_vl_text\"; allowed: qwen2_vl_text, qwen2_vl"},
    {LLAMA("\"mha2mla\":4"), "mha2mla is 4; allowed: an object"},
    {MLA("\"partial_rope_version\":\"middle\""),
     "mha2mla.partial_rope_version is \"middle\"; allowed: high, low, uniform, 2-norm, mkl, mkl-m"},
    {MLA("\"rope_dim_for_mla\":31"), "mha2mla.rope_dim_for_mla is 31; allowed: an even number"},
    {MLA("\"rope_dim_for_mla\":130"), "up to head_dim, which is 128"},
    {MLA("\"svd_init_method\":\"joint\",\"low_rank\":0"), "mha2mla.low_rank is 0"},
    {MLA("\"svd_init_method\":null"), "mha2mla.svd_init_method is null"},
    {MLA("\"low_rank\":[1]"), "mha2mla.low_rank is [1]"},
    {MLA("\"calibration\":\"none\""), "mha2mla.calibration is \"none\"; allowed: activation, we"},
    {MLA("\"partial_rope_version\":\"uniform\",\"rope_dim_for_mla\":32,\"uniform_start_point\":4"),
     "mha2mla.uniform_start_point is 4"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct hf_config c;
        struct err e = {0};
        const char *json = refused[i].json;
        if (hf_config_parse(&c, json, strlen(json), "c.json", &e)) fail_msg("read: %s", json);
        if (!strstr(e.msg, refused[i].says)) fail_msg("%s: \"%s\"", json, e.msg);
        if (strchr(e.msg, '\n') || strncmp(e.msg, "c.json:", 7) != 0)
            fail_msg("%s: not one line of c.json: \"%s\"", json, e.msg);
        assert_null(c.json);
    }
}

/* Settings that look like refused ones but are not in effect. */
static void test_harmless(void **state)
{
    static const char *const fine[] = {
        LLAMA("\"attention_dropout\":0.0,\"quantization_config\":null,\"layer_types\":null"),
        LLAMA("\"num_hidden_layers\":1,\"layer_types\":[\"full_attention\"],\"pad_token_id\":-1"),
        LLAMA("\"rope_scaling\":{},\"rope_parameters\":null"),
        QWEN2("\"use_sliding_window\":true,\"sliding_window\":null"),
        QWEN2("\"use_sliding_window\":false,\"sliding_window\":\"none\""),
        ROPE("\"type\":\"linear\",\"factor\":2,\"finetuned\":true,\"beta_fast\":32"),
        LLAMA("\"attention_dropout\":null,\"eos_token_id\":-1,\"original_max_position_embeddings\":"
              "1"),
        QWEN2("\"attention_bias\":false,\"mlp_bias\":true"),
        LLAMA("\"pretraining_tp\":2"), /* sums in slices: the same function */
        LLAVA("\"image_token_index\":7,\"image_token_id\":7"),
    };
    struct hf_config c;

    (void)state;
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        parse(&c, fine[i]);
        if (c.unused && !strstr(fine[i], "mlp_bias")) fail_msg("%s: %s", fine[i], c.unused);
        hf_config_free(&c);
    }
}

/* Unread keys are listed, unless off, empty, or known to have no effect. */
static void test_unused(void **state)
{
    static const struct {
        const char *json, *unused;
    } cases[] = {
        {LLAMA("\"architectures\":[\"X\"],\"use_cache\":true,\"logit_scale\":null"), NULL},
        {LLAMA("\"logit_scale\":0.5,\"tie\":false,\"list\":[],\"object\":{},\"text\":\"\""),
         "logit_scale"},
        {LLAMA("\"sliding_window\":4096,\"qk_norm\":true"), "sliding_window, qk_norm"},
        {QWEN2("\"attention_bias\":true"), "attention_bias"},
        {ROPE("\"rope_type\":\"default\",\"mrope_section\":[16,24,24],\"factor\":4"),
         "rope_scaling.mrope_section"},
        {LLAMA("\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{"
               "\"factor\":4}"),
         "rope_parameters"},
        {LLAVA("\"image_grid\":[[1]],\"text_config\":{\"softcap\":30.0},\"vision_config\":{"
               "\"vision_use_"
               "head\":true,\"torch_dtype\":\"float16\"}"),
         "text_config.softcap, vision_config.vision_use_head, image_grid"},
        {LLAMA("\"mha2mla\":{\"optimizer\":\"x\"}"), NULL}, /* published training settings */
    };
    struct hf_config c;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parse(&c, cases[i].json);
        if (!cases[i].unused != !c.unused || (c.unused && strcmp(c.unused, cases[i].unused) != 0))
            fail_msg("%s: not used: %s", cases[i].json, c.unused ? c.unused : "nothing");
        hf_config_free(&c);
    }
}

/* A file with many unknown keys costs little, and its list is short. */
static void test_unused_many(void **state)
{
    enum { KEYS = 20000 };
    char *text = malloc(KEYS * 24 + 64), *to = text;
    struct hf_config c;

    (void)state;
    assert_non_null(text);
    to += sprintf(to, "{\"model_type\":\"llama\"");
    for (int i = 0; i < KEYS; i++)
        to += sprintf(to, ",\"unknown_%d\":1", i);
    sprintf(to, "}");
    parse(&c, text);
    assert_int_equal(strncmp(c.unused, "unknown_0, unknown_1, ", 22), 0);
    assert_in_range(strlen(c.unused), 700, 1000);
    assert_string_equal(c.unused + strlen(c.unused) - 5, ", ...");
    hf_config_free(&c);
    free(text);
}

/* ---- helpers and writing ---- */

static void test_image_tokens(void **state)
{
    struct hf_config c;

    (void)state;
    parse(&c, LLAVA("\"vision_feature_layer\":-2"));
    assert_int_equal(clip_rows(&c), 576);
    assert_int_equal(clip_layers(&c), 23);
    hf_config_free(&c);
    parse(&c, LLAVA("\"vision_feature_layer\":0,\"vision_feature_select_strategy\":\"full\""));
    assert_int_equal(clip_rows(&c), 577);
    assert_int_equal(clip_layers(&c), 0);
    hf_config_free(&c);
    parse(&c, LLAVA("\"vision_feature_layer\":[-5,3,-2],\"vision_config\":{\"hidden_size\":768}"));
    assert_int_equal(clip_layers(&c), 11); /* of 12 */
    assert_int_equal(clip_feature_layer(&c, 0), 8);
    assert_int_equal(hf_feature_width(&c), 3 * 768);
    hf_config_free(&c);
    parse(&c, LLAMA("\"eos_token_id\":[5,9]"));
    assert_false(hf_has_vision(&c));
    assert_int_equal(c.text.eos_count, 2);
    assert_int_equal(c.text.eos_token_id[1], 9);
    hf_config_free(&c);
}

/* What a published stage-2 checkpoint has under "mha2mla". */
static const char published[] =
    LLAVA("\"mha2mla\":{\"optimizer\":\"x\",\"peft_train\":\"v2\",\"partial_rope_version\":\"mkl\","
          "\"rope_dim_for_mla\":32,\"uniform_start_point\":0,\"qk_tensor_path\":\"mkl/ranks.pth\","
          "\"svd_init_method\":\"joint\",\"low_rank\":64,\"is_gqa2mha2mla\":false,"
          "\"stage1_path\":\"stage1\"}");

static void test_published_section(void **state)
{
    struct hf_config c;

    (void)state;
    parse(&c, published);
    assert_true(c.has_mha2mla);
    assert_string_equal(c.mha2mla.partial_rope_version, "mkl");
    assert_int_equal(c.mha2mla.rope_dim_for_mla, 32);
    assert_int_equal(c.mha2mla.low_rank, 64);
    assert_string_equal(c.mha2mla.qk_tensor_path, "mkl/ranks.pth");
    assert_string_equal(c.mha2mla.peft_train, "v2");
    assert_true(c.mha2mla.decoupled);
    assert_null(c.mha2mla.calibration);
    hf_config_free(&c);
    parse(&c, MLA("\"peft_train\":null"));
    assert_string_equal(c.mha2mla.svd_init_method, "none");
    assert_false(c.mha2mla.decoupled);
    assert_null(c.mha2mla.peft_train);
    hf_config_free(&c);
    parse(&c, LLAMA("\"mha2mla\":null"));
    assert_false(c.has_mha2mla);
    hf_config_free(&c);
}

static void test_set_section(void **state)
{
    struct hf_config c, d;
    struct mha2mla_config m;
    struct err e;
    char *text;

    (void)state;
    parse(&c, published);
    m = c.mha2mla; /* its strings belong to c */
    m.low_rank = 16;
    m.decoupled = false;
    m.calibration = "weight";
    m.qk_tensor_path = NULL;
    m.base = "some/where";
    assert_true(hf_config_set_mha2mla(&c, &m, &e));
    assert_true(hf_config_copy(&d, &c, &e));
    hf_config_free(&c);
    assert_int_equal(d.mha2mla.low_rank, 16);
    assert_false(d.mha2mla.decoupled);
    assert_string_equal(d.mha2mla.partial_rope_version, "mkl");
    assert_string_equal(d.mha2mla.calibration, "weight");
    assert_string_equal(d.mha2mla.base, "some/where");
    assert_null(d.mha2mla.qk_tensor_path);
    text = cJSON_PrintUnformatted(d.json);
    assert_non_null(strstr(text, "\"stage1_path\":\"stage1\"")); /* not ours, kept */
    assert_non_null(strstr(text, "\"qk_tensor_path\":null"));
    cJSON_free(text);

    m = d.mha2mla;
    m.rope_dim_for_mla = 31;
    assert_false(hf_config_set_mha2mla(&d, &m, &e));
    assert_non_null(strstr(e.msg, "rope_dim_for_mla is 31"));
    assert_int_equal(d.mha2mla.rope_dim_for_mla, 32);
    assert_true(hf_config_set_mha2mla(&d, NULL, &e));
    assert_false(d.has_mha2mla);
    assert_true(hf_config_set_mha2mla(
        &d, &(struct mha2mla_config){.partial_rope_version = "low", .svd_init_method = "none"},
        &e));
    assert_true(d.has_mha2mla);
    hf_config_free(&d);
}

static void test_write(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char dir[256], path[300];
    struct hf_config c, d;
    struct err e;
    cJSON *before;

    (void)state;
    snprintf(dir, sizeof dir, "%s/test_hfconfig.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_true(hf_config_read(&c, DIR "llava-1.5-7b.json", &e));
    before = cJSON_Duplicate(c.json, true);
    assert_true(hf_config_write(&c, path, &e));
    assert_true(hf_config_read(&d, path, &e));
    assert_true(cJSON_Compare(before, d.json, true));

    assert_true(hf_config_set_dtype(&d, "bfloat16", &e));
    assert_string_equal(d.dtype, "bfloat16");
    assert_string_equal(d.text.dtype, "bfloat16");
    assert_null(cJSON_GetObjectItem(d.json, "dtype")); /* an old file stays old */
    assert_false(hf_config_set_dtype(&d, "int8", &e));
    assert_string_equal(d.dtype, "bfloat16");
    cJSON_ReplaceItemInObject(before, "torch_dtype", cJSON_CreateString("bfloat16"));
    cJSON_ReplaceItemInObject(cJSON_GetObjectItem(before, "text_config"), "torch_dtype",
                              cJSON_CreateString("bfloat16"));
    assert_true(cJSON_Compare(before, d.json, true)); /* nothing else changed */
    cJSON_Delete(before);
    hf_config_free(&c);
    hf_config_free(&d);

    assert_false(hf_config_read(&c, dir, &e));
    assert_non_null(strstr(e.msg, dir));
    unlink(path);
    assert_false(hf_config_read(&c, path, &e));
    assert_non_null(strstr(e.msg, "config.json"));
    rmdir(dir);
}

/* Fifteen digits would give different numbers. */
static void test_last_bit(void **state)
{
    char dir[256], path[300];
    const char *tmp = getenv("TMPDIR");
    struct hf_config c, d;
    struct err e;

    (void)state;
    snprintf(dir, sizeof dir, "%s/test_hfconfig.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/config.json", dir);
    parse(&c, LLAMA("\"rope_theta\":5003921.56862745098,\"rms_norm_eps\":0.1e-5,"
                    "\"initializer_range\":0.020000000000000004"));
    assert_true(hf_config_write(&c, path, &e));
    if (!hf_config_read(&d, path, &e)) fail_msg("%s", e.msg);
    assert_memory_equal(&d.text.rope_theta, &c.text.rope_theta, sizeof c.text.rope_theta);
    assert_memory_equal(&d.text.initializer_range, &c.text.initializer_range,
                        sizeof c.text.initializer_range);
    hf_config_free(&c);
    hf_config_free(&d);
    unlink(path);
    rmdir(dir);
}

/* Every prefix and many changed bytes of a config: read or refused, nothing worse. */
static void test_cut_and_changed(void **state)
{
    struct hf_config c;
    struct err e;
    char *text;
    size_t len;

    (void)state;
    assert_true(file_read(DIR "llama-3.2-1b.json", 1 << 20, &text, &len, &e));
    for (size_t n = 0; n + 2 < len; n++) /* the last two bytes are } and newline */
        assert_false(hf_config_parse(&c, text, n, "cut", &e));
    for (size_t i = 0; i < len; i++) {
        char was = text[i];
        text[i] = (char)(was ^ (char)(1 << i % 7));
        if (hf_config_parse(&c, text, len, "changed", &e)) hf_config_free(&c);
        text[i] = was;
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_harmless),
        cmocka_unit_test(test_unused),
        cmocka_unit_test(test_unused_many),
        cmocka_unit_test(test_image_tokens),
        cmocka_unit_test(test_published_section),
        cmocka_unit_test(test_set_section),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_last_bit),
        cmocka_unit_test(test_cut_and_changed),
    };
    return cmocka_run_group_tests_name("hfconfig", tests, NULL, NULL);
}
