/* hfgeneration.c - see hfgeneration.h. */
#include "model/config/hfgeneration.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/config/hfconfig_parts.h"

#include <stdlib.h>
#include <string.h>

/* Keys that change no greedy answer: provenance, how generate() computes and what it returns,
 * settings for sampling and beams only, and lengths, which evaluate.max_new_tokens sets. Sampling
 * and beams themselves are not among them. */
static const char *const harmless[] = {"_from_model_config",
                                       "transformers_version",
                                       "bos_token_id",
                                       "pad_token_id",
                                       "use_cache",
                                       "cache_implementation",
                                       "cache_config",
                                       "max_cache_len",
                                       "return_legacy_cache",
                                       "compile_config",
                                       "disable_compile",
                                       "low_memory",
                                       "output_attentions",
                                       "output_hidden_states",
                                       "output_scores",
                                       "output_logits",
                                       "return_dict_in_generate",
                                       "num_return_sequences",
                                       "temperature",
                                       "top_k",
                                       "top_p",
                                       "min_p",
                                       "top_h",
                                       "typical_p",
                                       "epsilon_cutoff",
                                       "eta_cutoff",
                                       "renormalize_logits",
                                       "remove_invalid_values",
                                       "early_stopping",
                                       "length_penalty",
                                       "diversity_penalty",
                                       "num_beam_groups",
                                       "num_assistant_tokens",
                                       "num_assistant_tokens_schedule",
                                       "assistant_confidence_threshold",
                                       "assistant_lookbehind",
                                       "target_lookbehind",
                                       "prompt_lookup_num_tokens",
                                       "max_matching_ngram_size",
                                       "is_assistant",
                                       "max_length",
                                       "max_new_tokens",
                                       "trust_remote_code",
                                       "chat_format",
                                       NULL};

/* Values that ask for what happens anyway. */
static const struct {
    const char *key;
    double value;
} neutral[] = {
    {"repetition_penalty", 1},
    {"encoder_repetition_penalty", 1},
    {"num_beams", 1},
    {"no_repeat_ngram_size", 0},
    {"encoder_no_repeat_ngram_size", 0},
    {"min_length", 0},
    {"min_new_tokens", 0},
    {"guidance_scale", 1},
    {"penalty_alpha", 0},
};

static void skip_neutral(const struct hf_reader *r, const cJSON *root)
{
    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(root, neutral[i].key);
        if (cJSON_IsNumber(v) && !(v->valuedouble < neutral[i].value) &&
            !(v->valuedouble > neutral[i].value))
            hf_get(r, root, neutral[i].key);
    }
}

/* The file's path in `dir`, or in the directory on which a model of changed tensors builds; NULL
 * with *ok still true if there is none. */
static char *find_file(const char *dir, const struct hf_config *c, bool *ok, struct err *e)
{
    const char *dirs[] = {dir, c->has_mha2mla ? c->mha2mla.base : NULL};

    for (int i = 0; i < 2 && dirs[i]; i++) {
        char *path = file_join(dirs[i], "generation_config.json", e);
        bool there = false;
        if (!path || !file_there(path, &there, e)) *ok = false;
        if (there) return path;
        free(path);
        if (!*ok) return NULL;
    }
    return NULL;
}

/* A negative number is no token: it stays among the unused keys. */
static const cJSON *get_eos(const struct hf_reader *r, const cJSON *root)
{
    static const char key[] = "eos_token_id";
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(root, key);

    return cJSON_IsNumber(v) && v->valuedouble < 0 ? v : hf_get(r, root, key);
}

static bool read_file(struct hf_generation *g, const struct hf_config *c, struct err *e)
{
    static const struct jsonc_rules rules = {.plain = true};
    struct hf_used used = {.n = 0};
    struct jsonc doc;
    const struct hf_reader r = {&doc, "", &used, e};
    bool ok;

    if (!jsonc_read_as(&doc, g->path, JSONC_CONFIG_BYTES, &rules, e)) return false;
    ok = cJSON_IsObject(doc.root) || jsonc_fail(&doc, doc.root, e, "is not a JSON object");
    ok = ok &&
         hf_read_eos(&r, get_eos(&r, doc.root), c->text.vocab_size, g->eos_token_id, &g->eos_count);
    if (ok) {
        skip_neutral(&r, doc.root);
        ok = hf_list_unused(&r, doc.root, harmless, true, &g->unused);
    }
    jsonc_close(&doc);
    return ok;
}

bool hf_generation_read(struct hf_generation *g, const char *dir, const struct hf_config *c,
                        struct err *e)
{
    bool ok = true;

    memset(g, 0, sizeof *g);
    g->path = find_file(dir, c, &ok, e);
    if (ok && g->path) ok = read_file(g, c, e);
    if (!ok) hf_generation_free(g);
    return ok;
}

void hf_generation_free(struct hf_generation *g)
{
    free(g->path);
    free(g->unused);
    memset(g, 0, sizeof *g);
}
