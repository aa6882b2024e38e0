/* pngrow.h - the rows of a PNG once they are decompressed: filters undone, samples to RGB or RGBA.
 * For png.c. */
#ifndef DATA_PNGROW_H
#define DATA_PNGROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PNG_GRAY = 0, PNG_RGB = 2, PNG_INDEX = 3, PNG_GRAY_ALPHA = 4, PNG_RGB_ALPHA = 6 };

struct pngrow_format {
    int type, depth;         /* depth: bits a sample */
    int samples;             /* a pixel */
    bool keyed;              /* one gray or RGB colour is transparent: */
    uint16_t key[3];         /* its samples */
    uint8_t palette[256][4]; /* RGBA; entries that the file lacks are black */
    bool clear;              /* an entry of the palette has alpha */
};

/* Channels that pngrow_expand writes: 4 where there is any alpha. */
int pngrow_channels(const struct pngrow_format *f);

/* Bytes of n pixels in the file. */
size_t pngrow_bytes(const struct pngrow_format *f, int64_t n);

/* Undoes filter 0 to 4 on row[n]; `prior` is the row above it, zeros for the first; false where
 * there is no such filter. `pixel` is pngrow_bytes(f, 1). */
bool pngrow_unfilter(int filter, uint8_t *row, const uint8_t *prior, size_t n, size_t pixel);

/* out[n, channels] from the samples of n pixels. */
void pngrow_expand(const struct pngrow_format *f, const uint8_t *row, int64_t n, uint8_t *out);

#endif
