/* caches.c - see caches.h. */
#include "train/caches.h"
#include "train/score/scorer.h"

#include <stdio.h>
#include <string.h>

/* Settings that are checked already. */
static struct cache_kind own_kind(const struct config *c)
{
    const struct row_form *rope = row_form_at(c->cache.rope),
                          *latent = row_form_at(c->cache.latent);

    return (struct cache_kind){.form = {rope, latent, latent},
                               .rotate = c->cache.rotate,
                               .exact = c->cache.prompt == PROMPT_EXACT};
}

static bool same_kind(const struct cache_kind *a, const struct cache_kind *b)
{
    char text[2][CACHE_KIND_TEXT];

    return strcmp(cache_kind_text(text[0], a), cache_kind_text(text[1], b)) == 0;
}

bool caches_check(const struct config *c, struct err *e)
{
    const struct cache_kind own = own_kind(c);
    const int64_t n = c->evaluate.caches.n;
    struct cache_kind k, other;

    if (own.rotate && own.form[CACHE_KEY]->most <= 0)
        return err_set(e,
                       "cache.rotate: latents in %s need no rotation: set it to false, or "
                       "cache.latent to q8, q4 or q2",
                       own.form[CACHE_KEY]->name);
    if (own.exact && !own.form[CACHE_ROPE]->pack && !own.form[CACHE_KEY]->pack)
        return err_set(
            e, "cache.prompt: in f32 prompts are exact in any case: set it to \"packed\", or "
               "cache.rope and cache.latent");
    for (int64_t i = 0; i < n; i++) {
        if (!cache_kind_read(&k, c->evaluate.caches.v[i], e))
            return err_context(e, "evaluate.caches[%lld]", (long long)i);
        if (cache_kind_waits(&k) && c->evaluate.score == SCORE_OPTIONS)
            return err_set(
                e,
                "evaluate.caches[%lld]: \"%s\" cannot be taken back from one option to the "
                "next: leave it out, or score \"answers\"",
                (long long)i, c->evaluate.caches.v[i]);
        if (k.evict.rule && !scorer_of(c)->generates)
            return err_set(e,
                           "evaluate.caches[%lld]: \"%s\" takes tokens out while an answer is "
                           "generated, and evaluate.score \"%s\" generates none",
                           (long long)i, c->evaluate.caches.v[i], score_names[c->evaluate.score]);
        for (int64_t j = 0; j < i; j++)
            if (cache_kind_read(&other, c->evaluate.caches.v[j], e) && same_kind(&k, &other))
                return err_set(e,
                               "evaluate.caches[%lld]: \"%s\" is the same as evaluate.caches[%lld]",
                               (long long)i, c->evaluate.caches.v[i], (long long)j);
    }
    return true;
}

bool caches_check_base(const struct config *c, const struct model *base, struct err *e)
{
    struct cache_kind k;

    for (int64_t i = 0; i < c->evaluate.caches.n; i++)
        if (!cache_kind_read(&k, c->evaluate.caches.v[i], e) ||
            (k.evict.rule && !cache_kind_suits(&k, base, e)))
            return err_context(e, "evaluate.caches[%lld]", (long long)i);
    return true;
}

struct cache_kind caches_own(const struct config *c, enum attn_state state)
{
    return state == ATTN_MLA ? own_kind(c) : cache_kind_f32();
}

/* Stage 1's keys are those of no model that is used. */
bool caches_other(const struct config *c, int64_t i, enum attn_state state, struct cache_kind *k)
{
    const struct cache_kind own = caches_own(c, state);
    struct err unused;

    return cache_kind_read(k, c->evaluate.caches.v[i], &unused) && state != ATTN_PARTIAL &&
           (state == ATTN_MLA || !k->rotate) && (state == ATTN_FULL || !k->evict.rule) &&
           !same_kind(k, &own);
}

int64_t caches_most_bytes(const struct config *c, const struct model *m)
{
    struct cache_kind kind = caches_own(c, m->state);
    int64_t most = cache_kind_bytes(&kind, m);

    for (int64_t i = 0; i < c->evaluate.caches.n; i++)
        if (caches_other(c, i, m->state, &kind) && cache_kind_bytes(&kind, m) > most)
            most = cache_kind_bytes(&kind, m);
    return most;
}

const char *caches_name(char name[CACHES_NAME], const struct cache_kind *k)
{
    char text[CACHE_KIND_TEXT];

    snprintf(name, CACHES_NAME, "cache-%s", cache_kind_text(text, k));
    return name;
}

const char *caches_dir(char dir[CACHES_DIR], const char *of, const struct cache_kind *k)
{
    char name[CACHES_NAME];

    snprintf(dir, CACHES_DIR, "%s/%s", of, caches_name(name, k));
    return dir;
}
