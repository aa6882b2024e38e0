/* decode.h - decodes and processes one picture file for the tower, within the memory limit. */
#ifndef TRAIN_DECODE_H
#define TRAIN_DECODE_H

#include "train/run.h"

/* Pictures that need less than this, about 20 megapixels, are decoded by all threads at once
 * without checking the memory left. */
#define DECODE_LARGE (INT64_C(64) << 20)

/* Writes img->shape.inputs rows of pixels, as r->processor computes them from the file. *damage
 * describes damage in a file that could still be read, else NULL (see struct image). Thread-safe:
 * large pictures are decoded one at a time. If run.memory_limit leaves too little for one, that is
 * a machine failure (e->machine), not the file's fault. */
bool decode_picture(const struct run *r, const struct dataset_image *img, float *pixels,
                    const char **damage, struct err *e);

#endif
