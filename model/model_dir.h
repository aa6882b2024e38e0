/* model_dir.h - what lies in a directory that a model is to be read from, where that is not (only)
 * a model: adapters, other programs' forms, halves of downloads. */
#ifndef MODEL_MODEL_DIR_H
#define MODEL_MODEL_DIR_H

#include "model/safetensors.h"

/* Fine where `dir` has a config.json and weights under a name that is read, be they good or not.
 * Else one line that says what `dir` is or holds instead, and what to do about it. */
bool model_dir_check(const char *dir, struct err *e);

/* The same for a directory that a tokenizer is to be read from. */
bool model_dir_check_tokenizer(const char *dir, struct err *e);

/* "A, B and 3 more": the files of weights in `dir` that are none of m's, in new memory; *count is
 * their number. NULL where there are none; false where there is no memory. */
bool model_dir_unused(const char *dir, const struct st_model *m, char **names, size_t *count,
                      struct err *e);

/* Adds to an error about tensors that m lacks, where its index is not whole: a shard beside m's is
 * not named in it, or their names tell of more. Returns false. */
bool model_dir_blame_index(const char *dir, const struct st_model *m, struct err *e);

#endif
