/* jpeg.h - one JPEG file, in memory, to pixels through libjpeg-turbo. For image.c; others read
 * pictures through image.h. `path` is for messages only. */
#ifndef DATA_JPEG_H
#define DATA_JPEG_H

#include "data/image.h"

#include <stddef.h>

/* The size in the header, before any EXIF orientation; refused where it is over image.h's limits.
 */
bool jpeg_file_header(const char *path, const uint8_t *data, size_t size, int64_t *width,
                      int64_t *height, struct err *e);

/* Gray, RGB, YCbCr, CMYK and YCCK, baseline and progressive, to RGB. CMYK is taken as inverted
 * (Adobe's habit) and turned into RGB without a colour profile, both as Pillow does. A file that
 * ends early, or whose entropy-coded data is damaged, is an error, where libjpeg alone would fill
 * the rest with gray. On failure *img is zeroed. */
bool jpeg_file_decode(const char *path, const uint8_t *data, size_t size, struct image *img,
                      struct err *e);

/* The first EXIF block (after its "Exif" name), inside of `data`; NULL and 0 where there is none.
 */
const uint8_t *jpeg_file_exif(const uint8_t *data, size_t size, size_t *len);

#endif
