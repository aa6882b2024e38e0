/* oplist.c - every op once. The gradient test walks this list, so that no op goes unchecked. */
#include "autograd/ops.h"
#include "autograd/oplist.h"

/* clang-format off */
static const struct op *const list[] = {
    &linear_op,
    &modal_linear_op,
    &head_linear_op,
    &patch_embed_op,
    &embedding_op,
    &select_rows_op,
    &join_op,
    &group_rows_op,
    &repeat_op,
    &add_op,
    &rmsnorm_op,
    &layernorm_op,
    &rope_table_op,
    &rope_op,
    &attention_op,
    &swiglu_op,
    &activation_op,
    &cross_entropy_op,
    &top_logits_op,
    &distill_op,
    &rows_out_op,
    &row_distance_op,
    &cache_write_op,
    &hadamard_op,
    &as_cached_op,
    &cached_attention_op,
};
/* clang-format on */

const struct op *op_at(int i)
{
    return i < (int)(sizeof list / sizeof *list) ? list[i] : NULL;
}
