/* figures.h - what is made of the scores of single samples, once all of them are there: each set's
 * figures by its metric, and the standard errors of all shares, clustered by picture or group. */
#ifndef TRAIN_SCORE_FIGURES_H
#define TRAIN_SCORE_FIGURES_H

#include "train/score/scorer.h"

/* Adds the figures of a set to *s; none for a plain set. scored[n] is what came of its samples. */
bool figures_add_set(struct scores *s, const struct eval_set *set, const struct scored *scored,
                     size_t n, struct err *e);

/* Sets the errors of s->all, s->curve and s->kinds, of the samples of all sets; not those of a
 * score whose samples have no item. */
bool figures_set_errors(struct scores *s, const struct scored *scored, size_t n, struct err *e);

#endif
