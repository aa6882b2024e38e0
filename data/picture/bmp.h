/* bmp.h - decodes one BMP file in memory. For image.c; everyone else reads pictures through
 * image.h. `path` is for messages only. */
#ifndef DATA_PICTURE_BMP_H
#define DATA_PICTURE_BMP_H

#include "data/picture/upright.h"

/* Supports what Windows and OS/2 write: 1, 4, 8, 16, 24 and 32 bits, with or without masks
 * (BITFIELDS), RLE4, RLE8, either way up, all header sizes from 12 to 124 bytes. */
bool bmp_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e);

/* Decodes to RGB, or to RGBA if there is an alpha mask (all four masks 0 counts too, as in Pillow);
 * the fourth byte of 32 bits without masks is not alpha. A file that ends before its last row is an
 * error. Rows go to *out, whose image is zeroed on failure. */
bool bmp_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e);

#endif
