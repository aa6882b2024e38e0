/* oplist.h - shared by the op files only: the ops for the list, and code that two ops share. */
#ifndef AUTOGRAD_OPLIST_H
#define AUTOGRAD_OPLIST_H

#include "autograd/ops.h"

extern const struct op linear_op, modal_linear_op, head_linear_op, patch_embed_op, embedding_op,
    select_rows_op, join_op, group_rows_op, repeat_op, add_op, rmsnorm_op, layernorm_op,
    rope_table_op, rope_op, attention_op, swiglu_op, activation_op, cross_entropy_op, top_logits_op,
    distill_op, rows_out_op, row_distance_op, cache_write_op, hadamard_op, as_cached_op,
    cached_attention_op;

/* Adds the column sums of dy [T,O] to b's gradient; `partial` has bias_scratch(b) bytes. */
void bias_backward(const real *dy, int64_t T, int64_t O, struct tensor *b, real *partial);
/* Bytes needed for `partial`, or for a converted copy of b in the forward. */
size_t bias_scratch(const struct tensor *b);

/* op_hadamard of one row's head: x and y [h->width], which are not the same;
 * `by` of its modality. */
void hadamard_row(const struct hadamard *h, const real *by, const real *x, real *y);
/* [rows], in the tape's memory: the modality of each; NULL for no spans. */
const uint8_t *modality_of_rows(struct tape *t, const struct span *spans, int64_t n, int64_t rows);

#endif
