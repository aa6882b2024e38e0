/* dataset_parts.h - between dataset.c, which indexes, and sample.c, which makes tokens. */
#ifndef DATA_DATASET_PARTS_H
#define DATA_DATASET_PARTS_H

#include "data/dataset.h"

/* A sample up to its tokens, before pictures take their places: what the index needs. */
struct draft {
    struct conversation c;
    struct rendered r;
    struct tokens tokens;
    int64_t n;      /* tokens with the pictures' places */
    int64_t labels; /* tokens that are trained, the first of the sample apart */
    int64_t prompt; /* tokens before the last assistant turn */
};

/* Reads and checks the sample at `entry`. *f is {0} before the first use, and its memory is used
 * again. On failure *reason says of what kind it is, the message begins with "FILE:LINE:COL: ", and
 * *f holds nothing of use but c.id, where that could be read. `unused` may be NULL. */
bool draft_make(struct draft *f, const struct dataset *d, const struct dataset_entry *entry,
                struct unused *unused, enum drop_reason *reason, struct err *e);
void draft_free(struct draft *f); /* fine on a zeroed struct; leaves one */

/* Where the sample at `entry` lies, and its bytes. */
struct conversation_source dataset_bytes(const struct dataset *d,
                                         const struct dataset_entry *entry);
/* Puts "FILE:LINE:COL: " before the message, and returns false. */
bool dataset_context(const struct dataset *d, const struct dataset_entry *entry, struct err *e);

#endif
