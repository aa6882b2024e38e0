/* resume.h - whether a resumed run is still the same one: by its settings, and by the contents of
 * the files that they name. Directories may have moved in the meantime. */
#ifndef TRAIN_RESUME_H
#define TRAIN_RESUME_H

#include "train/run.h"

/* Reads the settings with which the run last worked, RUN/config.json, into r->was. Fails if they
 * differ from the present ones; its directory, model, tokenizer and rank file may have moved. */
bool resume_check_config(struct run *r, const char *path, struct err *e);

/* The text of inputs.json: a checksum of everything that the run is given apart from its settings
 * and its pictures, "none" for an optional file that is missing. Fails if the file `path` exists
 * and has another sum for one of them. A sum that it lacks, because an older version wrote it, is
 * taken as it is now, which is logged. The caller frees the text; NULL on failure. */
char *resume_check_inputs(const struct run *r, const struct model *given, const char *path,
                          struct err *e);

/* Models of changed tensors name the directory that they build on. If that has moved, with the run
 * or with model.path, those of this run get its new name. Call before config.json, which says what
 * the old one was, is rewritten. */
bool resume_move_bases(struct run *r, struct err *e);

#endif
