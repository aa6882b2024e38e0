/* dryrun.h - shows what a run would do, before an hour is spent on it. */
#ifndef TRAIN_FORECAST_DRYRUN_H
#define TRAIN_FORECAST_DRYRUN_H

#include "train/run.h"

/* Prints the resolved config, parameters per component and which of them each stage trains, the
 * first samples token by token with their labels, tokens, steps, cache bytes before and after, and
 * the memory that the longest samples need. Writes nothing. */
bool dry_run(struct run *r, struct err *e);

#endif
