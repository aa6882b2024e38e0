/* store_part.h - one file of a store (store.h): written whole, opened, read and mended entry by entry.
 *     /values float32, all entries'    /counts uint64 [n], an entry's values
 *     /keys string of 64 [n]           /sums uint32 [n]           attribute about
 * A sum is the CRC-32 of an entry's key and its values, so that neither can change, nor be taken
 * for another's, unseen. */
#ifndef DATA_STORE_PART_H
#define DATA_STORE_PART_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { STORE_KEY = 64, STORE_ABOUT = 4096 };

struct store_part {
    int number;       /* in the file's name */
    int fd;           /* -1: closed for now, to be opened again where it is needed */
    int64_t first, n; /* its entries are [first, first + n) of the store's */
    int64_t *begin;   /* [n + 1] entry i has the values [begin[i], begin[i + 1]); owned */
    uint64_t values_at, sums_at; /* bytes from the file's beginning */
    uint32_t *sums;              /* [n], owned */
};

/* What an entry's sum must be. */
uint32_t store_sum(const char *key, const float *values, int64_t count);

struct part_entries {
    const char *keys;      /* [n][STORE_KEY] */
    const float *values;   /* of all, behind each other */
    const int64_t *counts; /* [n] */
    int64_t n;
};
bool part_write(const char *path, const char *about, const struct part_entries *all, struct err *e);

/* Opens a file; *keys, [n][STORE_KEY], is the caller's to free. Where *e says what is wrong with
 * the file and not with the system, errno is 0. *p and *keys are zeroed then. */
bool part_open(struct store_part *p, const char *path, const char *about, char **keys,
               struct err *e);
void part_close(struct store_part *p);

void part_shut(struct store_part *p); /* closes the file alone */
/* Opens the file again where it is closed. Another one may be there by now: the sums tell. */
bool part_reopen(struct store_part *p, const char *path, struct err *e);

/* Entry i of the open file, which must have its sum. */
bool part_get(const struct store_part *p, int64_t i, const char *key, float *values, struct err *e);

/* Writes entry i and its sum where they are. Whoever reads meanwhile, or after a crash on the way,
 * sees an entry with a wrong sum at worst. */
bool part_mend(struct store_part *p, const char *path, int64_t i, const char *key,
               const float *values, struct err *e);

#endif
