/* store.h - what was computed from pictures, kept in HDF5 files: pixels as the tower wants them, or
 * the frozen tower's features. An entry is a list of floats, found by a key, the SHA-256 of the
 * picture's file. What else it depends on (tower, processor) is the caller's `about`, which the
 * files carry.
 *
 * A store is a directory of parts, DIR/part-00000.h5 and on (store_part.h), each published whole,
 * so that a killed run leaves whole entries only and loses 64 MiB of work at most. Every entry has
 * a checksum, which is looked at each time it is read: whoever reads a damaged one computes it
 * again and mends it where it is. Writing holds a lock on DIR/lock until store_close; readers see
 * the parts that were there when they opened. */
#ifndef DATA_STORE_H
#define DATA_STORE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { STORE_PART_BYTES = 64 << 20 }; /* of values, held in memory until they are written */
enum { STORE_OPEN = 128 };            /* files at a time: a store may have thousands of parts */

struct store {
    char *dir, *about;
    int lock; /* file descriptor, -1 when read-only */
    int64_t n;
    struct store_part *parts;
    size_t n_parts, cap_parts;
    int next_part;   /* number of the next file: one more than the highest there is */
    char (*key)[65]; /* [n] */
    size_t cap_keys;
    int64_t *slots; /* hash table of indices into key, -1 = free */
    int64_t n_slots;
    float *pending;  /* values that are not in a part yet: of the last n_pending of the n */
    int64_t *counts; /* [n_pending] */
    int64_t n_pending;
    size_t n_values, cap_pending, cap_counts;
};

/* Opens, or makes where it is not there; with `write`, waits for another writer to finish. A part
 * that is damaged, of an older form, or about something else is left out, which is logged; with
 * `write` it is deleted too. */
bool store_open(struct store *s, const char *dir, const char *about, bool write, struct err *e);
/* Writes what is pending. Fine on a zeroed struct. */
bool store_close(struct store *s, struct err *e);

int64_t store_find(const struct store *s, const char *key); /* its index, or -1 */
/* Appends an entry of 1 value or more; the key, 64 characters, must be new. */
bool store_put(struct store *s, const char *key, const float *values, int64_t count, struct err *e);

/* The `count` values of an entry. Fails where it has another number, where they are not what was
 * put there, or cannot be read: the message names the file and the place in it. */
bool store_get(struct store *s, int64_t index, float *values, int64_t count, struct err *e);
/* Puts an entry that store_get failed on right, in its file; this needs no lock. */
bool store_mend(struct store *s, int64_t index, const float *values, int64_t count, struct err *e);

#endif
