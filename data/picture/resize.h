/* resize.h - antialiased resampling, and cropping. Resampling is bit-identical to
 * Image.resize in Pillow 13.0 on 8-bit pictures: separable, fixed-point weights, rounded to 8
 * bits between the two passes. */
#ifndef DATA_PICTURE_RESIZE_H
#define DATA_PICTURE_RESIZE_H

#include "data/picture/image.h"

enum resize_filter {
    RESIZE_BILINEAR, /* triangle, support 1 */
    RESIZE_BICUBIC,  /* Keys, a = -0.5, support 2 */
    RESIZE_LANCZOS,  /* windowed sinc, support 3 */
};

/* "bilinear", "bicubic", "lanczos". */
const char *resize_filter_name(enum resize_filter f);

/* Creates *dst of w x h pixels, w and h >= 1, with the channels of *src. RGBA is premultiplied for
 * resampling and divided back, as in Pillow. *dst must not be *src; the caller frees it; on
 * failure it is zeroed. */
bool image_resize(const struct image *src, int64_t w, int64_t h, enum resize_filter f,
                  struct image *dst, struct err *e);

/* A window of w x h pixels with its top left corner at (x, y); x and y may be negative. */
struct image_box {
    int64_t x, y, w, h;
};

/* The window `box` of what image_resize to that size would produce, without computing the rest: it
 * may be far larger than memory. Anything outside the resized picture is 0. *dst has the size of
 * the box; it must not be *src; on failure it is zeroed. */
struct resize_to {
    int64_t w, h;
    enum resize_filter filter;
};
bool image_resize_box(const struct image *src, const struct resize_to *to,
                      const struct image_box *box, struct image *dst, struct err *e);

/* Copies the window `box` of *src into a new *dst; anything outside *src is 0. *dst must not be
 * *src; on failure it is zeroed. */
bool image_crop(const struct image *src, const struct image_box *box, struct image *dst,
                struct err *e);

#endif
