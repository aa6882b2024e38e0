/* gif.h - the first picture of a GIF file, in memory, to pixels. For image.c; others read pictures
 * through image.h. `path` is for messages only. */
#ifndef DATA_PICTURE_GIF_H
#define DATA_PICTURE_GIF_H

#include "data/picture/upright.h"

/* The size of the screen, made larger where the first picture reaches outside of it. */
bool gif_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e);

/* Interlaced or not, with the picture's own palette or the file's, to RGB, or RGBA where a colour
 * is transparent. The screen outside of the picture has that colour, else colour 0: the background
 * colour that the file names is not used, as in Pillow and in browsers. Without any palette the
 * numbers are grays. Rows go to *out, whose image is zeroed on failure. */
bool gif_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e);

#endif
