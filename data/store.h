/* store.h - results computed from images, cached in HDF5 files: pixels as the vision tower takes
 * them, or the frozen tower's features. An entry is a list of floats under a key, the SHA-256 of
 * the image file. Everything else it depends on (tower, processor) is in the caller's `about`
 * string, which the files carry.
 *
 * A store is a directory of part files, DIR/part-00000.h5 and so on (store_part.h), each published
 * atomically, so that a killed run leaves only complete entries and loses at most 64 MiB of work.
 * Every entry has a checksum that is verified on each read: the reader of a damaged entry
 * recomputes it and repairs it in place. Writing holds a lock on DIR/lock until store_close;
 * readers see the parts that existed when they opened. */
#ifndef DATA_STORE_H
#define DATA_STORE_H

#include "base/slots.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { STORE_PART_BYTES = 64 << 20 }; /* of values, buffered in memory until written */
enum { STORE_OPEN = 128 };            /* a store may have thousands of parts */

struct store {
    char *dir, *about;
    int lock; /* file descriptor, -1 when read-only */
    int64_t n;
    struct store_part *parts;
    size_t n_parts, cap_parts;
    int next_part;   /* number of the next file: one above the highest in use */
    char (*key)[65]; /* [n] */
    size_t cap_keys;
    struct slots slots; /* of keys */
    float *pending;     /* values not yet in a part: those of the last n_pending entries */
    int64_t *counts;    /* [n_pending] */
    int64_t n_pending;
    size_t n_values, cap_pending, cap_counts;
};

/* Opens a store. With `write`, creates its directory if needed, and waits for another writer to
 * finish; without, one that is not there is empty. Parts that are damaged, of an older format, or
 * about something else are ignored and logged; with `write` they are deleted too. */
bool store_open(struct store *s, const char *dir, const char *about, bool write, struct err *e);
/* Writes pending entries. Fine on a zeroed struct. */
bool store_close(struct store *s, struct err *e);

int64_t store_find(const struct store *s, const char *key); /* its index, or -1 */
/* Appends an entry of at least one value; the key, 64 characters, must be new. */
bool store_put(struct store *s, const char *key, const float *values, int64_t count, struct err *e);

/* Reads an entry's `count` values. Fails if it has another number of values, if they are not what
 * was stored, or cannot be read: the message names the file and the entry. */
bool store_get(struct store *s, int64_t index, float *values, int64_t count, struct err *e);
/* Repairs, in its file, an entry on which store_get failed; needs no lock. */
bool store_mend(struct store *s, int64_t index, const float *values, int64_t count, struct err *e);

#endif
