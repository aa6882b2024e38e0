/* hfconfig.c - config.json as a whole: its family, keys without effect, and changes that are
 * written back. The settings of a family are in model/family/. */
#include "model/config/hfconfig.h"
#include "base/file.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "model/config/hfconfig_parts.h"
#include "model/family/family.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 4 << 20 }; /* bytes */

/* Names from transformers' ACT2FN; spellings of one function differ only in rounding. */
const struct hf_choice hf_acts[] = {{"quick_gelu", ACT_QUICK_GELU},
                                    {"gelu", ACT_GELU},
                                    {"gelu_python", ACT_GELU},
                                    {"gelu_new", ACT_GELU_TANH},
                                    {"gelu_pytorch_tanh", ACT_GELU_TANH},
                                    {"gelu_python_tanh", ACT_GELU_TANH},
                                    {"gelu_accurate", ACT_GELU_TANH},
                                    {"gelu_fast", ACT_GELU_TANH},
                                    {"silu", ACT_SILU},
                                    {"swish", ACT_SILU},
                                    {"relu", ACT_RELU},
                                    {NULL, 0}};

const char *const hf_harmless[] = {
    /* provenance, and intended use */
    "architectures", "auto_map", "transformers_version", "_name_or_path", "name_or_path",
    "_commit_hash", "tokenizer_class", "processor_class", "is_llama_config", "unsloth_fixed",
    "unsloth_version",
    /* how other programs compute the same, or what they return as well */
    "use_cache", "pretraining_tp", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "_attn_implementation_autoset", "_flash_attn_2_enabled",
    "use_bfloat16", "torchscript", "return_dict", "output_attentions", "output_hidden_states",
    "chunk_size_feed_forward",
    /* initial values, which are not used; losses and heads other than a language model's */
    "initializer_range", "initializer_factor", "ignore_index", "id2label", "label2id", "num_labels",
    "problem_type", "finetuning_task", "task_specific_params", "logit_scale_init_value",
    "projection_dim", "sep_token_id", "decoder_start_token_id", "bos_token_id",
    /* generation: transformers takes these from generation_config.json */
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "num_return_sequences",
    /* sizes that the parts state themselves */
    "vocab_size", "hidden_size", "torch_dtype", "dtype", "original_max_position_embeddings",
    "dropout", NULL};

/* ---- the whole file ---- */

/* Settings that change the meaning of the weights altogether. */
bool hf_refuse_whole(const struct hf_reader *r, const cJSON *obj)
{
    static const struct {
        const char *key, *allowed;
    } refused[] = {
        {"quantization_config", "null: quantized weights are not supported"},
        {"per_layer_config", "null: layers that differ from each other are not supported"},
    };

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const cJSON *v = hf_get(r, obj, refused[i].key);
        if (v && !cJSON_IsNull(v)) return hf_refuse(r, refused[i].key, v, "%s", refused[i].allowed);
    }
    return true;
}

static bool find_family(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    const cJSON *v = hf_get(r, obj, "model_type");
    const char *type = cJSON_GetStringValue(v);
    char names[256] = "";

    for (const struct family *const *f = families; *f; f++) {
        if (type && strcmp((*f)->model_type, type) == 0) c->family = *f;
        if (f != families) strncat(names, ", ", sizeof names - strlen(names) - 1);
        strncat(names, (*f)->model_type, sizeof names - strlen(names) - 1);
    }
    return c->family || hf_refuse(r, "model_type", v, "%s", names);
}

/* Checkpoints of LLaVA's own code share the model_type and nothing else. */
static bool refuse_original(const struct hf_reader *r, const cJSON *obj)
{
    const cJSON *v = hf_get(r, obj, "mm_projector_type");

    return !v || cJSON_IsNull(v) || hf_get(r, obj, "text_config") ||
           hf_refuse(
               r, "mm_projector_type", v,
               "to leave it out: this is a checkpoint of LLaVA's own code, bring the same model "
               "in transformers' form, as llava-hf/llava-1.5-7b-hf is");
}

/* Fills everything else from c->doc. */
static bool read_all(struct hf_config *c, struct err *e)
{
    struct hf_used used = {.n = 0};
    const struct hf_reader r = {&c->doc, "", &used, e};
    const cJSON *root = c->doc.root, *section;

    c->json = c->doc.root;
    c->file = c->doc.path;
    if (!refuse_original(&r, root) || !find_family(&r, root, c) || !hf_refuse_whole(&r, root) ||
        !c->family->read(&r, root, c))
        return false;
    if (!hf_get_object(&r, root, "mha2mla", &section)) return false;
    c->has_mha2mla = section != NULL;
    return hf_list_unused(&r, root, hf_harmless, false, &c->unused) &&
           (!section || hf_read_mha2mla(&r, section, &c->text, hf_has_vision(c), &c->mha2mla));
}

static const struct jsonc_rules rules = {.plain = true};

/* ok: whether c->doc was read. Leaves *c zeroed on failure. */
static bool finish(struct hf_config *c, bool ok, struct err *e)
{
    if (ok && !cJSON_IsObject(c->doc.root))
        ok = jsonc_fail(&c->doc, c->doc.root, e, "is not a JSON object");
    if (ok && read_all(c, e)) return true;
    hf_config_free(c);
    return false;
}

bool hf_config_parse(struct hf_config *c, const char *text, size_t len, const char *name,
                     struct err *e)
{
    memset(c, 0, sizeof *c);
    return finish(c, jsonc_parse_as(&c->doc, name, text, len, &rules, e), e);
}

bool hf_config_read(struct hf_config *c, const char *path, struct err *e)
{
    memset(c, 0, sizeof *c);
    return finish(c, jsonc_read_as(&c->doc, path, MAX_CONFIG, &rules, e), e);
}

void hf_config_free(struct hf_config *c)
{
    jsonc_close(&c->doc);
    free(c->unused);
    memset(c, 0, sizeof *c);
}

void hf_config_borrow(struct hf_config *c)
{
    memset(&c->doc, 0, sizeof c->doc);
    c->json = NULL;
    c->unused = NULL;
}

bool hf_config_copy(struct hf_config *dst, const struct hf_config *src, struct err *e)
{
    memset(dst, 0, sizeof *dst);
    dst->doc.path = mem_strdup(src->file, e);
    dst->doc.root = cJSON_Duplicate(src->json, true);
    if (dst->doc.path && !dst->doc.root) err_set(e, "%s: out of memory", src->file);
    return finish(dst, dst->doc.path && dst->doc.root, e);
}

bool hf_config_adopt(struct hf_config *c, struct cJSON *json, struct err *e)
{
    struct hf_config fresh = {.doc = {.root = json, .path = c->doc.path}};

    if (!json) return err_set(e, "%s: out of memory", c->file);
    if (!read_all(&fresh, e)) {
        fresh.doc.path = NULL; /* belongs to c */
        hf_config_free(&fresh);
        return false;
    }
    c->doc.path = NULL; /* now fresh's */
    hf_config_free(c);
    *c = fresh;
    return true;
}

bool hf_config_fail(const struct hf_config *c, const char *path, struct err *e, const char *fmt,
                    ...)
{
    const cJSON *item = jsonc_find(&c->doc, path);
    char what[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (item) return jsonc_fail(&c->doc, item, e, "%s", what);
    return jsonc_fail(&c->doc, NULL, e, "%s; %s is left out there, and has its default", what,
                      path);
}

/* Sets whichever keys are present, possibly both; adds `otherwise` if none is. */
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
    char *text = jsonc_print(c->json, true, e);

    if (!text) return err_context(e, "%s", path);
    if (!file_out_open(&out, path, e)) {
        free(text);
        return false;
    }
    fprintf(out.fp, "%s\n", text);
    free(text);
    return file_out_commit(&out, e);
}

bool hf_has_vision(const struct hf_config *c)
{
    return c->family->features;
}

int64_t hf_input_width(const struct hf_config *c)
{
    return c->family->input_width(c);
}

int64_t hf_feature_width(const struct hf_config *c)
{
    return c->family->feature_width(c);
}
