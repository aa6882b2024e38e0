/* tiny_variants.h - the tiny models, and batches for them, that every form of
 * attention is tried on. */
#ifndef TESTS_TINY_VARIANTS_H
#define TESTS_TINY_VARIANTS_H

#include "tests/tiny_reference.h"

/* Text only, images in the middle, at the start, at the end, and two of them. */
static const char *const with_pictures[] = {"tttitt|TTT", "ttt|TTTT", "itti|TT", "t|Ti"};
static const char *const text_only[] = {"tttttttt|TTT", "t|T", "tttt|TTTTTTTTTT", "tt|TT"};
enum { SAMPLES = 4 };

/* LLaVA and text models, MHA and GQA, with and without biases. */
static const struct variant {
    const char *type; /* NULL: LLaVA */
    int kv_heads;
    bool bias;
} variants[] = {{NULL, 4, false},    {NULL, 2, true},    {NULL, 1, false},
                {"llama", 2, false}, {"qwen2", 2, true}, {"qwen2", 4, true}};
enum { VARIANTS = sizeof variants / sizeof *variants };

static inline void open_variant(struct model *m, struct tiny_batch *b, const struct variant *v)
{
    if (v->type)
        tiny_text_model(m, v->type, v->kv_heads, 6);
    else
        tiny_model(m, v->kv_heads, v->bias, 6);
    assert_int_equal(m->layers[0].attn.k_b != NULL, v->bias);
    tiny_batch(b, v->type ? text_only : with_pictures, SAMPLES, 8);
}

static inline struct tape *new_tape(void)
{
    struct err e = {0};
    struct tape *t = tape_new(&e);

    must(t, &e);
    return t;
}

/* What is generated over the cache has, token by token, the logits that the reference gives for the
 * whole sequence. 1e-4 relative: absorbing changes the order of products. */
static inline void check_absorbed(struct model *m, const float *want, struct tape *t,
                                  const struct tiny_batch *all, int v)
{
    struct kv_cache cache = {0};
    int64_t seq[SAMPLES] = {0, 1, 2, 3}, longest = 0;
    struct err e = {0};

    for (int s = 0; s < SAMPLES; s++)
        longest = all->s[s].n > longest ? all->s[s].n : longest;
    must(kv_cache_new(&cache, m, NULL, SAMPLES, longest, &e), &e);
    tape_begin(t, false);
    struct forward f = all->f;
    f.cache = &cache;
    f.seq = seq;
    struct tensor *got = model_extend(m, t, &f, &e);
    must(got && tape_plan(t, 0, &e), &e);
    tape_forward(t);
    for (int s = 0; s < SAMPLES; s++) {
        double d = tiny_distance(want + (all->b.batch.begin[s + 1] - 1) * TINY_VOCAB,
                                 (const float *)got->data + s * TINY_VOCAB, TINY_VOCAB);
        if (!(d < 1e-4)) fail_msg("variant %d, absorbed, sample %d: %g", v, s, d);
    }
    assert_int_equal(kv_cache_bytes(&cache),
                     model_cache_values(m) * TINY_LAYERS * all->b.batch.tokens * 4);
    kv_cache_free(&cache);
}

#endif
