/* choice.h - which samples of a set are scored: evaluate.samples of it for the tables, and of these
 * evaluate.curve_samples for a point of the curve, each spread evenly over what it is taken from:
 * files are often sorted. What is taken is units (data/dataset.h): single samples, or groups that
 * are only scored as a whole, of which as many are taken as make about so many samples. */
#ifndef TRAIN_SCORE_CHOICE_H
#define TRAIN_SCORE_CHOICE_H

#include "train/run.h"

struct choice {
    int64_t units, full, curve; /* all, those for the tables, and of these those for the curve */
};
struct choice choice_of(const struct run *r, const struct eval_set *set);

/* Whether a unit is scored for the tables; and then whether for the curve too. */
bool choice_has(const struct choice *c, int64_t unit, bool *curve);

/* Samples that are scored: for the tables, or for the curve. */
int64_t choice_count(const struct choice *c, const struct dataset *d, bool curve);

#endif
