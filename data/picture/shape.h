/* shape.h - what a picture becomes for a model, known from its size alone: no pixel is needed. */
#ifndef DATA_PICTURE_SHAPE_H
#define DATA_PICTURE_SHAPE_H

#include "base/err.h"

#include <stdint.h>

/* A tower reads `inputs` rows of pixels: squares (a picture, or its tiles), or patches. It makes
 * `rows` rows of features, which the cache keeps, and these become `tokens` places of the text. */
struct picture_shape {
    int64_t height, width;  /* of the picture, upright */
    int64_t to_h, to_w;     /* what it is resized to, before it is padded or cropped */
    int64_t grid_h, grid_w; /* how the inputs lie: tiles beside the whole picture; patches */
    int64_t kept_h, kept_w; /* places that belong to one part of the picture each, as a map */
    int64_t inputs, rows, tokens;
};

/* Whoever knows what pictures become. */
struct picture_rule {
    /* Fills the rest of *s from its height and width. The message says what is wrong with them. */
    bool (*shape)(const void *arg, struct picture_shape *s, struct err *e);
    const void *arg;
};

#endif
