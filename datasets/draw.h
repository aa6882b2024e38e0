/* draw.h - flat figures on an RGB picture. All geometry is in integer sixteenths of a pixel, so
 * that every machine draws the same bytes. */
#ifndef DATASETS_DRAW_H
#define DATASETS_DRAW_H

#include "base/rng.h"
#include "data/picture/image.h"

#include <stdint.h>

enum { DRAW_UNIT = 16 }; /* units per pixel */

struct rgb {
    uint8_t r, g, b;
};

/* The outline of a figure of radius 1000 around (0, 0), y pointing down: a polygon, or for n = 0 a
 * disc with a hole of radius `hole`. */
struct figure {
    int n, hole;
    int16_t at[12][2];
};

/* A background without figures: `tone` with slight colour shift, a light gradient, fine grain. */
void draw_ground(struct image *im, struct rgb tone, struct rng *r);

/* Paints a figure of radius r around (x, y), both in DRAW_UNITs; edges are anti-aliased with 8 x 8
 * samples per pixel. Clipped to the picture. */
void draw_figure(struct image *im, const struct figure *f, int64_t x, int64_t y, int64_t r,
                 struct rgb colour);

/* Shifts each channel by at most `by`, within 0..255. */
struct rgb draw_vary(struct rgb c, int by, struct rng *r);

#endif
