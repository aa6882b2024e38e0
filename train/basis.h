/* basis.h - the cross-head basis of a run (rank.basis "cross"): measured once from the base model,
 * into RUN/rank/basis.h5, for all points, which take as many of its components as they rotate. */
#ifndef TRAIN_BASIS_H
#define TRAIN_BASIS_H

#include "model/files/rankfile.h"
#include "train/run.h"

#define BASIS_PATH "rank/basis.h5" /* below the run's directory */

/* Measures it from m, the base model, unless that is done. */
bool basis_measured(struct run *r, struct model *m, struct err *e);

/* Whether a model of these dims can have a shared key of rope_dim dims. */
bool basis_check(const struct rank_dims *n, int64_t rope_dim, struct err *e);

/* Takes the base model m to its partial form with rope_dim / 2 components rotated. */
bool basis_apply(const struct run *r, struct model *m, int64_t rope_dim, struct err *e);

#endif
