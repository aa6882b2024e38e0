/* deepseek.h - a converted text model as a DeepseekV3ForCausalLM, the class of transformers (4.57,
 * 5.x) for DeepSeek-V3: opened without code from the model's directory. Its
 * attention, per head of H,
 *
 *     [q_c q_r] = q_proj x                  [dc + R]    queries, the rotated dims last
 *     [c k_r] = kv_a_proj_with_mqa x        [r + R]     a latent, and one rotated key for all heads
 *     [k_c v] = kv_b_proj norm(c)           [dc + dh]
 *     score = (q_c k_c + rotate(q_r) rotate(k_r)) / sqrt(dc + R)
 *
 * is ours in the cross-head basis (docs/method.md, section 2; dc = dh), but for these, which the
 * weights make up for:
 *     - The rotation has one list of frequencies for all layers. It gets each frequency as often as
 *       the layer that has it most often; where a layer has it less often, rows of zeros take the
 *       places. The list is given as factors of RoPE's type longrope, with a base of 1.
 *     - The pairs that are rotated are the dims 2i and 2i + 1.
 *     - norm(c) is an RMSNorm, c w / sqrt(mean(c^2) + eps), which ours has not. The latent is made
 *       so small that eps is all there is below the root, and w makes it large again.
 *     - The scores' scale is that of dc + R dims: q_proj has the factor sqrt((dc + R) / dh).
 *     - Every query head has keys and values of its own: rows of kv_b_proj are repeated.
 * Biases have no place in q_proj and kv_b_proj. */
#ifndef MODEL_DEEPSEEK_H
#define MODEL_DEEPSEEK_H

#include "model/model.h"

/* What became of it. */
struct deepseek {
    int64_t rotated; /* R: at least m->rope_dim */
    int64_t latent;  /* r */
};

/* Writes m, whatever directories its tensors come from, to `dir`, which must not exist, as
 * safetensors, config.json (last) and the files of the tokenizer. Computed tensors have the dtype
 * of those that they come from, but fp16, in which the latent would vanish, becomes fp32. Fails,
 * with a message that says why, for a model that has no such form; after any failure
 * there is no `dir`. */
bool deepseek_write(const struct model *m, const char *dir, struct deepseek *out, struct err *e);

#endif
