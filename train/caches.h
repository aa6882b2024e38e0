/* caches.h - the kinds of KV cache with which a run's models are scored (model/cache_kind.h). One
 * is a model's own: cache.rope, cache.latent and cache.rotate if it has latents, else reals. The
 * others are those of evaluate.caches, with which base, svd and stage 2 are scored too, each in a
 * directory of its own beside the model's scores; with rules of eviction only base, for they are of
 * the original's cache. */
#ifndef TRAIN_CACHES_H
#define TRAIN_CACHES_H

#include "model/cache_kind.h"
#include "train/config.h"

/* Part of settings_check. */
bool caches_check(const struct config *c, struct err *e);

/* The same of what the sets say that are scored, once they are open. */
struct run;
bool caches_check_sets(const struct run *r, struct err *e);

/* The kind of cache that a training reads its tokens as (stage2.cache), which is checked already;
 * false: none. */
bool caches_trained(const struct config_phase *p, struct cache_kind *k);

/* Fails if the run's base model is to be scored as an original, and is none. */
bool caches_check_base(const struct config *c, const struct model *base, struct err *e);

/* Models may be outlines. Without "rotate" where nothing of the model is rotated. */
struct cache_kind caches_own(const struct config *c, const struct model *m);
/* Entry i of evaluate.caches; false: such a model is not scored with it, or it is its own kind. */
bool caches_other(const struct config *c, int64_t i, const struct model *m, struct cache_kind *k);
/* Whether that is so as the kind's rotation rotates nothing of it. */
bool caches_idle(const struct cache_kind *k, const struct model *m);
#define CACHES_IDLE "of its latents no width is a multiple of 8, so nothing of them is rotated"
/* Whether m is scored, but with no kind that holds it as kind k does, in which it was trained. */
bool caches_unscored(const struct config *c, const struct model *m, const struct cache_kind *k);
#define CACHES_UNSCORED                                                                            \
    "no score is over such a cache: neither cache.* nor evaluate.caches is of that kind"
/* Whether the run scores models with kinds of cache. */
bool caches_used(const struct config *c);

/* Bytes of a token with the largest of the kinds that a model is scored with. */
int64_t caches_most_bytes(const struct config *c, const struct model *m);

/* Where the scores with it are, under those of the model in `of`; and what
 * they are called there. */
enum { CACHES_NAME = CACHE_KIND_TEXT + 8, CACHES_DIR = 160 };
const char *caches_name(char name[CACHES_NAME], const struct cache_kind *k);
const char *caches_dir(char dir[CACHES_DIR], const char *of, const struct cache_kind *k);

#endif
