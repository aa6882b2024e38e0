/* models.h - the models of a run, opened for the steps, the forecast and the report. */
#ifndef TRAIN_MODELS_H
#define TRAIN_MODELS_H

#include "train/run.h"

/* Whether the run's directory has a complete DIR/model. */
bool model_is_there(const struct run *r, const char *dir, bool *there, struct err *e);

/* The model in `dir`, as it was given. One that is converted already can be scored, no more. It is
 * opened anew for each step, and must still be the one that the steps before had. */
bool open_given_model(const struct run *r, const char *dir, struct model *m, struct err *e);

/* The original model: what the baseline step made, else model.path. */
bool open_base_model(struct run *r, struct model *m, struct err *e);

/* A new model of the config's "baseline" shape, with random weights, for the tokenizer of
 * model.tokenizer. */
bool make_baseline_model(const struct run *r, struct model *m, struct err *e);

/* The kinds of parameters that the baseline step trains. */
unsigned baseline_kinds(const struct config *c);

/* The base model with only the point's pairs rotated; and the same as stage 1 left it, where that
 * is one of the steps. */
bool open_untrained_partial(struct run *r, const struct point *p, struct model *m, struct err *e);
bool open_partial_model(struct run *r, const struct point *p, struct model *m, struct err *e);

/* Whether as many pairs can be kept in a model of m's settings, by the file of rank.file too. */
bool point_check(const struct run *r, const struct model *m, const struct point *p, struct err *e);

#endif
