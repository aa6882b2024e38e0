/* dataset_parts.h - shared by dataset.c, which indexes, and sample.c, which makes tokens. */
#ifndef DATA_DATASET_PARTS_H
#define DATA_DATASET_PARTS_H

#include "data/dataset.h"

struct draft;
/* Fills f->shape for the images of f->c. Reports failure as draft_make does, but the message
 * begins with the image. */
typedef bool draft_shapes(void *arg, const struct dataset_entry *entry, struct draft *f,
                          enum drop_reason *reason, struct err *e);

/* A sample as tokens before images are expanded: what the index needs. */
struct draft {
    draft_shapes *shapes;
    void *arg; /* of shapes */
    struct conversation c;
    struct rendered r;
    struct tokens tokens;
    struct picture_shape *shape; /* [c.n_images] */
    size_t cap_shape;
    int64_t n;      /* tokens after image expansion */
    int64_t labels; /* tokens trained on, not counting the sample's first, which nothing predicts */
    int64_t prompt; /* tokens before the last assistant turn */
};

/* Reads and checks the sample at `entry`. *f must be {0} but for `shapes` and `arg` before the
 * first use; later uses reuse its memory. On failure *reason is the kind of failure, the message
 * begins with "FILE:LINE:COL: ", and nothing of *f is valid but c.id, where that could be read.
 * `unused` may be NULL. */
bool draft_make(struct draft *f, const struct dataset *d, const struct dataset_entry *entry,
                struct unused *unused, enum drop_reason *reason, struct err *e);
void draft_free(struct draft *f); /* fine on a zeroed struct; zeroes it */

/* Where the sample at `entry` lies, and its bytes. */
struct conversation_source dataset_bytes(const struct dataset *d,
                                         const struct dataset_entry *entry);
/* Puts "FILE:LINE:COL: " before the message, and returns false. */
bool dataset_context(const struct dataset *d, const struct dataset_entry *entry, struct err *e);

#endif
