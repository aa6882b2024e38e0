/* bmp.h - one BMP file, in memory, to pixels. For image.c; others read pictures through image.h.
 * `path` is for messages only. */
#ifndef DATA_PICTURE_BMP_H
#define DATA_PICTURE_BMP_H

#include "data/picture/upright.h"

/* What Windows and OS/2 write: 1, 4, 8, 16, 24 and 32 bits, with masks (BITFIELDS) or without,
 * RLE4, RLE8, either way up, all header sizes from 12 to 124 bytes. */
bool bmp_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e);

/* To RGB, or RGBA where masks give an alpha (all four 0 do too, as in Pillow); the fourth byte of
 * 32 bits without masks is not one. A file that ends before its last row is an error. Rows go to
 * *out, whose image is zeroed on failure. */
bool bmp_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e);

#endif
