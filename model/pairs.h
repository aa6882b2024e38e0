/* pairs.h - the RoPE pairs that a converted model keeps rotated, in its directory's files. */
#ifndef MODEL_PAIRS_H
#define MODEL_PAIRS_H

#include "model/files/rankfile.h"
#include "model/model.h"

struct cJSON;

/* The dims of a ranking of m's pairs. */
struct rank_dims model_rank_dims(const struct model *m);

/* Fills m->pairs [L, G, dr/2] and m->q_pairs [L, H, dr/2] from the config or a rank file. */
bool model_open_pairs(struct model *m, struct err *e);

/* Rotated dims of a key of the first layer, as the settings of a model that is being opened say. */
int64_t model_first_rope_dim(const struct model *m);

/* m->pairs as config.json's rope_pairs [L][G][dr/2]. NULL if out of memory. */
struct cJSON *model_pairs_json(const struct model *m);

/* If m's strategy needs one, writes the rank file that the published code reads to dir, and names
 * it in qk_tensor_path of the section. */
bool model_save_ranks(const struct model *m, const char *dir, struct cJSON *section, struct err *e);

#endif
