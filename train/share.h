/* share.h - points of a sweep that run beside each other in one run.dir (--share): each in a
 * process of its own, on one machine or on several.
 *
 * What the points share (the baseline, the ranking, the stage-1 models and the scores of both) must
 * be there, and is only read. A point writes below RUN/POINT/ alone: its models, and its own
 * train.log, metrics.jsonl and outputs.json. It holds RUN's lock together with the other points, so
 * that no other run takes the directory meanwhile, and POINT's lock alone. The next run that takes
 * the whole directory, as that of the report does, gathers metrics and sums
 * into RUN's own files. */
#ifndef TRAIN_SHARE_H
#define TRAIN_SHARE_H

#include "train/run.h"

/* "POINT/" of the sweep's point i; `own` has room for run.own. Returns own. */
const char *share_own(char *own, const struct config *c, int64_t i);

/* For --share, once only_point is known and before run_open: leaves only the point's own steps in
 * run.steps. Fails if there are none. */
bool share_begin(struct run *r, struct err *e);

/* Whether what the points share is there. Fine for a run that does not share. */
bool share_check(const struct run *r, struct err *e);
/* Sets the error of a shared file that is missing; returns false. */
bool share_lacks(const struct run *r, const char *dir, const char *file, struct err *e);

/* Takes what points have left of metrics and sums into RUN's own files, in the order of the sweep;
 * lines of the same point, phase, event and step replace those that are there. Safe to repeat if it
 * is cut short. The lock is held, and outputs_open was called. Does nothing for
 * a run that shares. */
bool share_gather(struct run *r, struct err *e);

#endif
