/* upright.h - for the decoders: writes a picture's rows where they belong after applying the EXIF
 * orientation. Turning rows as they arrive needs one copy of the picture instead of two. */
#ifndef DATA_PICTURE_UPRIGHT_H
#define DATA_PICTURE_UPRIGHT_H

#include "data/picture/image.h"

#include <stddef.h>

struct upright {
    struct image *img;
    int64_t width, height; /* as stored, set by upright_new */
    bool swap;             /* rows become columns */
    bool flip_x, flip_y;   /* of the stored picture, before the swap */
    bool lost;             /* there is an EXIF block, but it is unreadable */
};

/* Sets what the Orientation tag of an EXIF block of `len` bytes asks for; nothing if it has none,
 * or `exif` is NULL. *img is what upright_new will create. */
void upright_init(struct upright *u, struct image *img, const uint8_t *exif, size_t len);

/* Creates *u->img, black, for a picture stored as width x height; on failure it is zeroed. */
bool upright_new(struct upright *u, int64_t width, int64_t height, int channels, struct err *e);

/* n pixels of stored row y, in the columns x, x + step, ... */
struct upright_row {
    int64_t y, x, step, n;
};
void upright_put(const struct upright *u, const struct upright_row *row, const uint8_t *px);

#endif
