/* pairs.h - which RoPE pairs a converted model keeps, in its directory. */
#ifndef MODEL_PAIRS_H
#define MODEL_PAIRS_H

#include "model/files/rankfile.h"
#include "model/model.h"

struct cJSON;

/* The shape of a ranking of m's pairs. */
struct rank_dims model_rank_dims(const struct model *m);

/* Fills m's pairs and q_pairs. */
bool model_open_pairs(struct model *m, struct err *e);

/* The pairs as config.json's rope_pairs [L][G][rope_dim/2]. */
struct cJSON *model_pairs_json(const struct model *m);

/* The rank file for the published code, where m's strategy needs one: written to dir, and named in
 * qk_tensor_path of the section. */
bool model_save_ranks(const struct model *m, const char *dir, struct cJSON *section, struct err *e);

#endif
