/* model_dir.h - explains a directory given as a model that is not (only) one: adapters, other
 * programs' formats, incomplete downloads. */
#ifndef MODEL_FILES_MODEL_DIR_H
#define MODEL_FILES_MODEL_DIR_H

#include "model/files/safetensors.h"

/* Passes if `dir` has a config.json and weights under a known name, valid or not. Otherwise sets
 * one line that says what `dir` is or contains instead, and what to do about it. */
bool model_dir_check(const char *dir, struct err *e);

/* The same for a directory that a tokenizer is to be read from. */
bool model_dir_check_tokenizer(const char *dir, struct err *e);

/* "A, B and 3 more": the weight files in `dir` that are not m's, in new memory; *count is their
 * number. NULL if none; false if out of memory. */
bool model_dir_unused(const char *dir, const struct st_model *m, char **names, size_t *count,
                      struct err *e);

/* Adds to an error about tensors that m lacks, if its index is incomplete: it does not name a shard
 * that is next to m's, or the shards' names tell of more. Returns false. */
bool model_dir_blame_index(const char *dir, const struct st_model *m, struct err *e);

#endif
