/* watch.h - files that are read where they lie, in a mapping, for as long as a run goes: somebody
 * may write to them in the meantime. Which files that are is known here, so that
 *     - a file that became shorter, or whose disk fails, is a message that names it and status 1,
 *       where the system would end the process with SIGBUS; any other SIGBUS goes its usual way;
 *     - watch_check finds a file that was written to in place: its size or its time is another.
 * A file that was replaced under its name (rename) is none of these: the mapping and its descriptor
 * go on to have the old one. Only who opens the name again gets the new one: see watch_keep. Inode
 * numbers are not looked at: a descriptor has the file, and some network file systems make up new
 * ones as they go.
 *
 * The time of a file moves in ticks of the system's clock: 1 to 10 ms before Linux 6.13, 2 s on
 * FAT. A second write within the tick in which the file was opened leaves no trace in it. Over NFS,
 * another machine's write shows once the attributes' cache runs out, after a minute at most.
 *
 * The state of base, beside the log: a process has one list of mapped files. Threads may add and
 * remove at the same time. */
#ifndef BASE_WATCH_H
#define BASE_WATCH_H

#include "base/err.h"

#include <stddef.h>

struct watched;

/* A mapping of the file `path`, open in fd, which watch_remove closes. fd -1: a file without a
 * name, `path` says where it lies (scratch). On failure returns NULL, and fd is still
 * the caller's. */
struct watched *watch_add(const void *data, size_t size, const char *path, int fd, struct err *e);
/* Before the mapping goes. Remembers for watch_check whether it was written to. NULL is fine. */
void watch_remove(struct watched *w);

/* Whether all that is mapped, or was, since the last call that failed, is as it was when it was
 * opened; the message names the first that is not. To be asked before anything is saved that was
 * computed from them. */
bool watch_check(struct err *e);

/* For files that are opened again and again while the process lives: remembers how `path` is now;
 * fine where it is remembered already, or is no file. */
bool watch_keep(const char *path, struct err *e);
/* Whether all of those have the size and the time that they had: they were neither written to nor
 * replaced. For the calling thread of watch_keep alone. */
bool watch_kept(struct err *e);

#endif
