/* own.h - which files of a directory this tool wrote, so that no others are overwritten; and a
 * lock, since two commands that write into one directory would mix their sets.
 *
 * DIR/.mha2mla-data holds `lock`, `files` (what was written into DIR, in the format of sha256sum)
 * and, while a set is being written, its new pictures. A killed command's lock is free at once; its
 * pictures are removed by the next one.
 *     struct own o = {0};
 *     bool ok = own_open(&o, dir, e) && own_may_write(&o, "a.json", e);
 *     ... write DIR/a.json.tmp ...
 *     ok = ok && own_claim(&o, "a.json", its path, e) && own_save(&o, e);
 *     ... rename it ...
 *     own_close(&o); */
#ifndef DATASETS_OWN_H
#define DATASETS_OWN_H

#include "base/err.h"

#include <stddef.h>

/* A line of `files`. */
struct own_file {
    char *name, sum[65];
    bool stale; /* the file has another sum by now */
};

struct own {
    char *dir, *room;           /* DIR, DIR/.mha2mla-data */
    int lock;                   /* 0: not held */
    bool known;                 /* the room was there before */
    size_t above;               /* bytes of dir's longest part that was there before */
    bool left;                  /* and a command that was killed has left its lock in it */
    struct own_file *was, *now; /* [n_was] sorted by name, as read; [n_now] claimed since */
    size_t n_was, n_now, cap_was, cap_now;
};

/* Creates DIR and locks it; fails if another process holds the lock. */
bool own_open(struct own *o, const char *dir, struct err *e);

/* Whether DIR/NAME may be replaced: it is not there, or it is as this tool wrote it. */
bool own_may_write(struct own *o, const char *name, struct err *e);
/* The same, before DIR/NAME.tmp is written: an earlier one can only be ours if
 * the room was there. */
bool own_may_begin(struct own *o, const char *name, struct err *e);

/* Notes that the finished file `path` is about to become DIR/NAME. */
bool own_claim(struct own *o, const char *name, const char *path, struct err *e);
/* Writes `files`: what was known, and all that was claimed. Call before the first rename: whatever
 * happens in between, each file is in the list. */
bool own_save(struct own *o, struct err *e);

/* How many files below DIR/PREFIX are there that this tool wrote in earlier commands and not in
 * this one, which has claimed all of its own. */
size_t own_left(struct own *o, const char *prefix);

/* Leaves no trace where nothing was ever written. Fine on a zeroed struct. */
void own_close(struct own *o);

#endif
