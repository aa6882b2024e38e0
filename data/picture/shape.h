/* shape.h - what a picture becomes in a model, known from its size without reading any pixels. */
#ifndef DATA_PICTURE_SHAPE_H
#define DATA_PICTURE_SHAPE_H

#include "base/err.h"

#include <stdint.h>

/* The vision tower reads `inputs` rows of pixels: squares (a picture, or its tiles), or patches. It
 * produces `rows` feature rows, which are cached, and these become `tokens` rows of the text. */
struct picture_shape {
    int64_t memory;         /* bytes that decoding it takes, as its header says */
    int64_t height, width;  /* of the picture, upright */
    int64_t to_h, to_w;     /* size after resizing, before padding or cropping */
    int64_t grid_h, grid_w; /* of the inputs: tiles (besides the whole), or patches */
    int64_t kept_h, kept_w; /* of the text rows that show one part each */
    int64_t inputs, rows, tokens;
};

/* How pictures get their shape: by the model's family and processor. */
struct picture_rule {
    /* Fills the rest of *s from its height and width. Fails with a message that says what
     * is wrong with them. */
    bool (*shape)(const void *arg, struct picture_shape *s, struct err *e);
    const void *arg;
};

#endif
