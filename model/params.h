/* params.h - inside model/: declaring the parameters of a model and giving them memory. */
#ifndef MODEL_PARAMS_H
#define MODEL_PARAMS_H

#include "model/model.h"

/* The prefixes of the parts of a model in its files. */
struct name_layout {
    const char *text, *head, *vision, *projector;
};
extern const struct name_layout name_layouts[]; /* ends with a row of NULLs */

/* Fills params, layers, vision from cfg, layout, state, method, rope_dim and latent; no memory for
 * values yet. A pointer to a param stays valid until params is freed. */
bool params_declare(struct model *m, struct err *e);

bool param_alloc(struct param *p, struct err *e); /* zeroed memory of its own */
/* Fills q_pairs from pairs. */
bool model_set_query_pairs(struct model *m, struct err *e);
void params_free(struct param *params, int64_t n);

#endif
