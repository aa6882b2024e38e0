/* params.h - declares a model's parameters and gives them memory: for whatever creates a model, or
 * makes another of it. */
#ifndef MODEL_PARAMS_H
#define MODEL_PARAMS_H

#include "model/model.h"

/* Adds a parameter of the file's shape [rows, cols] or [n], with the name that fmt makes. */
struct param *param_matrix(struct model *m, enum param_kind kind, int64_t rows, int64_t cols,
                           const char *fmt, ...) __attribute__((format(printf, 5, 6)));
struct param *param_vector(struct model *m, enum param_kind kind, int64_t n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Narrows p to rows [row0, row0 + rows) of the file's tensor (elements, for a vector): several
 * parameters may be rows of one tensor, declared in their order. */
struct param *param_part(struct param *p, int64_t row0, int64_t rows);

/* Fills params, layers and tower from cfg, layout, state, method, rope_dim and latent, without
 * memory for values. Pointers to params stay valid until params is freed. */
bool params_declare(struct model *m, struct err *e);

/* Formats a shape as "440, 32". */
void shape_text(const int64_t *dim, int n, char *text, size_t size);

/* Gives p zeroed memory of its own, of that dtype. */
bool param_alloc(struct param *p, enum dtype dtype, struct err *e);
/* Fills q_pairs [L, H, dr/2] from pairs [L, K, dr/2]. */
bool model_set_query_pairs(struct model *m, struct err *e);
void params_free(struct param *params, int64_t n);

#endif
