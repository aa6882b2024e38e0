/* given.h - what the files of a given model determine for a run: where answers end, how long a text
 * may be, and which of their settings are not used. */
#ifndef TRAIN_GIVEN_H
#define TRAIN_GIVEN_H

#include "train/run.h"

/* The directory with the given model's file `name`, or `other` (may be NULL): model.path or, if
 * that holds changed tensors only and lacks the file, the model that it builds on, which is logged.
 * NULL with *e set on failure. */
const char *given_dir(const struct run *r, const struct hf_config *cfg, const char *name,
                      const char *other, struct err *e);

/* Fills r->stop: the template's end, and the end tokens of config.json and generation_config.json.
 * Logs settings in these two files that have no effect but might be expected to. */
bool given_open(struct run *r, const struct hf_config *cfg, struct err *e);

/* Fails if a sample, or an answer to one, could exceed the attention window of some layers: sliding
 * windows are not implemented. */
bool given_check_window(const struct run *r, const struct hf_config *cfg, struct err *e);

/* Fails if an answer could be longer than the model has positions, whatever the question. */
bool given_check_answers(const struct run *r, const struct hf_config *cfg, struct err *e);
/* Logs the first question whose answer could go beyond them: the model has not learnt what is
 * there. */
bool given_say_positions(const struct run *r, const struct hf_config *cfg, struct err *e);

#endif
