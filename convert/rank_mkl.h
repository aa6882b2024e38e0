/* rank_mkl.h - the mkl and mkl-mask measures behind rank.h's accumulator: how far the attention
 * distribution moves when one RoPE pair loses its rotation, or leaves the logits (docs/method.md,
 * section 1). */
#ifndef CONVERT_RANK_MKL_H
#define CONVERT_RANK_MKL_H

#include "convert/rank.h"

/* Doubles in a layer's sums: [2] queries per modality, then [2,G,P] their KL summed over queries
 * and over the query heads of each kv head. */
int64_t rank_mkl_len(const struct rank_dims *n);

/* Overwrites sums with those of one sample. max_queries as in rank_acc_new. */
bool rank_mkl_add(const struct rank_dims *n, bool mask, int64_t max_queries, double *sums,
                  const struct rank_sample *x, struct err *e);

/* score[G,P]: the mean over queries per modality, averaged over modalities. False: no queries. */
bool rank_mkl_score(const struct rank_dims *n, const double *sums, double *score);

#endif
