/* picture.h - shared by the picture tests: the golden directory, and files derived from it. Include
 * after cmocka's headers. */
#ifndef TESTS_PICTURE_H
#define TESTS_PICTURE_H

#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "data/picture/image.h"
#include "tests/tmpdir.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdint.h>
#include <zlib.h>

#define PICTURES "tests/data/image/"

static inline void picture_sha(const struct image *img, char hex[65])
{
    struct sha256 s;

    sha256_init(&s);
    sha256_add(&s, img->px, (size_t)(img->width * img->height * img->channels));
    sha256_hex(&s, hex);
}

/* `want`: the first digits of the pixels' hash. */
static inline void assert_pixels(const struct image *img, const char *want, const char *what)
{
    char hex[65];

    picture_sha(img, hex);
    if (strncmp(hex, want, strlen(want)) != 0)
        fail_msg("%s: %" PRId64 "x%" PRId64 "x%d pixels differ", what, img->width, img->height,
                 img->channels);
}

static inline FILE *picture_list(const char *name)
{
    char path[300];
    FILE *fp;

    snprintf(path, sizeof path, PICTURES "%s", name);
    fp = fopen(path, "r");
    assert_non_null(fp);
    return fp;
}

static inline void picture_read(struct image *img, const char *path)
{
    struct err e = {0};

    if (!image_read(img, path, &e)) fail_msg("%s", e.msg);
}

/* The bytes of a golden file; the caller frees them. */
static inline uint8_t *picture_load(const char *name, size_t *len)
{
    char path[300], *text;
    struct err e = {0};

    snprintf(path, sizeof path, PICTURES "%s", name);
    if (!file_read(path, 1 << 20, &text, len, &e)) fail_msg("%s", e.msg);
    return (uint8_t *)text;
}

/* Not file_write: flushing to disk thousands of times would take most of the test's time. */
static inline void put_bytes(const char *path, const void *data, size_t len)
{
    FILE *fp = fopen(path, "wb");

    assert_non_null(fp);
    assert_int_equal(fwrite(data, 1, len, fp), len);
    assert_int_equal(fclose(fp), 0);
}

static inline void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static inline uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Corrects every chunk's CRC in a PNG, so that what follows is checked too. */
static inline void fix_crcs(uint8_t *png, size_t len)
{
    for (size_t pos = 8; pos < len && len - pos >= 12;) {
        uint32_t n = get_be32(png + pos);

        if (n > len - pos - 12) return;
        put_be32(png + pos + 8 + n, (uint32_t)crc32(crc32(0, NULL, 0), png + pos + 4, n + 4));
        pos += (size_t)n + 12;
    }
}

/* image_decode and image_look must both fail on `data`, with a message containing `want`
 * and the file's name. */
static inline void assert_refused(void **state, const void *data, size_t len, const char *want)
{
    const char *path = tmpdir_path(state, "picture");
    struct image_info info;
    struct image img;
    struct err e = {0};

    put_bytes(path, data, len);
    assert_false(image_look(path, &info, &e));
    assert_non_null(strstr(e.msg, path));
    assert_false(image_read(&img, path, &e));
    assert_null(img.px);
    assert_non_null(strstr(e.msg, path));
    if (!strstr(e.msg, want)) fail_msg("\"%s\" lacks \"%s\"", e.msg, want);
}

/* Calls each(name, data, len, rng) for every picture in the golden directory. */
static inline void for_each_picture(void (*each)(const char *name, const uint8_t *data, size_t len,
                                                 struct rng *r),
                                    uint64_t seed)
{
    DIR *d = opendir(PICTURES);
    struct dirent *entry;
    struct rng r;
    int n = 0;

    assert_non_null(d);
    rng_seed(&r, seed, 0);
    while ((entry = readdir(d)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        uint8_t *data;
        size_t len;

        if (!dot || !dot[1] || !strstr(".png.jpg.webp.gif.bmp", dot)) continue;
        data = picture_load(entry->d_name, &len);
        each(entry->d_name, data, len, &r);
        free(data);
        n++;
    }
    closedir(d);
    assert_in_range(n, 150, 1000);
}

#endif
