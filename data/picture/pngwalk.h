/* pngwalk.h - the chunks of a PNG file: reads the relevant ones, and checks whether Pillow would
 * accept the file. For png.c, which has libpng read the pixels. */
#ifndef DATA_PICTURE_PNGWALK_H
#define DATA_PICTURE_PNGWALK_H

#include "data/picture/image.h"

struct pngwalk {
    const char *path; /* for messages only */
    struct err *e;
    const uint8_t *data;
    size_t size, pos; /* pos: the next chunk */
    /* Set by pngwalk_header: */
    int64_t width, height;
    int type, depth, samples; /* libpng's colour type; bits per sample; samples per pixel */
    bool interlaced;
    uint8_t palette[256][3]; /* entries missing from the file are black */
    uint8_t trns[256];       /* tRNS as libpng wants it: an alpha for every colour that the depth */
    size_t trns_bytes;       /* allows, or the samples of one colour; 0 bytes: there is none */
    /* What is wrong with the file, see struct image. */
    const char *damage;
};

/* Reads up to the first IDAT and checks the size; the caller sets path, e, data and size,
 * the rest must be 0. */
bool pngwalk_header(struct pngwalk *w);

/* Channels of the picture: 4 if there is any alpha, else 3. */
int pngwalk_channels(const struct pngwalk *w);

/* The bytes of the next IDAT chunk, as many as the file has; an error if no IDAT follows. */
bool pngwalk_idat(struct pngwalk *w, const uint8_t **body, size_t *n);

/* After the pixels: chunks must be complete, but the file may end after any of them. */
bool pngwalk_end(struct pngwalk *w);

/* The content of the eXIf chunk, within `data`; NULL and 0 if there is none. */
const uint8_t *pngwalk_exif(const uint8_t *data, size_t size, size_t *len);

#endif
