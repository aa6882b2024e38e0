/* caches.c - see caches.h. */
#include "train/caches.h"
#include "data/metric/metric.h"
#include "model/cache_rotation.h"
#include "train/recipes.h"
#include "train/score/scorer.h"

#include <stdio.h>
#include <stdlib.h>
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

/* With exact prompts, where nothing that is packed is read, as `because` says: the score would be
 * that of reals. */
static bool check_exact(const struct config *c, const struct cache_kind *own, const char *because,
                        struct err *e)
{
    struct cache_kind k;
    struct err reason;

    err_set(&reason,
            "measures nothing: with evaluate.score \"%s\" %s: ", score_names[c->evaluate.score],
            because);
    if (own->exact) return err_set(e, "cache.prompt: \"exact\" %sset it to \"packed\"", reason.msg);
    for (int64_t i = 0; i < c->evaluate.caches.n; i++)
        if (cache_kind_read(&k, c->evaluate.caches.v[i], e) && k.exact)
            return err_set(e, "evaluate.caches[%lld]: \"%s\" %sleave it out", (long long)i,
                           c->evaluate.caches.v[i], reason.msg);
    return true;
}

static const char at_once[] = "a text is given at once, and nothing that is packed is read";

/* Whether all options of a set are letters, of one token each: the prompt's last token has their
 * likelihoods. */
static bool are_letters(const struct dataset *d, bool *are, struct err *e)
{
    struct sample s = {0};
    struct continuation one = {0};
    bool ok;

    *are = d->n > 0;
    for (int64_t i = 0; i < d->n; i++)
        *are = *are && d->entries[i].by_letter;
    if (!*are) return true;
    ok = dataset_sample(d, 0, &s, e) &&
         dataset_continuation(d, 0, &s, (struct text){(char *)(uintptr_t) "A", 1}, &one, e);
    *are = one.n == 1;
    free(one.ids);
    sample_free(&s);
    return ok;
}

/* Why exact prompts would measure nothing of a set; "": they would. */
static bool reason_of(const struct eval_set *set, char reason[160], struct err *e)
{
    bool letters = false;

    reason[0] = '\0';
    if (set->data.metric && set->data.metric->measured)
        snprintf(reason, 160, "%s", at_once);
    else if (!are_letters(&set->data, &letters, e))
        return false;
    if (letters)
        snprintf(reason, 160,
                 "the options of %.40s are letters, of one token each, and are scored before "
                 "anything that is packed is read",
                 set->name);
    return true;
}

bool caches_check_sets(const struct run *r, struct err *e)
{
    char reason[160];
    bool ok = true;

    for (int64_t i = 0; ok && r->c.evaluate.score == SCORE_OPTIONS && i < r->n_eval; i++) {
        ok = reason_of(&r->eval[i], reason, e);
        for (int64_t k = 0; ok && reason[0] && k < recipes_count(&r->c); k++) {
            const struct config *c = recipes_config(&r->c, k);
            const struct cache_kind own = own_kind(c);
            ok = check_exact(c, &own, reason, e);
        }
    }
    return ok;
}

/* Of the settings of models' own kinds. */
static bool check_own(const struct cache_kind *own, struct err *e)
{
    if (own->rotate && own->form[CACHE_KEY]->most <= 0)
        return err_set(e,
                       "cache.rotate: latents in %s need no rotation: set it to false, or "
                       "cache.latent to q8, q4 or q2",
                       own->form[CACHE_KEY]->name);
    if (own->exact && !own->form[CACHE_ROPE]->pack && !own->form[CACHE_KEY]->pack)
        return err_set(
            e, "cache.prompt: in f32 prompts are exact in any case: set it to \"packed\", or "
               "cache.rope and cache.latent");
    return true;
}

/* Of entry i of evaluate.caches. */
static bool check_score(const struct config *c, const struct cache_kind *k, int64_t i,
                        struct err *e)
{
    const char *name = c->evaluate.caches.v[i], *score = score_names[c->evaluate.score];

    if (cache_kind_waits(k) && c->evaluate.score == SCORE_OPTIONS)
        return err_set(e,
                       "evaluate.caches[%lld]: \"%s\" cannot be taken back from one option to the "
                       "next: leave it out, or score \"answers\"",
                       (long long)i, name);
    if (k->evict.rule && !scorer_of(c)->generates)
        return err_set(e,
                       "evaluate.caches[%lld]: \"%s\" takes tokens out while an answer is "
                       "generated, and evaluate.score \"%s\" generates none",
                       (long long)i, name, score);
    return true;
}

/* What a training can read: each token's rows, packed when they are made. */
static bool check_trained(const struct config *c, struct err *e)
{
    const char *name = c->stage2.cache;
    struct cache_kind k;

    if (!name) return true;
    if (!cache_kind_read(&k, name, e)) return err_context(e, "stage2.cache");
    if (k.evict.rule || cache_kind_waits(&k))
        return err_set(
            e,
            "stage2.cache: \"%s\" holds a token by what else is in the cache, and training "
            "packs each by itself: give a kind such as \"q8+q4\"",
            name);
    if (k.exact)
        return err_set(
            e,
            "stage2.cache: with \"%s\" a text that is given at once, as in training, reads "
            "nothing that is packed: leave \"+exact\" out",
            name);
    return k.form[CACHE_ROPE]->pack || k.form[CACHE_KEY]->pack ||
           err_set(e, "stage2.cache: \"%s\" packs nothing: set it to null", name);
}

bool caches_trained(const struct config_phase *p, struct cache_kind *k)
{
    struct err unused;

    return p->cache && cache_kind_read(k, p->cache, &unused);
}

bool caches_check(const struct config *c, struct err *e)
{
    const struct cache_kind own = own_kind(c);
    struct cache_kind k, other;

    if (!check_own(&own, e) || !check_trained(c, e)) return false;
    for (int64_t i = 0; i < c->evaluate.caches.n; i++) {
        if (!cache_kind_read(&k, c->evaluate.caches.v[i], e))
            return err_context(e, "evaluate.caches[%lld]", (long long)i);
        if (!check_score(c, &k, i, e)) return false;
        for (int64_t j = 0; j < i; j++)
            if (cache_kind_read(&other, c->evaluate.caches.v[j], e) && same_kind(&k, &other))
                return err_set(e,
                               "evaluate.caches[%lld]: \"%s\" is the same as evaluate.caches[%lld]",
                               (long long)i, c->evaluate.caches.v[i], (long long)j);
    }
    return c->evaluate.score != SCORE_TOKENS || check_exact(c, &own, at_once, e);
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

struct cache_kind caches_own(const struct config *c, const struct model *m)
{
    struct cache_kind k = m->state == ATTN_MLA ? own_kind(c) : cache_kind_f32();

    k.rotate = k.rotate && cache_rotates(m);
    return k;
}

bool caches_idle(const struct cache_kind *k, const struct model *m)
{
    return k->rotate && m->state == ATTN_MLA && !cache_rotates(m);
}

/* Stage 1's keys are those of no model that is used. */
bool caches_other(const struct config *c, int64_t i, const struct model *m, struct cache_kind *k)
{
    const struct cache_kind own = caches_own(c, m);
    struct err unused;

    return cache_kind_read(k, c->evaluate.caches.v[i], &unused) && m->state != ATTN_PARTIAL &&
           (m->state == ATTN_MLA || !k->rotate) && (m->state == ATTN_FULL || !k->evict.rule) &&
           !caches_idle(k, m) && !same_kind(k, &own);
}

bool caches_unscored(const struct config *c, const struct model *m, const struct cache_kind *k)
{
    struct cache_kind want = *k, other = caches_own(c, m);

    want.rotate = want.rotate && cache_rotates(m);
    if (!caches_used(c) || same_kind(&want, &other)) return false;
    for (int64_t i = 0; i < c->evaluate.caches.n; i++)
        if (caches_other(c, i, m, &other) && same_kind(&want, &other)) return false;
    return true;
}

bool caches_used(const struct config *c)
{
    return c->data.eval.n && (config_has_step(c, STEP_STAGE1) || config_has_step(c, STEP_STAGE2) ||
                              config_has_step(c, STEP_EVALUATE));
}

int64_t caches_most_bytes(const struct config *c, const struct model *m)
{
    struct cache_kind kind = caches_own(c, m);
    int64_t most = cache_kind_bytes(&kind, m);

    for (int64_t i = 0; i < c->evaluate.caches.n; i++)
        if (caches_other(c, i, m, &kind) && cache_kind_bytes(&kind, m) > most)
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
