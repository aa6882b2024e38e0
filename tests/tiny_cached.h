/* tiny_cached.h - tiny models of every form of attention, and their logits over a cache. */
#ifndef TESTS_TINY_CACHED_H
#define TESTS_TINY_CACHED_H

#include "model/cache_rotation.h"
#include "tests/tiny_convert.h"
#include "tests/tiny_cross.h"

static const char *const mixed[] = {"tttitt|TTT", "ttt|TTTT", "itti|TT", "t|Ti"};
enum { MIXED = 4 };

/* Forms of attention: states, methods, sharing, a cross-head basis, latents
 * that differ by layer. */
enum { FORMS = 3 + 2 * KV_METHODS + 1 };

static inline void open_form(struct model *m, int i, int64_t r)
{
    const int64_t latents[TINY_LAYERS] = {r - 8, r};

    tiny_model(m, 4, true, 12);
    if (i == 0) return;
    if (i == 2)
        tiny_cross(m, false);
    else
        tiny_partial(m, 4);
    if (i == FORMS - 1)
        tiny_mla_of(m, KV_SPLIT, true, r, latents);
    else if (i > 2)
        tiny_mla(m, (enum kv_method)((i - 3) / 2), (i - 3) % 2, r);
    if (i == 2) tiny_mla(m, KV_JOINT, true, r);
}

/* Logits of the last tokens over a cache of that kind (NULL: none was chosen). */
static inline float *extended(struct model *m, struct tape *t, const struct cache_kind *kind,
                              const struct tiny_batch *all, size_t *bytes)
{
    int64_t seq[MIXED] = {2, 0, 3, 1};
    struct cache_how how = {0};
    struct kv_cache cache = {0};
    struct err e = {0};
    float *out = calloc(MIXED * TINY_VOCAB, sizeof *out);

    if (kind) must(cache_how_new(&how, m, kind, &e), &e);
    must(kv_cache_new(&cache, m, kind ? &how : NULL, MIXED, 20, &e), &e);
    tape_begin(t, false);
    struct forward f = all->f;
    f.cache = &cache;
    f.seq = seq;
    struct tensor *got = model_extend(m, t, &f, &e);
    must(got && tape_plan(t, 0, &e), &e);
    tape_forward(t);
    must(kv_cache_check(&cache, &e), &e);
    memcpy(out, got->data, MIXED * TINY_VOCAB * sizeof *out);
    *bytes = kv_cache_bytes(&cache);
    kv_cache_free(&cache);
    cache_how_free(&how);
    return out;
}

static inline struct cache_kind kind_of(const char *name)
{
    struct cache_kind k;
    struct err e;

    must(cache_kind_read(&k, name, &e), &e);
    return k;
}

#endif
