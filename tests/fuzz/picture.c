/* picture.c - pictures in any format. */
#include "data/picture/image.h"
#include "tests/fuzz/target.h"

/* Larger ones take longer, and nothing else: their size is looked at before anything is decoded. */
enum { MOST_PIXELS = 1 << 18 };

void fuzz_picture(const uint8_t *data, size_t n)
{
    const char *path = fuzz_file("x.img", data, n);
    struct image_info look;
    struct image img;
    struct err e = {0};
    bool looked = image_look(path, &look, &e);

    if (!looked) fuzz_failed(&e);
    if (looked && (int64_t)look.width * look.height > MOST_PIXELS) return;
    if (!image_decode(&img, "x.img", data, n, &e)) {
        fuzz_failed(&e);
        return;
    }
    CHECK(looked && img.width == look.width && img.height == look.height);
    image_flatten(&img, n & 1 ? ALPHA_WHITE : ALPHA_DROP);
    CHECK(img.channels == 3);
    image_free(&img);
}
