/* made.h - checks what earlier steps have left before it is used. */
#ifndef TRAIN_MADE_H
#define TRAIN_MADE_H

#include "train/run.h"

/* Reads settings and headers of all models that the steps have left; fails if one has been damaged
 * since, and says how to make it again. */
bool made_check(const struct run *r, struct err *e);
/* Adds that advice, for a file or directory of that step, to *e, which says what is wrong with it;
 * leaves *e as it is if that says nothing about the contents. Returns false. */
bool made_again(const struct run *r, enum step step, const char *what, const char *path,
                struct err *e);
/* Opens a model that a step has left in `path`, whose weights must be numbers: from one that is not,
 * damage could go on into all that follows, unseen. */
bool made_open(const struct run *r, enum step step, const char *path, struct model *m,
               struct err *e);
/* Whether DIR has scores and their answers. If they are not whole, logs that and counts them as
 * absent. */
bool made_scores(const struct run *r, const char *dir, bool *whole, struct err *e);

#endif
