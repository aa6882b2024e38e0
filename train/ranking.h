/* ranking.h - the step that ranks the RoPE pairs. */
#ifndef TRAIN_RANKING_H
#define TRAIN_RANKING_H

#include "train/run.h"

/* Ranks the base model's pairs into rank/rank.h5, if the strategy is a measured one. */
bool step_rank(struct run *r, struct err *e);

#endif
