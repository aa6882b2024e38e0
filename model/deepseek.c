/* deepseek.c - see deepseek.h: whether a model can have that form, where its rotated components go,
 * and the settings. */
#include "model/deepseek.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/deepseek_parts.h"
#include "model/forward.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- whether it can be, and where each component goes ---- */

static bool has_biases(const struct model *m)
{
    const struct layer *l = m->layers;

    return l->attn.q_b[0] || l->attn.k_b || l->attn.o_b || l->attn.set[TEXT].up_v_b || l->gate_b;
}

static bool check(const struct model *m, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const struct {
        bool wrong;
        const char *what;
    } rules[] = {
        {hf_has_vision(&m->cfg), "has a vision tower; needed is a text model"},
        {m->state != ATTN_MLA, "has no latents; needed is what the step svd or stage2 has left"},
        {m->method != KV_JOINT,
         "has no latent for keys and values together; needed is one of svd.method \"joint\""},
        {!m->cross, "has a rotated key for each head; needed is one of rank.basis \"cross\", or "
                    "of rank.budget \"heads\" or \"spread\""},
        {m->latents != NULL,
         "has latents that differ in width by layer; needed is one of svd.ranks \"even\""},
        {has_biases(m), "has biases, for which that class has no place; needed is one without"},
        {c->rope_scaling.type == ROPE_DYNAMIC,
         "has RoPE of type dynamic, whose frequencies change; needed is another"},
        {c->window > 0, "has a sliding window, which that class has not; needed is one without"},
    };

    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].wrong)
            return err_set(e, "%s: cannot be a DeepseekV3ForCausalLM: %s", m->dir, rules[i].what);
    return true;
}

/* How many of layer l's n components have the frequency of pair p. */
static int64_t count(const struct model *m, int64_t l, int64_t p)
{
    const int64_t n = model_rope_dim(m, l) / 2;
    const int32_t *has = m->pairs + model_pairs_before(m, l);
    int64_t found = 0;

    for (int64_t c = 0; c < n; c++)
        found += has[c] == p;
    return found;
}

/* As often as some layer has it. */
static int64_t most(const struct model *m, int64_t p)
{
    int64_t found = 0;

    for (int64_t l = 0; l < m->cfg.text.num_hidden_layers; l++)
        if (count(m, l, p) > found) found = count(m, l, p);
    return found;
}

/* Layer l's components, which ascend as the places do. */
static void place_layer(struct deepseek_layout *y, int64_t l)
{
    const int64_t n = model_rope_dim(y->m, l) / 2;
    const int32_t *has = y->m->pairs + model_pairs_before(y->m, l);

    for (int64_t i = 0, c = 0; i < y->places; i++)
        y->from[l * y->places + i] = c < n && has[c] == y->pair[i] ? (int32_t)c++ : -1;
}

/* The caller frees pair and from, also after a failure. */
static bool place(struct deepseek_layout *y, const struct model *m, struct err *e)
{
    const int64_t L = m->cfg.text.num_hidden_layers, P = m->cfg.text.head_dim / 2;

    *y = (struct deepseek_layout){.m = m};
    for (int64_t p = 0; p < P; p++)
        y->places += most(m, p);
    y->pair = mem_new((size_t)y->places, sizeof *y->pair, "the rotated key", e);
    y->from = mem_new((size_t)(L * y->places), sizeof *y->from, "the rotated key", e);
    if (!y->pair || !y->from) return false;
    for (int64_t p = 0, at = 0; p < P; p++)
        for (int64_t k = most(m, p); k > 0; k--)
            y->pair[at++] = (int32_t)p;
    for (int64_t l = 0; l < L; l++)
        place_layer(y, l);
    return true;
}

/* ---- settings ---- */

/* The number x whose inverse in fp32 is f, or nearest to it: transformers computes 1 / x. */
static double inverse(float f)
{
    const float x = 1 / f, tries[] = {x, nextafterf(x, 0), nextafterf(x, HUGE_VALF)};
    float best = x;

    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++)
        if (fabsf(1 / tries[i] - f) < fabsf(1 / best - f)) best = tries[i];
    return (double)best;
}

/* A number that Python must read as a float. */
static cJSON *one(void)
{
    return cJSON_CreateRaw("1.0");
}

/* RoPE in the keys of transformers 4, which 5 reads too. */
static bool set_rope(cJSON *root, const struct deepseek_layout *y, struct err *e)
{
    const struct text_config *c = &y->m->cfg.text;
    cJSON *rope = cJSON_CreateObject();
    float *f = mem_new((size_t)c->head_dim / 2, sizeof *f, "RoPE's frequencies", e);
    double *x = mem_new((size_t)y->places, sizeof *x, "RoPE's frequencies", e);
    bool ok = hf_set_key(root, "rope_scaling", rope, e) && f && x;

    if (ok) model_inv_freq(c, 0, f);
    for (int64_t i = 0; ok && i < y->places; i++)
        x[i] = inverse(f[y->pair[i]]);
    ok = ok && hf_set_key(root, "rope_theta", one(), e) &&
         hf_set_key(rope, "rope_type", cJSON_CreateString("longrope"), e) &&
         hf_set_key(rope, "short_factor", cJSON_CreateDoubleArray(x, (int)y->places), e) &&
         hf_set_key(rope, "long_factor", cJSON_CreateDoubleArray(x, (int)y->places), e) &&
         hf_set_key(rope, "factor", one(), e) && hf_set_key(rope, "attention_factor", one(), e) &&
         hf_set_key(rope, "original_max_position_embeddings",
                    cJSON_CreateNumber((double)c->max_position_embeddings), e);
    free(f);
    free(x);
    return ok;
}

static bool set_numbers(cJSON *root, const struct deepseek_layout *y, struct err *e)
{
    const struct text_config *c = &y->m->cfg.text;
    const struct {
        const char *key;
        double value;
    } numbers[] = {
        {"vocab_size", (double)c->vocab_size},
        {"hidden_size", (double)c->hidden_size},
        {"intermediate_size", (double)c->intermediate_size},
        {"num_hidden_layers", (double)c->num_hidden_layers},
        {"num_attention_heads", (double)c->num_attention_heads},
        {"num_key_value_heads", (double)c->num_attention_heads},
        {"kv_lora_rank", (double)y->m->latent},
        {"qk_nope_head_dim", (double)c->head_dim},
        {"qk_rope_head_dim", 2 * (double)y->places},
        {"v_head_dim", (double)c->head_dim},
        {"max_position_embeddings", (double)c->max_position_embeddings},
        {"initializer_range", c->initializer_range},
        {"rms_norm_eps", c->rms_norm_eps},
        /* No layer has experts; transformers wants numbers nevertheless. */
        {"first_k_dense_replace", (double)c->num_hidden_layers},
        {"moe_intermediate_size", (double)c->intermediate_size},
        {"n_routed_experts", 1},
        {"n_shared_experts", 1},
        {"num_experts_per_tok", 1},
        {"n_group", 1},
        {"topk_group", 1},
        {"num_nextn_predict_layers", 0},
    };
    bool ok = true;

    for (size_t i = 0; ok && i < sizeof numbers / sizeof *numbers; i++)
        ok = hf_set_key(root, numbers[i].key, cJSON_CreateNumber(numbers[i].value), e);
    return ok;
}

static cJSON *token(int64_t id)
{
    return id == HF_NO_TOKEN ? cJSON_CreateNull() : cJSON_CreateNumber((double)id);
}

static bool set_rest(cJSON *root, const struct model *m, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const char *name = "DeepseekV3ForCausalLM";
    int eos[HF_MAX_EOS];

    for (int i = 0; i < c->eos_count; i++)
        eos[i] = (int)c->eos_token_id[i]; /* an id of the vocabulary */
    return hf_set_key(root, "architectures", cJSON_CreateStringArray(&name, 1), e) &&
           hf_set_key(root, "model_type", cJSON_CreateString("deepseek_v3"), e) &&
           hf_set_key(root, "hidden_act", cJSON_CreateString("silu"), e) &&
           hf_set_key(root, "q_lora_rank", cJSON_CreateNull(), e) &&
           hf_set_key(root, "attention_bias", cJSON_CreateFalse(), e) &&
           hf_set_key(root, "rope_interleave", cJSON_CreateTrue(), e) &&
           hf_set_key(root, "tie_word_embeddings", cJSON_CreateBool(c->tie_word_embeddings), e) &&
           hf_set_key(root, "bos_token_id", token(c->bos_token_id), e) &&
           hf_set_key(root, "pad_token_id", token(c->pad_token_id), e) &&
           hf_set_key(root, "eos_token_id",
                      c->eos_count ? cJSON_CreateIntArray(eos, c->eos_count) : cJSON_CreateNull(),
                      e) &&
           (!*c->dtype || hf_set_key(root, "torch_dtype", cJSON_CreateString(c->dtype), e));
}

static bool write_config(const struct deepseek_layout *y, const char *dir, struct err *e)
{
    cJSON *root = cJSON_CreateObject();
    char *path = file_join(dir, "config.json", e), *text = NULL, *line = NULL;
    bool ok = path && (root || err_set(e, "%s: out of memory", dir)) && set_rest(root, y->m, e) &&
              set_numbers(root, y, e) && set_rope(root, y, e) &&
              ((text = cJSON_Print(root)) || err_set(e, "%s: out of memory", path)) &&
              (line = mem_printf(e, "%s\n", text)) && file_write(path, line, strlen(line), e);

    cJSON_Delete(root);
    free(line);
    free(text);
    free(path);
    return ok;
}

bool deepseek_write(const struct model *m, const char *dir, struct deepseek *out, struct err *e)
{
    struct deepseek_layout y = {0};
    bool there, ok = check(m, e) && file_there(dir, &there, e) &&
                     (!there || err_set(e, "%s: exists; give the name of a new directory", dir));

    if (!ok) return false;
    ok = place(&y, m, e) && file_mkdirs(dir, e) && deepseek_write_tensors(&y, dir, e) &&
         model_copy_files(m->base_dir ? m->base_dir : m->dir, dir, e) && write_config(&y, dir, e);
    if (!ok) file_remove_tree(dir);
    *out = (struct deepseek){2 * y.places, m->latent};
    free(y.pair);
    free(y.from);
    return ok;
}
