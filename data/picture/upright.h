/* upright.h - for the decoders: a picture's rows, put where they belong once the picture is turned
 * as its EXIF block says. Turning while the rows come needs one copy of a picture
 * instead of two. */
#ifndef DATA_PICTURE_UPRIGHT_H
#define DATA_PICTURE_UPRIGHT_H

#include "data/picture/image.h"

#include <stddef.h>

struct upright {
    struct image *img;
    int64_t width, height; /* as stored, set by upright_new */
    bool swap;             /* rows become columns */
    bool flip_x, flip_y;   /* of the stored picture, before the swap */
    bool lost;             /* there is an EXIF block, but not one that can be read */
};

/* What the Orientation tag of an EXIF block of `len` bytes asks for; nothing where it has none, or
 * `exif` is NULL. *img is what upright_new will make. */
void upright_init(struct upright *u, struct image *img, const uint8_t *exif, size_t len);

/* Makes *u->img, black, for a picture that is stored as width x height; on failure it is zeroed. */
bool upright_new(struct upright *u, int64_t width, int64_t height, int channels, struct err *e);

/* n pixels of stored row y, in the columns x, x + step, ... */
struct upright_row {
    int64_t y, x, step, n;
};
void upright_put(const struct upright *u, const struct upright_row *row, const uint8_t *px);

#endif
