/* given.h - what the given model's own files say about a run: where answers end, how long a text
 * may be, and what in them is not used. */
#ifndef TRAIN_GIVEN_H
#define TRAIN_GIVEN_H

#include "train/run.h"

/* Where the given model has its file `name`, or `other` (may be NULL): model.path; or, where that
 * holds changed tensors alone, the model that they belong to. Said in the latter case. NULL with *e
 * set on failure. */
const char *given_dir(const struct run *r, const struct hf_config *cfg, const char *name,
                      const char *other, struct err *e);

/* Fills r->stop: the template's end, and the end tokens of config.json and generation_config.json.
 * Says what in these two files changes nothing here and might be thought to. */
bool given_open(struct run *r, const struct hf_config *cfg, struct err *e);

/* Fails where a sample, or an answer to one, could be longer than the window that some layers of
 * the model look back through: that is not computed. */
bool given_check_window(const struct run *r, const struct hf_config *cfg, struct err *e);

#endif
