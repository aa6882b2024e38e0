/* beside.h - what a given model's files say that this program does otherwise. */
#ifndef TRAIN_BESIDE_H
#define TRAIN_BESIDE_H

#include "train/run.h"

/* Says, a line each, what contradicts how the model is read: its own chat template, an adapter
 * beside its weights, a class or a number of tokens a picture in config.json that is not what the
 * rest of it makes. None of it is used. */
void beside_say(const struct run *r, const struct hf_config *cfg);

#endif
