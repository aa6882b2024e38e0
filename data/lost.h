/* lost.h - characters of a data set that the tokenizer has no token for: counted, with the place of
 * the first sample, so that it is said once. */
#ifndef DATA_LOST_H
#define DATA_LOST_H

#include "data/tokenizer/tokenizer.h"

struct lost { /* {0} to begin with */
    struct tokenizer_lost all;
    int64_t samples;
    char *where; /* "FILE:LINE:COL" of the first */
};

/* Adds a sample's; `where` is its place. */
bool lost_add(struct lost *l, const struct tokenizer_lost *of, const char *where, struct err *e);
void lost_free(struct lost *l); /* fine on a zeroed struct; leaves one */

/* The names in quotes: "q", "<0xF0>" and others. */
enum { LOST_TEXT = 16 * LOST_NAMES + 32 };
const char *lost_names(const struct tokenizer_lost *l, char out[LOST_TEXT]);

/* A line in the log, if there are any. */
void lost_log(const struct lost *l, const char *what, const struct tokenizer *tk);

#endif
