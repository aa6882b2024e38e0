/* slots.h - a hash table of indices into a list, by the hashes of the list's keys. The list's owner
 * has the keys and compares them:
 *
 *     uint64_t hash = hash_fnv(key, n), step = 0;
 *     int64_t i;
 *     while ((i = slots_next(&s, hash, &step)) >= 0)
 *         if (list[i] has the key) return i;
 *     return -1; */
#ifndef BASE_SLOTS_H
#define BASE_SLOTS_H

#include "base/err.h"

#include <stdint.h>

struct slots { /* {0} is an empty table */
    struct slot {
        uint64_t hash;
        int64_t index; /* -1: free */
    } * slot;
    int64_t n; /* at least twice the number of indices */
};

/* Makes room for n indices in all; on failure the table is as it was. */
bool slots_reserve(struct slots *s, int64_t n, struct err *e);

/* Adds an index, for which there must be room. */
void slots_put(struct slots *s, uint64_t hash, int64_t index);

/* The next index with that hash, -1 if there are no more; *step is 0 before the first call. */
int64_t slots_next(const struct slots *s, uint64_t hash, uint64_t *step);

void slots_clear(struct slots *s); /* removes all indices, and keeps the room */
void slots_free(struct slots *s);  /* fine on a zeroed struct */

#endif
