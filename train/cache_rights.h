/* cache_rights.h - whether something can be written in data.cache. A store that is complete serves
 * where nothing can be; what is lacking there would end a run when it is asked for, so that it is
 * looked for before the run begins. */
#ifndef TRAIN_CACHE_RIGHTS_H
#define TRAIN_CACHE_RIGHTS_H

#include "data/store.h"

/* Each says whether something can be written, *can, and if not, *why. They make nothing; they fail
 * where it is not the directory that forbids it. */

/* In `cache` itself, fine if it is not there; and in all stores that are in it. */
bool cache_rights(const char *cache, bool *can, struct err *why, struct err *e);
/* In `cache` itself: whether a new store can be made there. */
bool cache_rights_new(const char *cache, bool *can, struct err *why, struct err *e);
/* In the store in `dir`, which is there or yet to be made. */
bool cache_rights_store(const char *dir, bool *can, struct err *why, struct err *e);

/* Opens a store in which nothing can be written; one that is not there is empty. */
bool cache_open_read(struct store *s, const char *dir, const char *about, struct err *e);

/* Sets the error of a run that is refused because nothing can be written there, for the reason
 * `why`, and `but` it needs more than there is. */
bool cache_refuse(struct err *e, const struct err *why, const char *but, ...)
    __attribute__((format(printf, 3, 4)));

#endif
