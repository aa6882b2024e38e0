/* made.h - what the steps have left, looked at before it is used. */
#ifndef TRAIN_MADE_H
#define TRAIN_MADE_H

#include "train/run.h"

/* Looks at settings and headers of all models that the steps have left; fails where one was damaged
 * since, and says how it is made again. */
bool made_check(const struct run *r, struct err *e);
/* The same message, of a file or directory of that step: *e has what is wrong with it, which is
 * left as it is where that says nothing about what is in it. */
bool made_again(const struct run *r, enum step step, const char *what, const char *path,
                struct err *e);
/* Whether DIR has scores and their answers. What is not whole is said, and counts as not there. */
bool made_scores(const struct run *r, const char *dir, bool *whole, struct err *e);

#endif
