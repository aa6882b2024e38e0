/* kv_blocks.h - the blocks of convert/blocks.h that a layer's keys and values are: K_g and V_g of
 * each kv head g, with S_k^g and S_v^g of convert/kv_stats.h, and as weights (docs/method.md,
 * section 3)
 *
 *     V_g: sum_{h in g} Wo_h^T Wo_h,
 *     K_g: BETA^2 sum_{h in g} tr(Wo_h^T Wo_h (S_k^g)_vv) E[q_h q_h^T] / dh,
 *
 * Wo_h [d, dh] what o_proj does to query head h's output, (S_k^g)_vv [dh, dh] the part of the
 * group's values, q_h [dc] the unrotated queries, over all tokens. */
#ifndef CONVERT_KV_BLOCKS_H
#define CONVERT_KV_BLOCKS_H

#include "convert/blocks.h"
#include "convert/kv_stats.h"

struct kv_blocks {
    struct block *block;
    int64_t n;
    double *weights;
};

/* The blocks of rows [row0, row0 + rows) of W, its keys, its values or both, in a set: they borrow
 * from s, whose sums are finished. */
bool kv_blocks_of(struct kv_blocks *b, const struct kv_stats *s, int set, int64_t row0,
                  int64_t rows, struct err *e);
void kv_blocks_free(struct kv_blocks *b); /* fine on a zeroed struct */

#endif
