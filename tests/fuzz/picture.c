/* picture.c - pictures, of whatever format. */
#include "data/image.h"
#include "tests/fuzz/target.h"

void fuzz_picture(const uint8_t *data, size_t n)
{
    const char *path = fuzz_file("x.img", data, n);
    struct image img;
    int64_t w, h;
    struct err e = {{0}};
    bool sized = image_size(path, &w, &h, &e);

    if (!sized) fuzz_failed(&e);
    if (!image_read(&img, path, &e)) {
        fuzz_failed(&e);
        return;
    }
    CHECK(sized && img.width == w && img.height == h);
    CHECK(image_flatten(&img, n & 1 ? ALPHA_WHITE : ALPHA_DROP, &e) && img.channels == 3);
    image_free(&img);
}
