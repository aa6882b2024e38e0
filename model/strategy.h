/* strategy.h - the strategies that choose which RoPE pairs of a head stay rotated
 * (docs/method.md, section 1). A pair i of a head is its dims (i, i + dh/2). A rank array holds,
 * per layer and kv head, a permutation of the pairs: 0 is the most important, and rope_dim keeps
 * those with rank < rope_dim/2 (rank_select).
 *
 * Letters: L layers, H query heads, G kv heads (G divides H), dh head size, P = dh/2 pairs. */
#ifndef MODEL_STRATEGY_H
#define MODEL_STRATEGY_H

#include "base/err.h"
#include "model/config/choices.h"
#include "model/files/rankfile.h" /* rank_dims, rank_select */

#include <stdint.h>

/* FIXED: by rank_fixed. MEASURED: from calibration samples (convert/rank.h). GIVEN: by a file. */
enum rank_kind { RANK_KIND_FIXED, RANK_KIND_MEASURED, RANK_KIND_GIVEN };

const char *rank_strategy_name(enum rank_strategy s);
enum rank_kind rank_strategy_kind(enum rank_strategy s);

/* The strategy of a name in the section "mha2mla", which hf_config_read has checked. */
enum rank_strategy rank_strategy_of(const char *version);

/* Checks a model's dims with a rope_dim: G divides H, dh and rope_dim are even, and 2
 * <= rope_dim <= dh. */
bool rank_check(const struct rank_dims *n, int64_t rope_dim, struct err *e);

/* rank[L,G,P] of a fixed strategy. Only `uniform` uses rope_dim and start: its step is dh/rope_dim,
 * which must be whole, and start must be below the step. */
bool rank_fixed(int32_t *rank, enum rank_strategy s, const struct rank_dims *n, int64_t rope_dim,
                int64_t start, struct err *e);

#endif
