/* jpeg.h - decodes one JPEG file in memory through libjpeg-turbo. For image.c; everyone else reads
 * pictures through image.h. `path` is for messages only. */
#ifndef DATA_PICTURE_JPEG_H
#define DATA_PICTURE_JPEG_H

#include "data/picture/upright.h"

/* The size as stored, and the memory: a progressive file's coefficients are kept in
 * addition to its pixels. */
bool jpeg_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                      struct err *e);

/* Gray, RGB, YCbCr, CMYK and YCCK, baseline and progressive, to RGB. CMYK is taken to be inverted
 * (as Adobe writes it) and converted to RGB without a colour profile, both as in Pillow. A file
 * that ends before its last row is an error. Pixels whose codes are damaged, or missing before an
 * end marker, are whatever libjpeg makes of them, as in Pillow; the picture's `damage` is set then.
 * The rows go to *out, whose image is zeroed on failure. */
bool jpeg_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                      struct err *e);

/* The first EXIF block (after its "Exif" name), within `data`; NULL and 0 if there is none. */
const uint8_t *jpeg_file_exif(const uint8_t *data, size_t size, size_t *len);

#endif
