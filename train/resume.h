/* resume.h - what makes a run that is gone on with the one that it was: its settings, and what was
 * in the files that they name. Directories may have moved in the meantime. */
#ifndef TRAIN_RESUME_H
#define TRAIN_RESUME_H

#include "train/run.h"

/* Reads the settings that the run had when it was last at work, RUN/config.json, into r->was. Fails
 * where they are not these; where its directory lies, and model, tokenizer and rank file, may be
 * another place now. */
bool resume_check_config(struct run *r, const char *path, struct err *e);

/* The text of inputs.json: a sum of everything that the run is given beside its settings and its
 * pictures, "none" for a file that may be there and is not. Fails where there is the file `path`
 * and says that one of them was another. What it does not know, because an older version wrote it,
 * is taken as it is now, and that is said. The caller frees it; NULL on failure. */
char *resume_check_inputs(const struct run *r, const struct model *given, const char *path,
                          struct err *e);

/* Models of changed tensors name the directory that they build on. Where that has moved with the
 * run, or with model.path, those of this run get its new name. Before config.json, which says what
 * the old one was, is written again. */
bool resume_move_bases(const struct run *r, struct err *e);

#endif
