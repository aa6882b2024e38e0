/* watch.h - files that stay mapped for the whole run, during which somebody may write to them.
 * Keeping a list of them means that
 *     - a file that shrinks, or whose disk fails, ends the run with a message that names it and
 *       status 1, where the system would kill the process; any other SIGBUS is passed on;
 *     - watch_check detects a file that was modified in place, by its size or modification time.
 * Replacing a file under its name (rename) is neither: the mapping and its descriptor keep the old
 * one, and only reopening the name gives the new one: see watch_keep. Where only the time differs
 * and the contents are known (watch_keep, watch_sum_mapped), those are compared: a touch or a copy
 * of the same bytes is logged and does no harm.
 *
 * Modification times have the resolution of the system's clock tick: 1 to 10 ms before Linux 6.13,
 * 2 s on FAT. A second write within the tick in which the file was opened goes unnoticed. Over NFS,
 * another machine's write shows once the attribute cache expires, after a minute at most.
 *
 * Global state, as in log.c and signals.c: a process has one list of mapped files. Threads may add
 * and remove concurrently. */
#ifndef BASE_WATCH_H
#define BASE_WATCH_H

#include "base/err.h"

#include <stddef.h>

struct watched;

/* Adds a mapping of `path`, open as fd; watch_remove closes fd. fd -1: an unnamed file (scratch),
 * `path` is its directory. On failure returns NULL and the caller still owns fd. */
struct watched *watch_add(const void *data, size_t size, const char *path, int fd, struct err *e);
/* Call before unmapping. Remembers for watch_check whether the file was modified. NULL is fine. */
void watch_remove(struct watched *w);

/* Whether all files mapped now, or at any time since the last call that failed, are as
 * they were when opened; the message names the first that is not. Call before saving
 * anything computed from them. */
bool watch_check(struct err *e);

/* Reads the files that are mapped now, for their sums: what they contained is
 * known from then on. */
bool watch_sum_mapped(struct err *e);

/* For files that are reopened during the run: records the present state of `path`, and reads it for
 * its sum. Fine if it is already recorded, or is not a regular file. */
bool watch_keep(const char *path, struct err *e);
/* Whether all recorded files have the size and contents they had: neither modified nor replaced by
 * another. Read again only where size, time or inode differ. Only for the thread
 * that calls watch_keep. */
bool watch_kept(struct err *e);
/* The sum (sum64, hash.h) of a recorded file when it was recorded; of another, now. */
bool watch_sum(const char *path, char hex[17], struct err *e);

#endif
