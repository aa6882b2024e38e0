/* splits.h - how each cache size of sweep.cache is split between rotated and latent values: tried
 * before the points' own steps, on the converted but untrained model, and kept in RUN/splits.json,
 * or of a recipe in RUN/splits-NAME.json. A cache of B values a token and layer holds G*dr rotated
 * ones, so that r = B - G*dr are left for the latent (svd.method "split": half as many for each of
 * its two). Few rotated pairs lose positions, a narrow latent loses keys and values; which is worse
 * depends on the model. */
#ifndef TRAIN_SPLITS_H
#define TRAIN_SPLITS_H

#include "train/factors.h"
#include "train/run.h"

/* Takes what an earlier run has found, if it has: points are named by it, so that this comes before
 * all that looks for what is theirs. Fine without sweep.cache. */
bool splits_open(struct run *r, struct err *e);
/* Whether it is what that run has left, once outputs_open was called. */
bool splits_check(struct run *r, struct err *e);

/* Until they are found: a quarter of the values rotated, for the forecast. Fails if a size is too
 * small for a model with m's settings. */
bool splits_guess(struct run *r, const struct model *m, struct err *e);

/* Finds them, if the steps need them and they are not there; and whether the taken recipe's steps
 * do, or any recipe's. */
bool splits_find(struct run *r, struct err *e);
bool splits_needed(const struct run *r);
bool splits_any_needed(struct run *r);

/* The largest that is tried of the taken recipe, for a model with m's settings:
 * its name is "splits". */
struct point splits_largest(const struct run *r, const struct model *m);
/* The most that have factors at once: all sizes' splits with that one's pairs. In new memory, which
 * the caller frees. */
bool splits_factors(const struct run *r, const struct model *m, struct factors_for *what,
                    struct err *e);

#endif
