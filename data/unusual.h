/* unusual.h - what is read and trained on as it stands, and is a mistake more often than not:
 * counted by kind, with the place of the first sample, so that it is said once. */
#ifndef DATA_UNUSUAL_H
#define DATA_UNUSUAL_H

#include "data/template.h"

#include <stdint.h>

enum unusual_kind {
    UNUSUAL_ANSWER_FIRST,
    UNUSUAL_TWO_QUESTIONS,
    UNUSUAL_TWO_ANSWERS,
    UNUSUAL_LAST_QUESTION,
    UNUSUAL_NO_TEXT,
    UNUSUAL_PICTURE,
    UNUSUAL_KINDS
};

struct unusual { /* {0} to begin with */
    int64_t samples[UNUSUAL_KINDS];
    char *where[UNUSUAL_KINDS]; /* "FILE:LINE:COL" of the first */
};

/* The kinds that a conversation is of, a bit each; most are of none. */
unsigned unusual_kinds(const struct message *m, size_t n);
/* Counts a sample of such kinds; `where` is its place. */
bool unusual_add(struct unusual *u, unsigned kinds, const char *where, struct err *e);
void unusual_free(struct unusual *u); /* fine on a zeroed struct; leaves one */

/* A line in the log for each kind: "WHAT: samples that begin with an answer: 3; the first: ...". */
void unusual_log(const struct unusual *u, const char *what);

#endif
