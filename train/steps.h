/* steps.h - the steps of the pipeline. Each leaves its output under the run's directory and is
 * skipped where that is complete:
 *     baseline/model                the model to convert, where it is made or trained first
 *     rank/rank.h5                  the importance of every RoPE pair
 *     ROPE/stage1/model             partial RoPE, trained            (ROPE: "rope8")
 *     POINT/svd/model               MLA, straight after MD-SVD       (POINT: "rope8-rank4")
 *     POINT/stage2/model            MLA, trained
 *     .../scores.json, answers.jsonl beside each model
 * Models of stage1 and svd hold the changed tensors only. */
#ifndef TRAIN_STEPS_H
#define TRAIN_STEPS_H

#include "train/run.h"

/* Runs the config's steps for all points, or for run.only_point alone. */
bool run_steps(struct run *r, struct err *e);

#endif
