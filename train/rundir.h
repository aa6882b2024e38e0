/* rundir.h - what may be in run.dir before a run takes it. */
#ifndef TRAIN_RUNDIR_H
#define TRAIN_RUNDIR_H

#include "train/run.h"

/* Whether run.dir holds a run, or may become one because it does not exist or has nothing in it but
 * harmless files. Other people's files are neither taken for the run's nor overwritten: a model's
 * directory, and any other that holds no run, is refused. A run's log files must be regular files:
 * opening a named pipe would block for ever. Leaves no trace. */
bool rundir_check(const struct run *r, struct err *e);
/* *own: whether a run's config.json is as the program writes it: plain JSON,
 * which has no comments. */
bool rundir_own_config(const char *path, bool *own, struct err *e);

#endif
