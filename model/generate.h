/* generate.h - generation, greedy by default, for many prompts at a time, and the likelihood of
 * given tokens, with a KV cache. */
#ifndef MODEL_GENERATE_H
#define MODEL_GENERATE_H

#include "data/sample.h"
#include "model/forward.h"

struct generation {
    int32_t *ids; /* [n] generated tokens, without the stop token */
    int64_t n;
    bool stopped; /* by a stop token; else by max_new */
    bool ended;   /* no token follows */
};

struct generate_stats {
    int64_t prompt_tokens, new_tokens;
    int64_t shared_tokens; /* of the prompts': taken from another prompt's cache, not computed */
    int64_t
        cached_tokens;  /* given to all sequences in the end, whether or not all are still held */
    size_t cache_bytes; /* of those held, counted from the cache */
    double prefill_seconds, decode_seconds;
};

/* What decides on the tokens of a generation, instead of the largest logit. */
struct chooser {
    /* The next token of sequence `seq`, whose generation so far is g, from its logits [n], all of
     * them numbers; logits may be written to. NULL: the largest, the first if several. */
    int32_t (*pick)(void *arg, int64_t seq, real *logits, int64_t n);
    /* Told when g got another token, which is none of `stop`; false ends this generation. May be
     * NULL. */
    bool (*took)(void *arg, int64_t seq, const struct generation *g);
    void *arg;
};

/* A model, and how it is run. */
struct generator {
    struct model *m;
    struct tape *t;
    size_t memory_limit; /* tape_plan's */
    int64_t max_new;     /* tokens of a generation, at least 1 */
    const int32_t *stop; /* [n_stop] ids that end one */
    int64_t n_stop;
    const struct chooser *chooser; /* NULL: the largest logits, all tokens */
    const struct cache_how *cache; /* how new caches are held; NULL: as reals */
    struct generate_stats *stats;  /* added to; may be NULL */
};

/* Continues each sample of f->batch (its labels are ignored) by up to max_new tokens or until one
 * of `stop`. Fills out[samples], to be freed with generation_free. */
bool model_generate(const struct generator *g, const struct forward *f, struct generation *out,
                    struct err *e);
void generation_free(struct generation *g, int64_t n);

/* The same over the caller's cache: sample s is what follows in sequence s of f->cache, which has
 * room for it and max_new tokens more. The cache then also holds what was generated, but for the
 * last token of a generation that no stop token ended. After a failure out has what was generated
 * before, to be freed too, and the cache may also hold rows of the step that failed, which are to
 * be cut off. Of the stats, what the cache holds is not counted. */
bool model_continue(const struct generator *g, const struct forward *f, struct generation *out,
                    struct err *e);

/* Appends f's batch to f->cache, sample s to sequence f->seq[s]. Of the generator, max_new and stop
 * are not used. */
bool model_prefill(const struct generator *g, const struct forward *f, struct err *e);

/* ---- steps, for sequences that do not begin and end together ---- */

/* Sequences that are continued together, as a batch of their newest tokens. */
struct running {
    int64_t n;
    int64_t *seq, *begin;            /* [n], [n + 1] */
    int32_t *ids, *positions, *next; /* [n]; positions [axes, n], the same on all axes */
    struct picture_places pictures;  /* of positions */
    struct span *spans;              /* [n]: one token each */
};
bool running_new(struct running *r, int64_t most, const struct model *m, struct err *e);
void running_free(struct running *r); /* fine on a zeroed struct */
/* Adds sequence `seq` of a cache, whose newest token is id, not cached yet, at that position. */
void running_add(struct running *r, int64_t seq, int32_t id, int32_t position);
struct batch running_batch(struct running *r); /* n of at least 1; valid until the next change */

/* The logits of each sample's next token [samples, V], after it was appended to f->cache; NULL on
 * failure, and where the tape was stopped. */
struct tensor *generate_logits(const struct generator *g, const struct forward *f, struct err *e);
/* Takes sequence seq's next token from its logits [n], which may be written to; g has its tokens so
 * far, and room for how->max_new. */
bool generate_take(const struct generator *how, int64_t seq, real *logits, int64_t n,
                   struct generation *g, struct err *e);

/* How well each labelled token of f->batch is predicted from the true tokens before it, through the
 * cache: fills each[labels]. f->cache: the caller's, as for model_continue; NULL: one is made. Of
 * the generator, max_new and stop are not used. */
bool model_score(const struct generator *g, const struct forward *f, struct token_score *each,
                 struct err *e);

/* Shared with likelihood.c: runs the graph that was recorded, over cache c; the error of a diverged
 * model, false; the modality whose factors make the key
 * and value of a token that is given or generated; adds up what the cache holds. */
bool generate_forward(const struct generator *g, const struct kv_cache *c, struct err *e);
bool generate_not_numbers(const struct model *m, struct err *e);
enum modality token_modality(const struct picture_places *p, int32_t id);
void generate_count_cache(struct generate_stats *stats, const struct batch *b,
                          const struct kv_cache *c);

#endif
