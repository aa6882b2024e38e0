/* rotation.h - constant rotation: what is no longer rotated by position gets the one rotation that
 * serves attention best (docs/method.md, section 2). Of query head h, unrotated query and key pairs
 * q_i, k_i (complex), D their distance and theta_i the frequency that the pair had:
 *     a_i = Re(conj(q_i) k_i) / sqrt(dh),  b_i = Im(conj(q_i) k_i) / sqrt(dh),
 *     t = sum_i a_i cos(D theta_i) + b_i sin(D theta_i)      what the original's score has of them.
 * With F the covariance of [a; b; t] over the keys under the original's attention, averaged over
 * queries of each modality, and the two averages added, the unrotated score sum_i x_i a_i + y_i b_i
 * that is nearest to t up to what all keys of a query share has
 *     (F_xx + 1e-3 mean of its diagonal) ([x; y] - [1; 0]) = F_xt - F_xx [1; 0],
 * and q_i (x_i + i y_i) has that score.
 *
 *     rotation_init(&r, &n, e);
 *     for each sample: rotation_see(&r, &sample, max_queries, e);
 *     rotation_solve(&r, turn, e);
 *     rotation_fold(turn, &n, q_proj's unrotated rows and bias, e);
 *
 * Letters: H query heads, G kv heads, dc unrotated dims of a head, pair j being
 * dims j and j + dc/2. */
#ifndef CONVERT_ROTATION_H
#define CONVERT_ROTATION_H

#include "model/model.h"

struct rotation_dims {
    int64_t H, G, dh, dc;
    double scale; /* model_rope_scale: the tables have it, unrotated keys its square */
};

struct rotation {
    struct rotation_dims n;
    double
        *sums; /* [H, 2, dc + 1, dc + 1], the lower triangles: F by the query's modality, times its
                     queries; then these [2] */
};

bool rotation_init(struct rotation *r, const struct rotation_dims *n, struct err *e);
void rotation_free(struct rotation *r); /* fine on a zeroed struct */

/* One sample, T tokens: unrotated queries and keys, frequencies of the keys' pairs, and the
 * original's rotated queries and keys, whose attention it is. */
struct rotation_sample {
    const float *q, *k;           /* [T, H*dc], [T, G*dc] */
    const int32_t *pair;          /* [G, dc/2] */
    const float *full_q, *full_k; /* [T, H*dh], [T, G*dh] */
    const float *cos, *sin;       /* [T, dh/2] */
    const uint8_t *modality;      /* [T] */
    int64_t T;
};
/* Of at most max_queries queries, evenly spaced, the last one among them; 0: all. The number of
 * threads does not matter. */
bool rotation_see(struct rotation *r, const struct rotation_sample *x, int64_t max_queries,
                  struct err *e);

/* turn [H, dc/2, 2]: x, y. Processes add up `sums`, rotation_sums values, before this. */
int64_t rotation_sums(const struct rotation_dims *n);
bool rotation_solve(const struct rotation *r, double *turn, struct err *e);

/* Multiplies the unrotated rows q [H*dc, d] and their bias (or NULL) by turn. */
bool rotation_fold(const double *turn, const struct rotation_dims *n, struct param *q,
                   struct param *bias, struct err *e);

/* Bytes that a layer's takes, with samples of up to T tokens. */
double rotation_bytes(const struct rotation_dims *n, int64_t T);

#endif
