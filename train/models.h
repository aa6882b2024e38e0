/* models.h - opens a run's models for the steps, the forecast and the report. */
#ifndef TRAIN_MODELS_H
#define TRAIN_MODELS_H

#include "train/run.h"

/* Whether the run's directory contains a complete DIR/model. */
bool model_is_there(const struct run *r, const char *dir, bool *there, struct err *e);

/* The model in `dir`, as given. One that is already converted can only be scored. It is reopened
 * for each step, and must still be the same as before. */
bool open_given_model(const struct run *r, const char *dir, struct model *m, struct err *e);

/* The original model: the baseline step's output if there is one, else model.path. */
bool open_base_model(struct run *r, struct model *m, struct err *e);

/* A new model with random weights in the config's "baseline" shape, for the tokenizer
 * of model.tokenizer. */
bool make_baseline_model(const struct run *r, struct model *m, struct err *e);

/* The kinds of parameters that the baseline step trains. */
unsigned baseline_kinds(const struct config *c);

/* The base model with only the point's pairs rotated; and the same as trained by stage 1, if that
 * is one of the steps. */
bool open_untrained_partial(struct run *r, const struct point *p, struct model *m, struct err *e);
bool partial_is_trained(const struct run *r, const struct point *p, bool *trained, struct err *e);
bool open_partial_model(struct run *r, const struct point *p, struct model *m, struct err *e);

/* Whether a model with m's settings can keep that many pairs, and rank.file (if used) fits it. */
bool point_check(const struct run *r, const struct model *m, const struct point *p, struct err *e);

#endif
