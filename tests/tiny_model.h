/* tiny_model.h - a LLaVA small enough to run a thousand times in a test, and samples for it.
 * Include cmocka's headers first. */
#ifndef TESTS_TINY_MODEL_H
#define TESTS_TINY_MODEL_H

#include "base/mem.h"
#include "base/rng.h"
#include "data/dataset.h"
#include "model/forward.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TINY_D = 32,      /* hidden size */
    TINY_LAYERS = 2,  /* of the language model */
    TINY_HEADS = 4,   /* query heads of 8 dims */
    TINY_VOCAB = 40,  /* the last id is the picture's */
    TINY_TOWER = 24,  /* width of the vision features */
    TINY_PICTURE = 4, /* tokens a picture becomes */
};

/* Ends the test with the message unless ok. */
static inline void must(bool ok, const struct err *e)
{
    if (!ok) fail_msg("%s", e->msg);
}

static inline float *tiny_values(struct rng *r, int64_t n, double deviation)
{
    struct err e;
    float *v = mem_new((size_t)n, sizeof *v, "test values", &e);

    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(deviation * rng_normal(r));
    return v;
}

/* A random model of that config.json, with nonzero attention biases. */
static inline void tiny_from_json(struct model *m, const char *json, size_t len, uint64_t seed)
{
    struct hf_config cfg = {0};
    struct err e = {0};
    struct rng r;

    must(hf_config_parse(&cfg, json, len, "tiny", &e), &e);
    must(model_random(m, &cfg, seed, &e), &e);
    rng_seed(&r, seed, 2);
    for (int64_t i = 0; i < m->n_params; i++) /* biases start at 0, which would hide them */
        for (int64_t k = 0; strstr(m->params[i].name, "self_attn") && m->params[i].ndim == 1 &&
                            k < tensor_count(&m->params[i].t);
             k++)
            tensor_real(&m->params[i].t)[k] = (float)(0.3 * rng_normal(&r));
}

/* A text model without vision: `type` is llama, or qwen2, which has biases of q, k and v. */
static inline void tiny_text_model(struct model *m, const char *type, int kv_heads, uint64_t seed)
{
    char json[512];
    int n = snprintf(json, sizeof json,
                     "{\"model_type\":\"%s\",\"hidden_size\":%d,\"intermediate_size\":48,"
                     "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
                     "\"num_key_value_heads\":%d,\"vocab_size\":%d,"
                     "\"max_position_embeddings\":64,\"initializer_range\":0.2,"
                     "\"tie_word_embeddings\":true,\"bos_token_id\":1,\"eos_token_id\":2}",
                     type, TINY_D, TINY_LAYERS, TINY_HEADS, kv_heads, TINY_VOCAB);

    tiny_from_json(m, json, (size_t)n, seed);
}

/* kv_heads 4 is MHA. With `bias`, q, k, v and o have a nonzero one. */
static inline void tiny_model(struct model *m, int kv_heads, bool bias, uint64_t seed)
{
    char json[1024];
    int n = snprintf(
        json, sizeof json,
        "{\"model_type\":\"llava\",\"image_token_index\":%d,\"image_seq_length\":%d,"
        "\"vision_feature_layer\":-2,\"tie_word_embeddings\":false,\"text_config\":{"
        "\"model_type\":\"llama\",\"hidden_size\":%d,\"intermediate_size\":48,"
        "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,"
        "\"vocab_size\":%d,\"max_position_embeddings\":64,\"initializer_range\":0.2,"
        "\"attention_bias\":%s},\"vision_config\":{\"model_type\":\"clip_vision_model\","
        "\"hidden_size\":%d,\"intermediate_size\":32,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":2,\"image_size\":8,\"patch_size\":4,\"projection_dim\":16}}",
        TINY_VOCAB - 1, TINY_PICTURE, TINY_D, TINY_LAYERS, TINY_HEADS, kv_heads, TINY_VOCAB,
        bias ? "true" : "false", TINY_TOWER);

    tiny_from_json(m, json, (size_t)n, seed);
}

/* A sample from a drawing of it: 't' is a token of text, 'T' one that is trained on, 'i' a whole
 * picture, and everything before '|' is the prompt. */
static inline struct sample tiny_sample(const char *what, struct rng *r)
{
    struct sample s = {
        .ids = calloc(64, sizeof *s.ids), .trained = calloc(64, 1), .kind = calloc(64, 1)};

    assert_true(s.ids && s.trained && s.kind);
    for (; *what; what++) {
        if (*what == '|') s.prompt = s.n;
        if (*what == 'i') s.images++;
        for (int k = 0; k < (*what == 'i' ? TINY_PICTURE : *what != '|'); k++, s.n++) {
            s.ids[s.n] = *what == 'i' ? TINY_VOCAB - 1 : (int32_t)rng_below(r, TINY_VOCAB - 1);
            s.trained[s.n] = *what == 'T';
            s.kind[s.n] = *what == 'i' ? IMAGE : TEXT;
        }
    }
    s.image = calloc((size_t)s.images + 1, sizeof *s.image);
    assert_true(s.image && s.n <= 64);
    return s;
}

static inline void tiny_sample_free(struct sample *s)
{
    free((int32_t *)(uintptr_t)s->image);
    sample_free(s);
}

/* Samples, their batch, and random features of their pictures. */
struct tiny_batch {
    struct sample s[16];
    int n;
    struct batch_buffer b;
    float *features;
    struct tensor leaf;
    struct forward f;
};

static inline void tiny_batch(struct tiny_batch *t, const char *const *what, int n, uint64_t seed)
{
    struct err e = {0};
    struct rng r;

    memset(t, 0, sizeof *t);
    rng_seed(&r, seed, 3);
    for (t->n = 0; t->n < n; t->n++)
        t->s[t->n] = tiny_sample(what[t->n], &r);
    must(batch_fill(&t->b, t->s, n, false, &e), &e);
    t->features = tiny_values(&r, t->b.batch.image_tokens * TINY_TOWER, 1);
    t->leaf = tensor_leaf(DT_F32, t->b.batch.image_tokens, TINY_TOWER, t->features);
    t->f = (struct forward){.batch = &t->b.batch,
                            .features = t->b.batch.image_tokens ? &t->leaf : NULL};
}

static inline void tiny_batch_free(struct tiny_batch *t)
{
    for (int i = 0; i < t->n; i++)
        tiny_sample_free(&t->s[i]);
    batch_free(&t->b);
    free(t->features);
}

/* All parameters' gradients end to end, n values, in new memory. */
static inline float *tiny_gradients(const struct model *m, int64_t *n)
{
    float *all = NULL;

    *n = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct tensor *p = &m->params[i].t;
        if (!p->grad) continue;
        all = realloc(all, (size_t)(*n + tensor_count(p)) * sizeof *all);
        assert_non_null(all);
        memcpy(all + *n, p->grad, (size_t)tensor_count(p) * sizeof *all);
        *n += tensor_count(p);
    }
    return all;
}

/* Logits of every row [T, V], in new memory. */
static inline float *tiny_logits(struct model *m, struct tape *t, const struct forward *f)
{
    struct err e = {0};
    struct tensor *out;
    float *copy;

    tape_begin(t, false);
    out = model_logits(m, t, f, NULL, 0);
    must(tape_plan(t, 0, &e), &e);
    tape_forward(t);
    copy = mem_new((size_t)tensor_count(out), sizeof *copy, "logits", &e);
    assert_non_null(copy);
    memcpy(copy, out->data, (size_t)tensor_count(out) * sizeof *copy);
    return copy;
}

static inline double tiny_largest(const float *v, int64_t n)
{
    double most = 0;

    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)v[i]));
    return most;
}

/* The largest difference, divided by the largest value: what "relative" means in these tests. */
static inline double tiny_distance(const float *a, const float *b, int64_t n)
{
    double most = 0, diff = 0;

    for (int64_t i = 0; i < n; i++) {
        double x = a[i], y = b[i];
        if (!(x - y == x - y)) return HUGE_VAL; /* not a number */
        if (fabs(x) > most) most = fabs(x);
        if (fabs(x - y) > diff) diff = fabs(x - y);
    }
    return most > 0 ? diff / most : diff;
}

/* Which pairs stay rotated: `rope_dim / 2` of the 4 of each head, different ones in each head. */
static inline void tiny_pairs(const struct model *m, int64_t rope_dim, int32_t *pairs,
                              uint64_t seed)
{
    int64_t heads = m->cfg.text.num_hidden_layers * m->cfg.text.num_key_value_heads;
    int64_t half = m->cfg.text.head_dim / 2, kept = rope_dim / 2;
    struct rng r;

    rng_seed(&r, seed, 4);
    for (int64_t h = 0; h < heads; h++) {
        int64_t left = kept;
        for (int64_t p = 0; p < half; p++) /* each subset is equally likely */
            if (rng_below(&r, (uint64_t)(half - p)) < (uint64_t)left)
                pairs[h * kept + kept - left--] = (int32_t)p;
    }
}

#endif
