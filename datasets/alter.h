/* alter.h - many looks for one picture: what a model should recognise stays, while position, size,
 * angle, colours and drawing style change at random. */
#ifndef DATASETS_ALTER_H
#define DATASETS_ALTER_H

#include "base/rng.h"
#include "data/picture/image.h"

struct alter {
    int64_t width, height; /* of the output, in pixels */
    int64_t strength;      /* percent of the usual change in position, angle and colour */
    int64_t outline;       /* percent of the pictures that get dark outlines */
    bool mirror;           /* allow mirroring left to right */
};

/* Makes *out (RGB) from *im (RGB or RGBA), composited on a white or light background. The
 * same *r gives the same picture. *out must not be *im; on failure it is zeroed. */
bool alter_picture(const struct image *im, const struct alter *a, struct rng *r, struct image *out,
                   struct err *e);

/* The unaltered picture: on white, fitted into the centre. */
bool alter_nothing(const struct image *im, int64_t width, int64_t height, struct image *out,
                   struct err *e);

#endif
