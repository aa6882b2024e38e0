/* decode.h - one picture file to what the model's tower reads, within the memory that there is. */
#ifndef TRAIN_DECODE_H
#define TRAIN_DECODE_H

#include "train/run.h"

/* Pictures that take less, about 20 megapixels, are decoded by all threads at once, and are not
 * asked whether there is room. */
#define DECODE_LARGE (INT64_C(64) << 20)

/* Writes pixels [3, height, width] as r->processor makes them of the file. *damage is what is wrong
 * with a file that was read nevertheless, else NULL (see struct image). Safe to call from several
 * threads: of large pictures one at a time is held. Where run.memory_limit leaves too little for
 * one, that is a lack of memory (e->machine) and no fault of the file. */
bool decode_picture(const struct run *r, const char *path, float *pixels, const char **damage,
                    struct err *e);

#endif
