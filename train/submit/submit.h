/* submit.h - puts a run into Slurm's queue: `--submit`. */
#ifndef TRAIN_SUBMIT_SUBMIT_H
#define TRAIN_SUBMIT_SUBMIT_H

#include "train/run.h"

/* Looks ahead as a dry run does, writes settings and job scripts to RUN/slurm, and submits them
 * (plan.h); `r->dry`: prints the scripts, and leaves nothing behind. Nothing stays queued if one of
 * the jobs is not taken. `config` is the file's name, for what to do next. */
bool submit(struct run *r, const char *config, struct err *e);

#endif
