/* ahead.h - what can be told before the first step, by the run and by the dry run alike: what would
 * stop it later is refused now. */
#ifndef TRAIN_AHEAD_H
#define TRAIN_AHEAD_H

#include "train/run.h"

/* Before anything is opened: the point that was asked for, the directory, and that there is
 * something to score and to report. */
bool ahead_of_run(const struct run *r, struct err *e);

/* Once the model is known: logs the settings that are not used; and what each step starts from is
 * there or made by a step before it. */
bool ahead_of_data(const struct run *r, bool pictures, struct err *e);

/* Once the data are open: every set that is scored has samples, and the calibration sees what it
 * needs. Fails also where pictures that turned out bad have taken too many samples along.
 * `pictures`: the model takes some. */
bool ahead_of_steps(const struct run *r, bool pictures, struct err *e);

/* Logs where a setting asks for more samples than there are. */
void ahead_say_few(const struct run *r);

#endif
