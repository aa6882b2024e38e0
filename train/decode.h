/* decode.h - one picture file to what the model's tower reads, within the memory that there is. */
#ifndef TRAIN_DECODE_H
#define TRAIN_DECODE_H

#include "train/run.h"

/* Writes the img->shape.inputs rows of pixels that r->processor makes of the file. *damage is what is wrong
 * with a file that was read nevertheless, else NULL (see struct image). Safe to call from several
 * threads: of large pictures one at a time is held. Where run.memory_limit leaves too little for
 * one, that is a lack of memory (e->machine) and no fault of the file. */
bool decode_picture(const struct run *r, const struct dataset_image *img, float *pixels,
                    const char **damage, struct err *e);

#endif
