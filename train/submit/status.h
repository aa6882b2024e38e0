/* status.h - how far a run is: `--status`. */
#ifndef TRAIN_SUBMIT_STATUS_H
#define TRAIN_SUBMIT_STATUS_H

#include "train/run.h"

/* Prints a line for what the points share, one for each point, one for the report: state, step,
 * loss, score, time left, job. From the run's files, and of what was submitted from Slurm where it
 * is there. Reads only. */
bool status_show(const struct run *r, struct err *e);

#endif
