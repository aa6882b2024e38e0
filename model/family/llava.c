/* llava.c - LLaVA-1.5: each picture is one square, whose CLIP features go through a projector of
 * two layers; each feature row becomes one row of the text.
 *
 *     rows = W_2 act(W_1 features + b_1) + b_2     [N*P, feature width] to [N*P, d]
 *
 * N images of P feature rows each (clip.c), d the language model's hidden size; W_1 is linear_1
 * [d, feature width], W_2 linear_2 [d, d]. */
#include "model/family/llava.h"
#include "base/mem.h"
#include "model/open_parts.h"
#include "model/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where transformers keeps the parts: before and since 4.52, each with and without the tower's own
 * prefix (5.x writes the latter); and a model without its head. */
const struct name_layout llava_layouts[] = {
    {"language_model.model.", "language_model.lm_head.weight", "vision_tower.vision_model.",
     "multi_modal_projector.", "image_newline"},
    {"language_model.model.", "language_model.lm_head.weight", "vision_tower.",
     "multi_modal_projector.", "image_newline"},
    {"model.language_model.", "lm_head.weight", "model.vision_tower.vision_model.",
     "model.multi_modal_projector.", "model.image_newline"},
    {"model.language_model.", "lm_head.weight", "model.vision_tower.",
     "model.multi_modal_projector.", "model.image_newline"},
    {"language_model.", "lm_head.weight", "vision_tower.", "multi_modal_projector.",
     "image_newline"},
    {0},
};

/* ---- settings: transformers' LlavaConfig (5.24) ---- */

static const char *const strategies[] = {"default", "full", NULL};
static const struct hf_field llava_fields[] = {
    HF_INT_ROW(hf_config, image_seq_length, 1 << 24, 576, 576),
    HF_BOOL_ROW(hf_config, multimodal_projector_bias, true),
    {HF_ROW(hf_config, projector_hidden_act), .kind = HF_CHOICE, .choices = hf_acts,
     .def = {ACT_GELU, ACT_GELU}},
    {HF_ROW(hf_config, pad_token_id), .kind = HF_TOKEN, .def = {HF_NO_TOKEN, HF_NO_TOKEN}},
};

/* The placeholder's id has two names; transformers writes either one. */
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
        return hf_fail(r, obj, "image_token_index",
                       "is %lld and image_token_id %lld; allowed: the same number", (long long)*out,
                       (long long)other);
    *out = other;
    return true;
}

bool llava_read(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    const struct hf_field strategy = {.key = "vision_feature_select_strategy",
                                      .kind = HF_NAME,
                                      .names = strategies,
                                      .def_name = strategies[0]};
    const struct hf_field tie = {.key = "tie_word_embeddings", .kind = HF_BOOL};
    struct text_config *t = &c->text;
    const struct hf_reader in_text = {r->doc, "text_config.", r->used, r->e};
    const struct hf_reader in_vision = {r->doc, "vision_config.", r->used, r->e};
    const cJSON *text, *vision;
    const char *how;
    bool tied;

    if (!hf_get_object(r, obj, "text_config", &text) || !hf_refuse_whole(&in_text, text) ||
        !hf_read_text(&in_text, text, t, &c->unused) ||
        !hf_list_unused(&in_text, text, hf_harmless, false, &c->unused))
        return false;
    if (!hf_get_object(r, obj, "vision_config", &vision) ||
        !clip_read(&in_vision, vision, &c->vision) ||
        !hf_list_unused(&in_vision, vision, hf_harmless, false, &c->unused))
        return false;
    if (!hf_read_fields(r, obj, HF_TABLE(llava_fields), 0, c) ||
        !hf_read_fields(r, obj, &strategy, 1, 0, &how) ||
        !hf_read_fields(r, obj, &tie, 1, 0, &tied) || !clip_read_feature_layers(r, obj, c) ||
        !hf_read_eos(r, hf_get(r, obj, "eos_token_id"), t->vocab_size, t->eos_token_id,
                     &t->eos_count) ||
        !read_image_token(r, obj, &c->image_token_index) || !hf_read_dtype(r, obj, &c->dtype))
        return false;
    c->vision_start_token_id = c->vision_end_token_id = c->video_token_id = HF_NO_TOKEN;
    c->vision_feature_full = strcmp(how, "full") == 0;
    t->tie_word_embeddings |= tied;
    return true;
}

/* ---- a new model ---- */

/* The object "text_config". */
static char *text_json(const struct fresh_shape *s, int64_t vocab, const int32_t id[FRESH_TOKENS],
                       struct err *e)
{
    return mem_printf(e,
                      "{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],"
                      "\"hidden_size\":%lld,\"intermediate_size\":%lld,\"num_hidden_layers\":%lld,"
                      "\"num_attention_heads\":%lld,\"num_key_value_heads\":%lld,"
                      "\"max_position_embeddings\":%lld,\"vocab_size\":%lld,\"rms_norm_eps\":1e-5,"
                      "\"rope_theta\":%.17g,\"tie_word_embeddings\":%s,"
                      "\"bos_token_id\":%d,\"eos_token_id\":%d,\"initializer_range\":%.17g}",
                      (long long)s->hidden_size, (long long)s->intermediate_size,
                      (long long)s->layers, (long long)s->heads, (long long)s->kv_heads,
                      (long long)s->max_length, (long long)vocab, s->rope_theta,
                      s->tie ? "true" : "false", id[FRESH_BOS], id[FRESH_EOS], fresh_deviation(s));
}

/* The object "vision_config". */
static char *vision_json(const struct fresh_shape *s, struct err *e)
{
    return mem_printf(e,
                      "{\"model_type\":\"clip_vision_model\",\"hidden_size\":%lld,"
                      "\"intermediate_size\":%lld,\"num_hidden_layers\":%lld,"
                      "\"num_attention_heads\":%lld,\"image_size\":%lld,\"patch_size\":%lld,"
                      "\"hidden_act\":\"quick_gelu\",\"projection_dim\":%lld}",
                      (long long)s->vision_hidden_size, (long long)s->vision_intermediate_size,
                      (long long)s->vision_layers, (long long)s->vision_heads,
                      (long long)s->image_size, (long long)s->patch_size,
                      (long long)s->vision_hidden_size);
}

char *llava_json(const struct family *f, const char *more, const struct fresh_shape *s,
                 int64_t vocab, const int32_t id[FRESH_TOKENS], struct err *e)
{
    const int64_t side = s->image_size / s->patch_size;
    char *text = text_json(s, vocab, id, e), *vision = text ? vision_json(s, e) : NULL;
    char *json = NULL;

    if (vision)
        json = mem_printf(e,
                          "{\"architectures\":[\"%s\"],\"model_type\":\"%s\","
                          "\"image_token_index\":%d,\"image_seq_length\":%lld,%s"
                          "\"vision_feature_layer\":-2,"
                          "\"vision_feature_select_strategy\":\"default\","
                          "\"projector_hidden_act\":\"gelu\",\"tie_word_embeddings\":%s,"
                          "\"torch_dtype\":\"float32\",\"text_config\":%s,\"vision_config\":%s}",
                          f->architecture, f->model_type, id[FRESH_PLACE], (long long)(side * side),
                          more, s->tie ? "true" : "false", text, vision);
    free(text);
    free(vision);
    return json;
}

static char *fresh_json(const struct fresh_shape *s, int64_t vocab, const int32_t id[FRESH_TOKENS],
                        struct err *e)
{
    return llava_json(&family_llava, "", s, vocab, id, e);
}

static const struct fresh fresh = {LLAVA_TOKENS, fresh_json};

/* ---- parameters ---- */

bool llava_declare(struct model *m, struct err *e)
{
    int64_t layers = m->cfg.vision.num_hidden_layers, text = m->cfg.text.hidden_size;
    const char *proj = m->layout->projector;
    size_t bytes = sizeof(struct llava) + (size_t)layers * sizeof(struct clip_layer);
    struct llava *l = m->tower = mem_new(1, bytes, "the list of the tower's layers", e);

    if (!l) return false;
    l->clip.layer = (struct clip_layer *)(l + 1);
    clip_declare(m, &l->clip);
    l->proj1 = param_matrix(m, PARAM_PROJECTOR, text, clip_feature_width(&m->cfg),
                            "%slinear_1.weight", proj);
    l->proj2 = param_matrix(m, PARAM_PROJECTOR, text, text, "%slinear_2.weight", proj);
    if (!m->cfg.multimodal_projector_bias) return true;
    l->proj1_b = param_vector(m, PARAM_PROJECTOR, text, "%slinear_1.bias", proj);
    l->proj2_b = param_vector(m, PARAM_PROJECTOR, text, "%slinear_2.bias", proj);
    return true;
}

/* The projector's input is the features of all layers named. */
static bool check_features(const struct model *m, struct err *e)
{
    static const char key[] = "vision_feature_layer";
    const struct st_tensor *t;
    char name[300], shape[128];

    snprintf(name, sizeof name, "%slinear_1.weight", m->layout->projector);
    t = model_find_tensor(m, name);
    if (!t || t->ndim != 2 || t->dim[1] == clip_feature_width(&m->cfg)) return true;
    shape_text(t->dim, t->ndim, shape, sizeof shape);
    return hf_config_fail(
        &m->cfg, key, e,
        "%s names %d of the tower's layers, which with hidden_size %lld make %lld, "
        "but tensor %s is [%s]: " OTHER_MODEL,
        key, m->cfg.feature_count, (long long)m->cfg.vision.hidden_size,
        (long long)clip_feature_width(&m->cfg), name, shape);
}

bool llava_check(const struct model *m, struct err *e)
{
    const struct presence_rule bias = {"",
                                       "multimodal_projector_bias",
                                       model_truth(m->cfg.multimodal_projector_bias),
                                       m->cfg.multimodal_projector_bias,
                                       m->layout->projector,
                                       "linear_1.bias"};

    return clip_check(m, e) && check_features(m, e) && model_check_presence(m, &bias, e);
}

/* ---- the graph ---- */

static bool check_processor(const struct hf_config *c, const struct processor *p, struct err *e)
{
    return processor_is(p, "clip", e) && clip_check_processor(c, p, e);
}

static void shape(const struct hf_config *c, struct picture_shape *s)
{
    s->rows = s->tokens = clip_rows(c);
}

static struct tensor *features(struct model *m, struct tape *t, struct tensor *pixels,
                               const struct picture_shape *shapes, int64_t n)
{
    const struct llava *l = m->tower;

    (void)shapes; /* all are the same */
    CHECK(pixels->rows == n);
    return clip_features(m, t, &l->clip, pixels);
}

struct tensor *llava_project(struct model *m, struct tape *t, const struct forward *f)
{
    const struct llava *l = m->tower;
    struct tensor *x = f->features;

    /* [N*P, d] both times */
    x = op_linear(t, x, param_tensor(l->proj1), param_tensor(l->proj1_b), NULL);
    x = op_activation(t, x, m->cfg.projector_hidden_act);
    return op_linear(t, x, param_tensor(l->proj2), param_tensor(l->proj2_b), NULL);
}

const struct family family_llava = {.model_type = "llava",
                                    .architecture = "LlavaForConditionalGeneration",
                                    .layouts = llava_layouts,
                                    .read = llava_read,
                                    .place = "<image>",
                                    .marker = "embeddings.class_embedding",
                                    .declare = llava_declare,
                                    .check = llava_check,
                                    .hash = clip_hash,
                                    .feature_width = clip_feature_width,
                                    .new_processor = clip_new_processor,
                                    .check_processor = check_processor,
                                    .shape = shape,
                                    .rows = clip_rows,
                                    .input_width = clip_input_width,
                                    .features = features,
                                    .project = llava_project,
                                    .fresh = &fresh};
