/* rundir.h - what may be in run.dir before a run takes it. */
#ifndef TRAIN_RUNDIR_H
#define TRAIN_RUNDIR_H

#include "train/run.h"

/* Whether run.dir is a run's, or may become one: it is not there, or empty but for what does not
 * get in its way. Nothing of others is taken for the run's own or written over: a model's directory
 * and any other that holds no run are refused. Of a run the files that stay open must be files: a
 * named pipe would be waited for without end. Leaves no trace. */
bool rundir_check(const struct run *r, struct err *e);

#endif
