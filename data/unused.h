/* unused.h - what samples contain that nothing reads: counted by name, with the place of the first
 * occurrence, so that it is reported once and not once per sample. */
#ifndef DATA_UNUSED_H
#define DATA_UNUSED_H

#include "base/json/jsonc.h"

enum unused_kind {
    UNUSED_SAMPLE_KEY,
    UNUSED_TURN_KEY,
    UNUSED_PART_KEY,
    UNUSED_ROLE,
    UNUSED_PART,
    UNUSED_MARK
};

enum { UNUSED_NAMES = 64 }; /* names told apart; samples may have any number of keys */

struct unused_name {
    enum unused_kind kind;
    char name[64]; /* truncated */
    int64_t count;
    char *where; /* "FILE:LINE:COL" of the first */
};

struct unused { /* {0} to begin with */
    struct unused_name names[UNUSED_NAMES];
    int n;
    int64_t others; /* occurrences of further names */
};

/* Counts a name of n bytes; `at` is its place in `doc`. */
bool unused_add(struct unused *u, enum unused_kind kind, const char *name, size_t n,
                const struct jsonc *doc, const cJSON *at, struct err *e);
void unused_free(struct unused *u); /* fine on a zeroed struct; zeroes it */

/* Logs a line per name: "WHAT: not used: the samples' key ...". */
void unused_log(const struct unused *u, const char *what);

#endif
