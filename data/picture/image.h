/* image.h - pictures in memory and on disk: PNG, JPEG, WebP, GIF and BMP in, PNG out. What is read
 * equals, pixel by pixel, what Pillow gives the Hugging Face image processors. */
#ifndef DATA_PICTURE_IMAGE_H
#define DATA_PICTURE_IMAGE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Larger pictures are refused from their header, before any memory is taken for them: Pillow's
 * limit, where its warning becomes an error (a third of a GiB in RGB). */
#define IMAGE_MAX_PIXELS INT64_C(178956970)

/* Up to here (50 MB in RGB) a header is believed. Beyond, the file must be long enough to hold what
 * it promises: see image_check_size. */
#define IMAGE_TRUSTED_PIXELS (INT64_C(1) << 24)

struct image {
    int64_t width, height;
    int channels; /* 3 (RGB) or 4 (RGBA), 8 bits each, alpha not premultiplied */
    uint8_t *px;  /* [height, width, channels], owned */
    /* What is wrong with the file that these pixels were nevertheless read from, as Pillow reads
     * them: a constant text that follows "is damaged: ". NULL where nothing is known to be. */
    const char *damage;
};

/* For the decoders: whether a file of `bytes` may hold a picture of this size, where its format
 * gets at most `dense` pixels into a byte. The message has `path` and the limit. */
bool image_check_size(const char *path, int64_t w, int64_t h, size_t bytes, int64_t dense,
                      struct err *e);

/* A black picture (transparent with 4 channels). Sides of 1 and more; on failure *img is zeroed. */
bool image_new(struct image *img, int64_t w, int64_t h, int channels, struct err *e);
void image_free(struct image *img); /* fine on a zeroed struct, and zeroes it */

/* Reads a picture, its format told by content, not by name. 4 channels where the file has alpha (an
 * alpha channel, or a transparent colour), else 3. The EXIF orientation is applied, as by
 * transformers' load_image; one that XMP alone has is not. Of an animation the first picture is
 * read; of a PNG's its default picture. 16-bit samples give their high byte, but see png.h on
 * 16-bit gray. A damaged file is read where Pillow reads it, and has img->damage then; what Pillow
 * refuses is an error that names the file. But damage to what no pixel depends on (an EXIF block,
 * texts, the rest of an animation) is no reason to refuse a picture, and a file that is too short
 * for the size it promises is none to read it. On failure *img is zeroed. */
bool image_read(struct image *img, const char *path, struct err *e);

/* The same of a file in memory; `path` is for messages only. */
bool image_decode(struct image *img, const char *path, const uint8_t *data, size_t size,
                  struct err *e);

/* What image_read would give, from the header alone: the pixels are not decoded. */
struct image_info {
    int64_t width, height;
    int64_t memory; /* bytes that reading it takes at most, the picture itself counted */
};
bool image_look(const char *path, struct image_info *info, struct err *e);

enum alpha_mode {
    /* Composite on white, rounded to nearest: transformers 5.24's processors on an opened file. */
    ALPHA_WHITE,
    /* Forget the alpha, Pillow's convert("RGB"): transformers 4's processors, and load_image of 4
     * and 5, which reads files and URLs. But 5.24 still puts a single transparent colour (tRNS of
     * gray, RGB and some palettes) on white behind load_image. */
    ALPHA_DROP,
};

/* Turns *img into 3 channels in place; a picture of 3 channels is left as it is. */
void image_flatten(struct image *img, enum alpha_mode mode);

/* Writes 8-bit RGB or RGBA; the file appears complete or not at all. */
bool image_write_png(const struct image *img, const char *path, struct err *e);

#endif
