/* rotation.h - rank.rotation: what a conversion no longer rotates by position gets a constant
 * rotation (convert/rotation.h), in q_proj. Measured once for all points with the
 * same rotated dims. */
#ifndef TRAIN_ROTATION_H
#define TRAIN_ROTATION_H

#include "train/run.h"

/* To the partial model m, as it was converted just now from the base model. All processes together,
 * the first time for this rope_dim. */
bool rotation_apply(struct run *r, struct model *m, struct err *e);
void rotation_forget(struct run *r);

/* Bytes of it beside the graphs, for a partial model of m's shape and samples of up to T tokens. */
double rotation_size(const struct model *m, int64_t T);

#endif
