/* png.h - decodes one PNG file in memory, and encodes. For image.c; everyone else reads
 * pictures through image.h. Names start with png_file_ because libpng owns png_. `path` is
 * for messages only. */
#ifndef DATA_PICTURE_PNG_H
#define DATA_PICTURE_PNG_H

#include "data/picture/upright.h"

#include <stdio.h>

/* The size as stored, and the memory. Checks everything up to the first pixels. */
bool png_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e);

/* Every colour type and bit depth, interlaced or not, to RGB, or to RGBA if the file has alpha or a
 * tRNS chunk. Gamma and colour profiles are not applied, as in Pillow. 16-bit samples are reduced
 * to their high byte, except for 16-bit gray without alpha: its values are clipped at 255, so that
 * nearly everything is white. That is what Pillow's convert("RGB") does, and hence what models have
 * been trained on. Transparent colours (tRNS) are compared with all bits, as the PNG standard says;
 * on 2-, 4- and 16-bit samples Pillow compares other values. A file whose compressed data end
 * correctly, but before the last row, is refused; Pillow takes the missing rows as 0. The rows go
 * to *out, whose image is zeroed on failure. */
bool png_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e);

/* Writes 8-bit RGB or RGBA to an open file. */
bool png_file_encode(const char *path, FILE *fp, const struct image *img, struct err *e);

#endif
