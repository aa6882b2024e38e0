/* alter.h - one picture, many looks: what a model is to recognise stays, and place, size, angle,
 * colours and manner of drawing change at random. */
#ifndef DATASETS_ALTER_H
#define DATASETS_ALTER_H

#include "base/rng.h"
#include "data/picture/image.h"

struct alter {
    int64_t size;     /* pixels a side of what is made */
    int64_t strength; /* percent of the usual change in place, angle and colour */
    int64_t outline;  /* percent of the pictures that get dark outlines */
    bool mirror;      /* left becomes right */
};

/* Makes *out (RGB, square) from *im (RGB or RGBA), pasted by its alpha on a white or light ground.
 * The same *r gives the same picture. *out must not be *im; on failure it is zeroed. */
bool alter_picture(const struct image *im, const struct alter *a, struct rng *r, struct image *out,
                   struct err *e);

/* The picture as it is: on white, fitted into the square's middle. */
bool alter_nothing(const struct image *im, int64_t size, struct image *out, struct err *e);

#endif
