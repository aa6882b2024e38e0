/* place.h - a directory that must keep its name while the program works in it: once it is renamed
 * or deleted, what is written under the name goes elsewhere, into a directory made anew.
 *
 * Global state, as in watch.c: a process has one such place. Set and left by the main thread. */
#ifndef BASE_PLACE_H
#define BASE_PLACE_H

#include "base/err.h"

/* Remembers which directory has that name, by its open descriptor `fd`, which is closed by
 * place_leave. */
bool place_hold(const char *path, int fd, struct err *e);
/* Whether it has its name still. True if none is held. */
bool place_check(struct err *e);
void place_leave(void);

#endif
