/* bmprow.h - the rows of a BMP: pixel layouts, and their conversion to RGB or RGBA. For bmp.c. */
#ifndef DATA_PICTURE_BMPROW_H
#define DATA_PICTURE_BMPROW_H

#include <stdbool.h>
#include <stdint.h>

struct bmprow_palette {
    uint8_t rgb[256][3]; /* colours missing from the file are black */
};

/* One row of the table. Without a palette, `at` gives the positions of R, G, B and A in a pixel's
 * bytes, or for 16 bits the number of bits of green. */
struct bmprow_layout {
    int64_t bits; /* per pixel */
    bool masked;  /* the file has masks, namely these: */
    uint32_t mask[4];
    bool alpha; /* unpack writes 4 channels, else 3 */
    uint8_t at[4];
    /* out[n, channels] from n pixels; `palette` is ignored by layouts without one. */
    void (*unpack)(const struct bmprow_layout *l, const struct bmprow_palette *palette,
                   const uint8_t *in, int64_t n, uint8_t *out);
};

/* For 16, 24 and 32 bits; mask[4] is R, G, B, A, or NULL for a file without masks. NULL for a
 * layout that Pillow does not read either. */
const struct bmprow_layout *bmprow_find(int64_t bits, const uint32_t *mask);

/* For 1, 4 and 8 bits. */
const struct bmprow_layout *bmprow_indexed(int64_t bits);

#endif
