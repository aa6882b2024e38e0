/* submit.h - puts a run into Slurm's queue: `--submit`. */
#ifndef TRAIN_SUBMIT_SUBMIT_H
#define TRAIN_SUBMIT_SUBMIT_H

#include "train/run.h"

/* Looks ahead as a dry run does, writes settings and job scripts to RUN/slurm, and submits them
 * (plan.h); `r->dry`: prints the scripts, and leaves nothing behind. Nothing stays queued if one of
 * the jobs is not taken. */
bool submit(struct run *r, struct err *e);

/* Fails if jobs wait for the run's directory that would find it taken; fine where Slurm is not, and
 * in a job. */
bool submit_is_idle(const struct run *r, struct err *e);

#endif
