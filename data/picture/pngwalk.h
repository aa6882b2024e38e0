/* pngwalk.h - the chunks of a PNG file: which of them are read, and whether the file is as Pillow
 * wants it. For png.c, which has libpng read the pixels. */
#ifndef DATA_PICTURE_PNGWALK_H
#define DATA_PICTURE_PNGWALK_H

#include "data/picture/image.h"

struct pngwalk {
    const char *path; /* for messages only */
    struct err *e;
    const uint8_t *data;
    size_t size, pos; /* pos: where the next chunk begins */
    /* What pngwalk_header finds: */
    int64_t width, height;
    int type, depth, samples; /* libpng's colour type; bits a sample; samples a pixel */
    bool interlaced;
    uint8_t palette[256][3]; /* entries that the file lacks are black */
    uint8_t trns[256];       /* tRNS as libpng wants it: an alpha for every colour that the depth */
    size_t trns_bytes;       /* allows, or the samples of one colour; 0 bytes: there is none */
    /* What is wrong with the file, see struct image. */
    const char *damage;
};

/* Up to the first IDAT; before it path, e, data and size are set, the rest is 0. The size has been
 * checked then. */
bool pngwalk_header(struct pngwalk *w);

/* Channels of the picture: 4 where there is any alpha, else 3. */
int pngwalk_channels(const struct pngwalk *w);

/* The bytes of the next IDAT chunk, as many as are in the file; an error where no IDAT follows. */
bool pngwalk_idat(struct pngwalk *w, const uint8_t **body, size_t *n);

/* Behind the pixels: chunks must be whole, but may end anywhere. */
bool pngwalk_end(struct pngwalk *w);

/* The content of the eXIf chunk, inside of `data`; NULL and 0 where there is none. */
const uint8_t *pngwalk_exif(const uint8_t *data, size_t size, size_t *len);

#endif
