/* tiny_variants.h - the tiny models, and batches for them, that every form of attention is tried on. */
#ifndef TESTS_TINY_VARIANTS_H
#define TESTS_TINY_VARIANTS_H

#include "tests/tiny_model.h"

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

#endif
