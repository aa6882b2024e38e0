/* gif.h - decodes the first picture of a GIF file in memory. For image.c; everyone else reads
 * pictures through image.h. `path` is for messages only. */
#ifndef DATA_PICTURE_GIF_H
#define DATA_PICTURE_GIF_H

#include "data/picture/upright.h"

/* The size of the screen, enlarged if the first picture extends beyond it. */
bool gif_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e);

/* Decodes, interlaced or not, with the picture's own palette or the file's, to RGB, or to RGBA if a
 * colour is transparent. The screen outside the picture gets that colour, otherwise colour 0: the
 * background colour named by the file is ignored, as in Pillow and in browsers. Without any palette
 * the indices are grays. Rows go to *out, whose image is zeroed on failure. */
bool gif_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e);

#endif
