/* transform_parts.h - what transform.c and cross.c share: a model's parameters while they are those
 * of two states. */
#ifndef CONVERT_TRANSFORM_PARTS_H
#define CONVERT_TRANSFORM_PARTS_H

#include "model/model.h"

/* The parameters of the previous state, until the new ones have been filled from them. */
struct old {
    struct param *params;
    int64_t n;
    struct layer *layers;
    void *tower;
};

/* Declares the parameters of the new state; those that stay the same take their memory along. */
bool redeclare(struct model *m, struct old *old, struct err *e);
void old_free(struct old *old);

void take_over(struct param *to, struct param *from);

/* Rotation multiplies a pair of q and of k by yarn's attention factor f (else 1), so that their
 * part of q k has the factor f^2. For a pair that is no longer rotated, f^2 goes into the keys
 * here: at distance 0 the logits stay the same, and the SVD sees key errors as large as they
 * are in the logits. */
bool keep_scale(const struct model *m, struct param *p, struct err *e);

#endif
