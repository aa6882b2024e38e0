/* params.h - inside model/: declaring the parameters of a model and giving them memory. */
#ifndef MODEL_PARAMS_H
#define MODEL_PARAMS_H

#include "model/model.h"

/* The prefixes of the parts of a model in its files, and the name of its head. */
struct name_layout {
    const char *text, *head, *vision, *projector;
};
extern const struct name_layout name_layouts[]; /* ends with a row of NULLs */

/* Fills params, layers, vision from cfg, layout, state, method, rope_dim and latent; no memory for
 * values yet. A pointer to a param stays valid until params is freed. */
bool params_declare(struct model *m, struct err *e);

/* The tensor of that name in the directory, or in the base that it names; NULL: none. */
const struct st_tensor *model_find_tensor(const struct model *m, const char *name);

/* The tensor that a parameter's values are read from: of its name; of the head where embeddings are
 * tied and only that is there. NULL: none. */
const struct st_tensor *model_param_tensor(const struct model *m, const struct param *p);

/* Finds the layout that the files' names are of, and whether the head is the embeddings:
 * config.json has no word where it says so and the files hold two that differ. */
bool model_choose_names(struct model *m, struct err *e);

/* Fails where parameters have no tensor, or tensors no parameter, and names and counts them. Needs
 * the parameters. */
bool model_check_tensors(struct model *m, struct err *e);

/* The error of a tensor without values where there should be some. */
bool model_refuse_empty(const struct st_tensor *t, struct err *e);

/* Whether all values of t are +0. */
bool model_is_zero(const struct st_tensor *t);

/* Adds a line to m->notes. */
bool model_note(struct model *m, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

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
