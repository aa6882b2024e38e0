/* made.h - checks what earlier steps have left before it is used. */
#ifndef TRAIN_MADE_H
#define TRAIN_MADE_H

#include "train/run.h"

/* Reads settings and headers of all models that the steps have left, and what has another size or
 * time than they left it with; fails if one has been damaged since, and says how to make it again.
 * What an older version left without sums is recorded as it is now. */
bool made_check(struct run *r, struct err *e);
/* Opens DIR/model, which that step has left. All of it has been compared with its sums then, and
 * its weights are numbers: from one that is not, damage could go on into all
 * that follows, unseen. */
bool made_open(struct run *r, enum step step, const char *dir, struct model *m, struct err *e);
/* Adds that advice, for a file or directory of that step, to *e, which says what is wrong with it;
 * leaves *e as it is if that says nothing about the contents. Returns false. */
bool made_again(const struct run *r, enum step step, const char *what, const char *path,
                struct err *e);
/* Whether DIR has scores and their answers. If they are not whole, logs that and counts them as
 * absent: nothing is known of them then. */
bool made_scores(struct run *r, const char *dir, bool *whole, struct err *e);
/* Records the sums of new ones. */
bool made_scores_sums(struct run *r, const char *dir, struct err *e);

#endif
