/* budget.h - how many RoPE pairs each kv head keeps where heads, or layers too, share a number of
 * them (rank.budget; docs/method.md, section 1): so that what all lose together
 * (convert/logit.h) is least. */
#ifndef CONVERT_BUDGET_H
#define CONVERT_BUDGET_H

#include "model/files/rankfile.h"

/* share [n] of `total` among n takers, each from `least` to `most`: of all, those with the least
 * sum of cost[taker, its share], cost [n, most + 1]; fewer for the last takers where sums are
 * equal. sums: NULL, or [n most + 1], the least sum of every total (infinite where none is
 * possible), and share is not filled. */
struct budget {
    const double *cost;
    int64_t n, least, most, total;
};
bool budget_divide(const struct budget *b, int64_t *share, double *sums, struct err *e);

/* kept [L, G] of pairs in each layer, or of L pairs in all with `layers`, where every layer keeps
 * at least one. cost [L, G, P + 1]. */
bool budget_pairs(const struct rank_dims *n, const double *cost, int64_t pairs, bool layers,
                  int64_t *kept, struct err *e);

#endif
