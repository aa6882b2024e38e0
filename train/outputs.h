/* outputs.h - RUN/outputs.json: a sum of every file that a finished step has left (models, rank.h5,
 * scores), so that one that a disk, a copy or somebody has changed since is not used. Names are
 * relative to the run's directory, which may move. */
#ifndef TRAIN_OUTPUTS_H
#define TRAIN_OUTPUTS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct run;

struct output {
    char *name, sum[17]; /* sum64 in hex */
    long long size, sec; /* bytes; time of the last write */
    long nsec;
    bool verified; /* all of it has been read by this process */
};

struct outputs {
    struct output *list; /* [n] */
    size_t n, cap;
};

/* Reads the file, and those of points that ran beside each other (share.h); without one (a new run,
 * an older version's) nothing is known. */
bool outputs_open(struct run *r, struct err *e);
/* Writes the file, with what was read of the points. */
bool outputs_save(const struct run *r, struct err *e);
void outputs_close(struct run *r);

/* Whether a file, or all files of a directory, are as their step left them. They are read if size
 * or time differ or, with `all`, unless this process has done so. What is not known passes. The
 * message names the file, and says how it differs. */
bool outputs_check(const struct run *r, const char *name, bool all, struct err *e);

/* Records the file or directory `name`, which is at `path` for now, and writes outputs.json. Call
 * after a file is written; before a directory gets its name. */
bool outputs_add(struct run *r, const char *name, const char *path, struct err *e);
/* Records only those of its files of which nothing is known, as they are now; *n grows by their
 * number. A dry run only counts them. */
bool outputs_add_unknown(struct run *r, const char *name, size_t *n, struct err *e);
/* Call before a file is made again or changed: in between, nothing is known of it. */
bool outputs_forget(struct run *r, const char *name, struct err *e);

#endif
