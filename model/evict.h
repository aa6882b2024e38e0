/* evict.h - the rivals of a latent cache: policies that take tokens out of the original's cache
 * again, so that a share of it is left. Each is a row of the table in evict.c.
 *
 * h2o   Heavy-Hitter Oracle: Zhang et al., 2023 (arXiv 2306.14048). Each kv head keeps tokens of
 *       its own. Half of its budget, rounded down, are the newest; the others are those before them
 *       that have received the most attention, summed over all queries so far, the prompt's too,
 *       and over the query heads that share the kv head.
 * tova  Token Omission Via Attention: Oren et al., 2024 (arXiv 2401.06104). A layer keeps the
 *       tokens that its last query looks at most, on the average of all heads; the same tokens for
 *       each head. None is safe, not even the newest.
 *
 * What is chosen here, for both:
 * - The budget of a sequence is ceil(share * t) tokens, t being those that it was given so far: the
 *   same share of the original's cache at every length, as with latents. The papers hold it
 *   constant while an answer grows, which leaves less.
 * - The prompt is computed whole, each of its queries sees all tokens before it. Tokens are taken
 *   out once behind it, and after each generated token. What is gone does not come back.
 * - What stays keeps its position: keys are cached as rotated.
 * - Of equal sums the older token goes.
 * - Not counted as cache: h2o's sums, and the whole prompt's cache, which is there
 *   until the prompt's end. */
#ifndef MODEL_EVICT_H
#define MODEL_EVICT_H

#include "base/err.h"

#include <stdint.h>

struct evict_rule;
struct evict {
    const struct evict_rule *rule; /* NULL: every token stays */
    double share;                  /* of the tokens, in (0, 1] */
};

enum { EVICT_RULES = 2 };
const struct evict_rule *evict_rule_at(int i); /* NULL: there are no more */
const char *evict_rule_name(const struct evict_rule *rule);

/* Reads "h2o:0.25". *is: whether it begins like a rule's; if not, nothing else is done. */
bool evict_read(struct evict *v, const char *text, bool *is, struct err *e);
#define EVICT_NAMES "h2o:SHARE and tova:SHARE"
enum { EVICT_TEXT = 32 };
const char *evict_text(char text[EVICT_TEXT], const struct evict *v);

struct kv_cache;
struct model;
struct cached_attention;

/* Makes the cache of reals, which holds nothing yet, give tokens back by that rule. m is an
 * original (cache_kind_suits): a latent is all heads', so that there is none to
 * be one head's own. */
bool evict_open(struct kv_cache *c, const struct evict *v, const struct model *m, struct err *e);
void evict_close(struct kv_cache *c); /* kv_cache_free does it */

/* Takes out of the sequences seq[n], whose newest tokens have been computed, what is beyond their
 * budgets. */
void evict_step(struct kv_cache *c, const int64_t *seq, int64_t n);

/* For the graph of layer l: has its attention summed up, if tokens are to be taken out. */
void evict_watch(const struct kv_cache *c, int64_t l, struct cached_attention *a);

#endif
