/* image.h - pictures in memory and on disk: reads PNG, JPEG, WebP, GIF and BMP, writes PNG. The
 * pixels read equal, one by one, those that Pillow gives the Hugging Face image processors. */
#ifndef DATA_PICTURE_IMAGE_H
#define DATA_PICTURE_IMAGE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Larger pictures are refused after reading the header, before any memory is allocated: Pillow's
 * limit, at which its warning becomes an error (half a GiB in RGB). */
#define IMAGE_MAX_PIXELS INT64_C(178956970)

/* Up to this size (50 MB in RGB) a header is trusted. Beyond it, the file must be long enough to
 * hold what it promises: see image_check_size. */
#define IMAGE_TRUSTED_PIXELS (INT64_C(1) << 24)

struct image {
    int64_t width, height;
    int channels; /* 3 (RGB) or 4 (RGBA), 8 bits each, alpha not premultiplied */
    uint8_t *px;  /* [height, width, channels], owned */
    /* What is wrong with the file, although its pixels could be read, as Pillow reads them: a
     * constant text to follow "is damaged: ". NULL if nothing is known to be wrong. */
    const char *damage;
};

/* For the decoders: whether a file of `bytes` can hold a picture of this size, in a format with at
 * most `dense` pixels per byte. The message has `path` and the limit. */
bool image_check_size(const char *path, int64_t w, int64_t h, size_t bytes, int64_t dense,
                      struct err *e);

/* A black picture (transparent with 4 channels). Sides must be at least 1; on
 * failure *img is zeroed. */
bool image_new(struct image *img, int64_t w, int64_t h, int channels, struct err *e);
void image_free(struct image *img); /* fine on a zeroed struct, and zeroes it */

/* Reads a picture whose format is recognised by content, not by name. 4 channels if the file has
 * alpha (an alpha channel, or a transparent colour), else 3. The EXIF orientation is applied, as by
 * transformers' load_image; one that only XMP gives is not. Of an animation the first picture is
 * read; of an animated PNG its default picture. 16-bit samples are reduced to their high byte, but
 * see png.h on 16-bit gray. A damaged file is read if Pillow reads it, and then img->damage is set;
 * what Pillow refuses is an error that names the file. Two exceptions: damage to something that no
 * pixel depends on (an EXIF block, texts, the rest of an animation) is ignored, and a file that is
 * too short for the size it promises is refused. On failure *img is zeroed. */
bool image_read(struct image *img, const char *path, struct err *e);

/* The same for a file in memory; `path` is for messages only. */
bool image_decode(struct image *img, const char *path, const uint8_t *data, size_t size,
                  struct err *e);

/* What image_read would return, from the header alone: no pixels are decoded. */
struct image_info {
    int64_t width, height;
    int64_t memory; /* bytes needed at most to read it, including the picture */
};
bool image_look(const char *path, struct image_info *info, struct err *e);
/* The same for a file in memory; `path` is for messages only. */
bool image_look_at(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                   struct err *e);

enum alpha_mode {
    /* Composite on white, rounded to nearest: transformers 5.24's processors,
     * given an opened file. */
    ALPHA_WHITE,
    /* Discard the alpha, Pillow's convert("RGB"): transformers 4's processors, and load_image of 4
     * and 5, which reads files and URLs. Except that 5.24 still composites a single transparent
     * colour (tRNS of gray, RGB and some palettes) on white after load_image. */
    ALPHA_DROP,
};
#define ALPHA_NAMES "white", "drop" /* of the settings, in order */

/* Turns *img into 3 channels in place; a picture of 3 channels is unchanged. */
void image_flatten(struct image *img, enum alpha_mode mode);

/* Writes 8-bit RGB or RGBA; the file appears complete or not at all. */
bool image_write_png(const struct image *img, const char *path, struct err *e);

#endif
