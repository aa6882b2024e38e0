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

/* The tensor of that name in the directory, or in the base that it names; NULL: none. */
const struct st_tensor *model_find_tensor(const struct model *m, const char *name);

/* Fails where a setting contradicts the tensors, and names both. Needs the layout. */
bool model_check_settings(const struct model *m, struct err *e);

/* "440, 32" */
void shape_text(const int64_t *dim, int n, char *text, size_t size);

/* Gives p zeroed memory of its own. */
bool param_alloc(struct param *p, enum dtype dtype, struct err *e);
/* Fills q_pairs from pairs. */
bool model_set_query_pairs(struct model *m, struct err *e);
void params_free(struct param *params, int64_t n);

#endif
