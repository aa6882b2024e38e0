/* logit.h - which RoPE pairs of a head stay rotated, by what the scores lose without (rank.strategy
 * "logit"; docs/method.md, section 1). Of query head h, pair i of query q and key k (complex), D
 * their distance and theta_i the pair's frequency:
 *     a_i = Re(conj(q_i) k_i) / sqrt(dh),  b_i = Im(conj(q_i) k_i) / sqrt(dh)     without rotation,
 *     s_i = a_i cos(D theta_i) + b_i sin(D theta_i)                               with it.
 * F is the covariance of [a; b; d], d = s - a, over the keys under the original's attention,
 * averaged over the queries of each modality, the two averages added. Pairs N without
 * rotation cost the scores
 *     R_h(N) = 1^T F_dd,NN 1,
 * or, where what loses RoPE gets the constant rotation that serves best (convert/rotation.h, whose
 * ridge is taken of all pairs here), what that leaves of it:
 *     R_h(N) = e^T e - F_ex (F_xx + lambda I)^-1 F_xe,   e = sum of d over N,  x = [a; b] of N.
 * A kv head g loses the sum over its query heads. For each number of kept pairs N is found by
 * backward elimination, each next pair the one that costs least, and then swaps as long
 * as one costs less.
 *
 *     logit_init(&m, &n, rotates, e);
 *     for each sample: logit_see(&m, &sample, max_queries, e);
 *     logit_choose(&m, chosen, cost, e);
 *
 * Letters: H query heads, G kv heads, dh head size, P = dh/2 pairs. */
#ifndef CONVERT_LOGIT_H
#define CONVERT_LOGIT_H

#include "convert/rank.h"

struct logit {
    struct rank_dims n;
    bool rotates;
    int64_t m; /* values of a row: P of d, or 3P of [a; b; d] */
    double
        *sums; /* [H, 2, m, m], the lower triangles: F by the query's modality, times its queries;
                   * then these [2] */
};

bool logit_init(struct logit *m, const struct rank_dims *n, bool rotates, struct err *e);
void logit_free(struct logit *m); /* fine on a zeroed struct */

/* Adds a sample's layer. The number of threads does not matter. */
bool logit_see(struct logit *m, const struct rank_sample *x, int64_t max_queries, struct err *e);

/* Doubles in `sums`, which processes add up before the choice. */
int64_t logit_sums(const struct logit *m);

/* chosen [G, P, P]: of kv head g, 1 for each pair kept when n + 1 are; cost [G, P + 1]: what it
 * loses with n kept, from none to all. Fails where there were no queries, or values
 * that are not finite. */
bool logit_choose(const struct logit *m, int32_t *chosen, double *cost, struct err *e);

/* Bytes that a layer's takes, with samples of up to T tokens. */
double logit_bytes(const struct rank_dims *n, bool rotates, int64_t T);

#endif
