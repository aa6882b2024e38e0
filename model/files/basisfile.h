/* basisfile.h - a cross-head basis on disk (convert/transform.h), its components in the order in
 * which they are kept, HDF5:
 *     /pair    int32   [L, C]        the pair i of each component
 *     /re, /im float64 [L, C, G]     its v_c
 *     /scale   float64 [L, G, P]
 * C = G P components. */
#ifndef MODEL_FILES_BASISFILE_H
#define MODEL_FILES_BASISFILE_H

#include "model/files/rankfile.h"

struct basisfile {
    int32_t *pair;
    double *re, *im, *scale;
};

/* Memory for a model of these dims. */
bool basisfile_new(struct basisfile *b, const struct rank_dims *n, struct err *e);
void basisfile_free(struct basisfile *b); /* fine on a zeroed struct */

/* Atomically. */
bool basisfile_write(const char *path, const struct rank_dims *n, const struct basisfile *b,
                     struct err *e);
/* Fills b, which is new. Fails if the file is none, or for other dims, or has a pair or a scale
 * that cannot be. */
bool basisfile_read(const char *path, const struct rank_dims *n, struct basisfile *b,
                    struct err *e);

#endif
