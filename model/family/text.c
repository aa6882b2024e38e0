/* text.c - language models without vision: Llama and Qwen2. Their settings are in
 * model/config/hfconfig_text.c. */
#include "model/family/family.h"

/* Also as transformers reads them, with one "model." too few or too many. */
static const struct name_layout layouts[] = {
    {.text = "model.", .head = "lm_head.weight"},
    {.text = "", .head = "lm_head.weight"},
    {.text = "model.model.", .head = "model.lm_head.weight"},
    {0},
};

static bool read(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    if (!hf_read_text(r, obj, &c->text, &c->unused)) return false;
    c->pad_token_id = c->text.pad_token_id;
    c->dtype = c->text.dtype;
    c->image_token_index = HF_NO_TOKEN;
    c->vision_start_token_id = c->vision_end_token_id = c->video_token_id = HF_NO_TOKEN;
    return true;
}

const struct family family_llama = {
    .model_type = "llama", .architecture = "LlamaForCausalLM", .layouts = layouts, .read = read};
const struct family family_mistral = {.model_type = "mistral",
                                      .architecture = "MistralForCausalLM",
                                      .chat = "mistral",
                                      .layouts = layouts,
                                      .read = read};
const struct family family_qwen2 = {.model_type = "qwen2",
                                    .architecture = "Qwen2ForCausalLM",
                                    .chat = "chatml",
                                    .layouts = layouts,
                                    .read = read};
