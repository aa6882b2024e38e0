/* ahead.h - checks before the first step, for the run and the dry run alike: whatever would stop
 * the run later is refused now. */
#ifndef TRAIN_AHEAD_H
#define TRAIN_AHEAD_H

#include "train/run.h"

/* Before anything is opened: the point that was asked for, the directory, and that there is
 * something to score and to report. */
bool ahead_of_run(const struct run *r, struct err *e);

/* Once the model is known: logs the settings that are not used, and checks that what each step
 * starts from exists or is made by an earlier step. */
bool ahead_of_data(struct run *r, const struct hf_config *cfg, struct err *e);

/* Once the data are open: checks that every set that is scored has samples, and that calibration
 * sees what it needs. Fails also if bad pictures have cost too many samples. `pictures`: the model
 * takes pictures. */
bool ahead_of_steps(struct run *r, bool pictures, struct err *e);

/* Whether a step of that recipe is yet to be made at a point that the run has. */
bool ahead_lacks(const struct run *r, int64_t recipe, enum step step, bool *lacks, struct err *e);

/* Logs where a setting asks for more samples than there are. */
void ahead_say_few(const struct run *r);

#endif
