/* image.h - pictures in memory and on disk: PNG and JPEG in, PNG out. What is read equals, pixel
 * by pixel, what Pillow gives the Hugging Face image processors. */
#ifndef DATA_IMAGE_H
#define DATA_IMAGE_H

#include "base/err.h"

#include <stdint.h>

/* Larger pictures are refused from their header, before any memory is taken for them. The limit on
 * the sides holds for files only. */
#define IMAGE_MAX_PIXELS INT64_C(100000000)
#define IMAGE_MAX_SIDE INT64_C(65535)

struct image {
    int64_t width, height;
    int channels; /* 3 (RGB) or 4 (RGBA), 8 bits each, alpha not premultiplied */
    uint8_t *px;  /* [height, width, channels], owned */
};

/* Whether a file may hold a picture of this size; the message has `path` and the limit. */
bool image_check_size(const char *path, int64_t w, int64_t h, struct err *e);

/* A black picture (transparent with 4 channels). Sides of 1 and more; on failure *img is zeroed. */
bool image_new(struct image *img, int64_t w, int64_t h, int channels, struct err *e);
void image_free(struct image *img); /* fine on a zeroed struct, and zeroes it */

/* Reads a PNG or JPEG, told apart by content, not by name. 4 channels where the file has alpha
 * (an alpha channel, or a tRNS chunk), else 3. The EXIF orientation is applied, as by transformers'
 * load_image; one that XMP alone has is not. A truncated or corrupt file is an error that names the
 * file; *img is zeroed then. An animated PNG gives its default picture; 16-bit samples give their
 * high byte, but see png.h on 16-bit gray. */
bool image_read(struct image *img, const char *path, struct err *e);

/* The size that image_read would give, from the header alone: the pixels are not decoded. */
bool image_size(const char *path, int64_t *width, int64_t *height, struct err *e);

enum alpha_mode {
    /* Composite on white, rounded to nearest: transformers 5.24's processors on an opened file. */
    ALPHA_WHITE,
    /* Forget the alpha, Pillow's convert("RGB"): transformers 4's processors, and load_image of 4
     * and 5, which reads files and URLs. But 5.24 still puts a single transparent colour (tRNS of
     * gray, RGB and some palettes) on white behind load_image. */
    ALPHA_DROP,
};

/* Turns *img into 3 channels in place; a picture of 3 channels is left as it is. On failure *img is
 * unchanged. */
bool image_flatten(struct image *img, enum alpha_mode mode, struct err *e);

/* Writes 8-bit RGB or RGBA; the file appears complete or not at all. */
bool image_write_png(const struct image *img, const char *path, struct err *e);

#endif
