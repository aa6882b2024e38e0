/* generate.h - greedy generation for many prompts at a time, and the likelihood of given
 * tokens, with a KV cache. */
#ifndef MODEL_GENERATE_H
#define MODEL_GENERATE_H

#include "model/forward.h"

struct generation {
    int32_t *ids; /* [n] generated tokens, without the stop token */
    int64_t n;
    bool stopped; /* by a stop token; else by max_new */
};

struct generate_stats {
    int64_t prompt_tokens, new_tokens;
    int64_t cached_tokens; /* held at the end, in all sequences */
    size_t cache_bytes;    /* of those, counted from the cache */
    double prefill_seconds, decode_seconds;
};

/* Continues each sample of f->batch (its labels are ignored) by up to max_new tokens or until one
 * of `stop`. Fills out[samples], to be freed with generation_free. stats may be NULL and is added
 * to. memory_limit is tape_plan's. */
bool model_generate(struct model *m, struct tape *t, const struct forward *f, int64_t max_new,
                    const int32_t *stop, int64_t n_stop, size_t memory_limit,
                    struct generation *out, struct generate_stats *stats, struct err *e);
void generation_free(struct generation *g, int64_t n);

/* How well each labelled token of f->batch is predicted from the true tokens before it, through the
 * cache: fills each[labels]. stats may be NULL and is added to. */
bool model_score(struct model *m, struct tape *t, const struct forward *f, size_t memory_limit,
                 struct token_score *each, struct generate_stats *stats, struct err *e);

#endif
