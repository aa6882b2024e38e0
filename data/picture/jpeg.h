/* jpeg.h - one JPEG file, in memory, to pixels through libjpeg-turbo. For image.c; others read
 * pictures through image.h. `path` is for messages only. */
#ifndef DATA_PICTURE_JPEG_H
#define DATA_PICTURE_JPEG_H

#include "data/picture/upright.h"

/* The size as stored, and the memory: a progressive file's coefficients are held beside
 * its pixels. */
bool jpeg_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                      struct err *e);

/* Gray, RGB, YCbCr, CMYK and YCCK, baseline and progressive, to RGB. CMYK is taken as inverted
 * (Adobe's habit) and turned into RGB without a colour profile, both as Pillow does. A file that
 * ends before its last row is an error. Pixels whose codes are damaged, or missing before an end
 * mark, are what libjpeg makes of them, as in Pillow; the picture has its damage then. The rows go
 * to *out, whose image is zeroed on failure. */
bool jpeg_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                      struct err *e);

/* The first EXIF block (after its "Exif" name), inside of `data`; NULL and 0 where
 * there is none. */
const uint8_t *jpeg_file_exif(const uint8_t *data, size_t size, size_t *len);

#endif
