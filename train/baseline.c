/* baseline.c - a small LLaVA of the config's "baseline" shape, to be trained from scratch. */
#include "base/mem.h"
#include "model/files/model_dir.h"
#include "train/models.h"
#include "train/peft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *llava_json(const struct run *r, int32_t vocab, int32_t image, int32_t bos, int32_t eos,
                        struct err *e)
{
    const struct config_shape *s = &r->c.shape;
    int64_t side = s->image_size / s->patch_size;

    return mem_printf(
        e,
        "{\"architectures\":[\"LlavaForConditionalGeneration\"],\"model_type\":\"llava\","
        "\"image_token_index\":%d,\"image_seq_length\":%lld,\"vision_feature_layer\":-2,"
        "\"vision_feature_select_strategy\":\"default\",\"projector_hidden_act\":\"gelu\","
        "\"tie_word_embeddings\":%s,\"torch_dtype\":\"float32\","
        "\"text_config\":{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],"
        "\"hidden_size\":%lld,\"intermediate_size\":%lld,\"num_hidden_layers\":%lld,"
        "\"num_attention_heads\":%lld,\"num_key_value_heads\":%lld,\"max_position_embeddings\":%"
        "lld,"
        "\"vocab_size\":%d,\"rms_norm_eps\":1e-5,\"rope_theta\":%.17g,\"tie_word_embeddings\":%s,"
        "\"bos_token_id\":%d,\"eos_token_id\":%d,\"initializer_range\":%.17g},"
        "\"vision_config\":{\"model_type\":\"clip_vision_model\",\"hidden_size\":%lld,"
        "\"intermediate_size\":%lld,\"num_hidden_layers\":%lld,\"num_attention_heads\":%lld,"
        "\"image_size\":%lld,\"patch_size\":%lld,\"hidden_act\":\"quick_gelu\",\"projection_dim\":%"
        "lld}}",
        image, (long long)(side * side), s->tie ? "true" : "false", (long long)s->hidden_size,
        (long long)s->intermediate_size, (long long)s->layers, (long long)s->heads,
        (long long)s->kv_heads, (long long)s->max_length, vocab, s->rope_theta,
        s->tie ? "true" : "false", bos, eos, 1 / sqrt((double)s->hidden_size) / 2,
        (long long)s->vision_hidden_size, (long long)s->vision_intermediate_size,
        (long long)s->vision_layers, (long long)s->vision_heads, (long long)s->image_size,
        (long long)s->patch_size, (long long)s->vision_hidden_size);
}

bool make_baseline_model(const struct run *r, struct model *m, struct err *e)
{
    const char *dir = r->c.model.tokenizer;
    const struct tokenizer_options o = {(enum tokenizer_form)r->c.model.tokenizer_form, "llava", 0};
    struct tokenizer *tk = NULL;
    struct hf_config cfg = {0};
    char *path = NULL, *json = NULL;
    int32_t image, bos, eos;
    bool ok = false;

    if (!dir) return err_set(e, "model.tokenizer: must be given to train a baseline");
    path = file_join(dir, "tokenizer.json", e);
    tk = path && model_dir_check_tokenizer(dir, e) ? tokenizer_open(dir, &o, e) : NULL;
    if (!tk) goto out;
    image = tokenizer_id(tk, "<image>");
    bos = tokenizer_id(tk, "<s>");
    eos = tokenizer_id(tk, "</s>");
    if (image < 0 || bos < 0 || eos < 0) {
        err_set(e, "%s: has no token %s, which a baseline needs", path,
                image < 0 ? "<image>"
                : bos < 0 ? "<s>"
                          : "</s>");
        goto out;
    }
    json = llava_json(r, tokenizer_size(tk), image, bos, eos, e);
    ok = json && hf_config_parse(&cfg, json, strlen(json), "the baseline's settings", e) &&
         model_random(m, &cfg, (uint64_t)r->c.run.seed, e);
out:
    tokenizer_free(tk);
    free(path);
    free(json);
    return ok;
}

unsigned baseline_kinds(const struct config *c)
{
    return peft_kinds(c->baseline.peft, c->baseline.projector) |
           (c->baseline.vision ? 1u << PARAM_VISION : 0);
}
