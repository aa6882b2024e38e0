/* picture_use.h - which pictures the steps of a run will read: those of the samples that they will
 * draw, which follow from the settings and the number of samples alone. */
#ifndef TRAIN_PICTURE_USE_H
#define TRAIN_PICTURE_USE_H

#include "train/run.h"

/* Sets `used` of every set's pictures. `pixels`: those of the baseline step where it trains the
 * tower; else those of all other steps, which read features. */
bool picture_use_mark(struct run *r, bool pixels, struct err *e);

/* The pictures that are used and all, and the bytes of what is kept of the former: rows of `width`
 * values in fp32. A picture of two sets counts twice. */
struct picture_use {
    int64_t used, all;
    double bytes;
};
struct picture_use picture_use_count(const struct run *r, bool pixels, int64_t width);

/* The fewest and the most tokens of a picture; false: there are none. */
bool picture_use_tokens(const struct run *r, int64_t *least, int64_t *most);

#endif
