/* beside.h - what a given model's files say and this program does differently. */
#ifndef TRAIN_BESIDE_H
#define TRAIN_BESIDE_H

#include "train/run.h"

/* Logs, one line each, what contradicts the way the model is read and is therefore not used: its
 * own chat template, an adapter beside its weights, a class or a number of tokens per picture in
 * config.json that does not match the rest of it. Fails only where the machine does. */
bool beside_say(const struct run *r, const struct hf_config *cfg, struct err *e);

#endif
