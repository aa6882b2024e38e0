/* shapes.h - the drawn world: a 2 x 2 grid of cells, each empty or with one coloured shape.
 * shapes_ask.c has its questions, shapes.c draws it. */
#ifndef DATASETS_SHAPES_H
#define DATASETS_SHAPES_H

#include "datasets/draw.h"
#include "datasets/world.h"

enum { SHAPES = 6, COLOURS = 7 };

struct layout {
    struct thing {
        int8_t shape, colour; /* shape -1: empty cell */
    } cell[CELLS];
};

struct shape {
    const char *name, *plural;
    struct figure figure;
};
extern const struct shape shapes[SHAPES];

struct colour {
    const char *name;
    struct rgb rgb;
};
extern const struct colour colours[COLOURS];

enum { SHAPES_KINDS = 9 };
extern const struct world_kind shapes_kinds[SHAPES_KINDS]; /* scene: a struct layout */

/* A question about words only, for samples without a picture. */
void shapes_ask_words(struct rng *r, struct turn *t);

#endif
