/* webp.h - decodes one WebP file in memory through libwebp. For image.c; everyone else reads
 * pictures through image.h. `path` is for messages only. */
#ifndef DATA_PICTURE_WEBP_H
#define DATA_PICTURE_WEBP_H

#include "data/picture/upright.h"

bool webp_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                      struct err *e);

/* Lossy and lossless, to RGB, or to RGBA if the file says that it has alpha. Of an animation the
 * first frame, on a transparent (or black) canvas. A truncated file is an error. Rows go to *out,
 * whose image is zeroed on failure. */
bool webp_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                      struct err *e);

/* The content of the EXIF chunk, within `data`; NULL and 0 if there is none. */
const uint8_t *webp_file_exif(const uint8_t *data, size_t size, size_t *len);

#endif
