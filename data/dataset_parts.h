/* dataset_parts.h - between dataset.c, which indexes, and sample.c, which makes tokens. */
#ifndef DATA_DATASET_PARTS_H
#define DATA_DATASET_PARTS_H

#include "data/dataset.h"

/* A sample up to its tokens, before pictures take their places: what the index needs. */
struct draft {
    struct conversation c;
    struct rendered r;
    struct tokens tokens;
    struct picture_shape *shape; /* [c.n_images] */
    size_t cap_shape;
    int64_t n;      /* tokens with the pictures' places */
    int64_t labels; /* tokens that are trained, the first of the sample apart */
    int64_t prompt; /* tokens before the last assistant turn */
};

/* Fills f->shape for the pictures of f->c; as draft_make in *reason and *e, but that the message
 * begins with the picture. */
typedef bool draft_shapes(void *arg, const struct dataset_entry *entry, struct draft *f,
                          enum drop_reason *reason, struct err *e);

/* Reads and checks the sample at `entry`; col: its column. *f is {0} before the first use, and its
 * memory is used again. On failure *reason says of what kind it is, the message begins with
 * "FILE:PLACE: ", and *f holds nothing of use. `unused` may be NULL. */
bool draft_make(struct draft *f, const struct dataset *d, const struct dataset_entry *entry,
                int64_t col, draft_shapes *shapes, void *arg, struct unused *unused,
                enum drop_reason *reason, struct err *e);
void draft_free(struct draft *f); /* fine on a zeroed struct; leaves one */

#endif
