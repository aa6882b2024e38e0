/* steps.h - the steps of the pipeline. Each leaves its output in the run's directory and is skipped
 * if that is complete:
 *     baseline/model                the model to convert, if it is trained from scratch first
 *     rank/rank.h5                  the importance of every RoPE pair
 *     ROPE/stage1/model             partial RoPE, trained            (ROPE: "rope8")
 *     POINT/svd/model               MLA, directly after MD-SVD       (POINT: "rope8-rank4")
 *     POINT/stage2/model            MLA, trained
 *     .../scores.json, answers.jsonl next to each model
 * Models of stage1 and svd hold only the changed tensors. */
#ifndef TRAIN_STEPS_H
#define TRAIN_STEPS_H

#include "train/run.h"

/* Runs the config's steps for all points, or only for run.only_point. */
bool run_steps(struct run *r, struct err *e);

#endif
