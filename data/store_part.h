/* store_part.h - one file of a store (store.h): written whole, opened, read and
 * repaired entry by entry.
 *     /values float32, all entries'    /counts uint64 [n], each entry's number of values
 *     /keys string of 64 [n]           /sums uint32 [n]           attribute about
 * A sum is the CRC-32 of an entry's key and its values, so that neither can change, nor be taken
 * for another entry's, unnoticed. */
#ifndef DATA_STORE_PART_H
#define DATA_STORE_PART_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { STORE_KEY = 64, STORE_ABOUT = 4096 };

struct store_part {
    int number;       /* in the file name */
    int fd;           /* -1: closed, to be reopened when needed */
    int64_t first, n; /* holds the store's entries [first, first + n) */
    int64_t *begin;   /* [n + 1]: entry i has the values [begin[i], begin[i + 1]); owned */
    uint64_t values_at, sums_at; /* file offsets */
    uint32_t *sums;              /* [n], owned */
};

/* The checksum of an entry; values[count]. */
uint32_t store_sum(const char *key, const float *values, int64_t count);

struct part_entries {
    const char *keys;      /* [n][STORE_KEY] */
    const float *values;   /* all entries', back to back */
    const int64_t *counts; /* [n] */
    int64_t n;
};
bool part_write(const char *path, const char *about, const struct part_entries *all, struct err *e);

/* Opens a file; the caller frees *keys, [n][STORE_KEY]. On failure, errno is 0 if the file itself
 * is at fault and not the system, and *p and *keys are zeroed (p->fd is -1). */
bool part_open(struct store_part *p, const char *path, const char *about, char **keys,
               struct err *e);
void part_close(struct store_part *p);

void part_shut(struct store_part *p); /* only closes the file */
/* Reopens the file if closed. It may have been replaced since: the checksums would tell. */
bool part_reopen(struct store_part *p, const char *path, struct err *e);

/* Entry i of the open file; fails if its checksum is wrong. */
bool part_get(const struct store_part *p, int64_t i, const char *key, float *values, struct err *e);

/* Overwrites entry i and its checksum in place. A concurrent reader, or one after a crash halfway,
 * sees at worst an entry with a wrong checksum. */
bool part_mend(struct store_part *p, const char *path, int64_t i, const char *key,
               const float *values, struct err *e);

#endif
