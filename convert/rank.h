/* rank.h - which RoPE pairs of a head keep their rotation, measured on calibration samples
 * (docs/method.md, section 1). Pairs, rank arrays and strategies: model/strategy.h.
 *
 *     struct rank_acc *a = rank_acc_new(RANK_MKL, &n, 64, e);
 *     for each sample, for each layer: rank_acc_add(a, layer, &sample, e);
 *     rank_acc_finish(a, rank, scores, e);
 *     rank_select(kept, rank, &n, rope_dim);
 *     rank_rows(rows, layer's kept, n.H, n.G, n.dh, rope_dim);      // q_proj's new row order
 *
 * Letters: L layers, H query heads, G kv heads (G divides H), dh head size, P = dh/2 pairs, T
 * tokens. */
#ifndef CONVERT_RANK_H
#define CONVERT_RANK_H

#include "base/err.h"
#include "model/strategy.h"

#include <stddef.h>
#include <stdint.h>

/* One sample as seen by one layer, in Hugging Face's row order, BEFORE rotation. Each token attends
 * to itself and to those before it. */
struct rank_sample {
    const float *q;          /* [T, H*dh] */
    const float *k;          /* [T, G*dh] */
    const float *cos, *sin;  /* [T, P]: rotated = (a cos - b sin, b cos + a sin) for pair (a, b) */
    const uint8_t *modality; /* [T]: 0 text, 1 image */
    int64_t T;               /* at least 1 */
    double scale; /* the factor in cos and sin (model_rope_scale): a pair that is not rotated keeps
                   * its square in q k, as after a conversion */
};

struct rank_acc;

/* An accumulator for a MEASURED strategy. max_queries > 0 limits the query positions used per
 * sample (mkl, mkl-mask) to that many, evenly spaced and always including the last token; 0 uses
 * all. The cost of mkl is H * P * queries * keys, about a nanosecond each. NULL on failure; free
 * with rank_acc_free. */
struct rank_acc *rank_acc_new(enum rank_strategy s, const struct rank_dims *n, int64_t max_queries,
                              struct err *e);
void rank_acc_free(struct rank_acc *a); /* fine on NULL */

/* Adds one layer of one sample. Every layer should get every sample. Fails if the values are not
 * finite, leaving the accumulator unchanged. The sums do not depend on the number of threads. */
bool rank_acc_add(struct rank_acc *a, int64_t layer, const struct rank_sample *x, struct err *e);

/* The sums so far, *n doubles: those of processes that saw other samples can be added to them. */
double *rank_acc_sums(struct rank_acc *a, int64_t *n);

/* rank[L,G,P] and, unless NULL, the scores[L,G,P] that it is based on. Equal scores rank by pair
 * index. Fails for a layer without samples.
 * 2-norm: |q_pair| and |k_pair| are averaged over a sample's tokens, then over samples; their
 * product is summed over the query heads of the kv head.
 * mkl: the KL is averaged over the query positions of all samples per modality of the query token;
 * the score is the mean of the two averages (or the only one), summed over the query heads. */
bool rank_acc_finish(const struct rank_acc *a, int32_t *rank, double *scores, struct err *e);

/* The new order of the heads*dh rows of q_proj (heads = H) or k_proj (heads = G), for one layer's
 * kept[G, rope_dim/2]: first heads*rope_dim RoPE rows, head by head, in each the kept dims of the
 * first half in ascending order, then those of the second half; then the NoPE rows, head by head,
 * ascending. Query head h follows kv head h / (heads/G). New row j is old row rows[j]. */
void rank_rows(int64_t *rows, const int32_t *kept, int64_t heads, int64_t G, int64_t dh,
               int64_t rope_dim);

#endif
