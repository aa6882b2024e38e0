/* test_image.c - reading, flattening, resizing and writing of pictures: against golden values from
 * Pillow (tests/data/image/make_golden.py), and against damaged files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "data/resize.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define DIR_GOLDEN "tests/data/image/"
#define SEED 20240611

static char tmp_dir[512], tmp_file[600];

static int make_tmp(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    snprintf(tmp_dir, sizeof tmp_dir, "%s/test_image.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(tmp_dir)) return -1;
    snprintf(tmp_file, sizeof tmp_file, "%s/file", tmp_dir);
    return 0;
}

static int remove_tmp(void **state)
{
    (void)state;
    unlink(tmp_file);
    return rmdir(tmp_dir); /* fails, as it should, where something else was left there */
}

static void assert_pixels(const struct image *img, const char *want, const char *what)
{
    struct sha256 s;
    char hex[65];

    sha256_init(&s);
    sha256_add(&s, img->px, (size_t)(img->width * img->height * img->channels));
    sha256_hex(&s, hex);
    if (strcmp(hex, want) != 0)
        fail_msg("%s: %" PRId64 "x%" PRId64 "x%d pixels differ", what, img->width, img->height,
                 img->channels);
}

static FILE *open_list(const char *name)
{
    char path[300];
    FILE *fp;

    snprintf(path, sizeof path, DIR_GOLDEN "%s", name);
    fp = fopen(path, "r");
    assert_non_null(fp);
    return fp;
}

static void read_ok(struct image *img, const char *path)
{
    struct err e = {0};

    if (!image_read(img, path, &e)) fail_msg("%s", e.msg);
}

static void test_read(void **state)
{
    char name[100], path[200], as_read[65], dropped[65], white[65];
    int64_t w, h, got_w, got_h;
    int channels, n = 0;
    FILE *list = open_list("read.txt");
    struct image img;
    struct err e = {0};

    (void)state;
    while (fscanf(list, "%99s %" SCNd64 " %" SCNd64 " %d %64s %64s %64s", name, &w, &h, &channels,
                  as_read, dropped, white) == 7) {
        snprintf(path, sizeof path, DIR_GOLDEN "%s", name);
        assert_true(image_size(path, &got_w, &got_h, &e));
        read_ok(&img, path);
        if (img.width != w || img.height != h || img.channels != channels || got_w != w ||
            got_h != h)
            fail_msg("%s: wrong shape", name);
        assert_pixels(&img, as_read, name);
        assert_true(image_flatten(&img, ALPHA_DROP, &e));
        assert_int_equal(img.channels, 3);
        assert_pixels(&img, dropped, name);
        image_free(&img);
        read_ok(&img, path);
        assert_true(image_flatten(&img, ALPHA_WHITE, &e));
        assert_pixels(&img, white, name);
        image_free(&img);
        n++;
    }
    fclose(list);
    assert_in_range(n, 60, 1000);
}

static enum resize_filter filter_named(const char *name)
{
    enum resize_filter f = RESIZE_BILINEAR;

    while (strcmp(resize_filter_name(f), name) != 0)
        f++;
    return f;
}

static void test_resize(void **state)
{
    char name[100], path[200], filter[20], want[65];
    int64_t w, h;
    int channels, n = 0;
    FILE *list = open_list("resize.txt");
    struct image img, out;
    struct err e = {0};

    (void)state;
    while (fscanf(list, "%99s %" SCNd64 " %" SCNd64 " %19s %d %64s", name, &w, &h, filter,
                  &channels, want) == 6) {
        snprintf(path, sizeof path, DIR_GOLDEN "%s", name);
        read_ok(&img, path);
        assert_true(image_resize(&img, w, h, filter_named(filter), &out, &e));
        assert_int_equal(out.width, w);
        assert_int_equal(out.height, h);
        assert_int_equal(out.channels, channels);
        assert_pixels(&out, want, name);
        image_free(&img);
        image_free(&out);
        n++;
    }
    fclose(list);
    assert_in_range(n, 100, 1000);
}

/* A window equals the same part of the whole, black outside, in both orders of the passes. */
static void test_resize_box(void **state)
{
    static const int64_t sizes[][2] = {{50, 80}, {120, 20}, {97, 61}, {20, 30}};
    static const struct image_box boxes[] = {
        {0, 0, 10, 10}, {7, 9, 11, 8}, {-3, -5, 200, 100}, {-20, 3, 20, 5}, {500, 500, 3, 3}};
    struct image img, whole, cut, window;
    struct err e = {0};

    (void)state;
    read_ok(&img, DIR_GOLDEN "size97x61.png");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_true(image_resize(&img, sizes[i][0], sizes[i][1], RESIZE_BICUBIC, &whole, &e));
        for (size_t b = 0; b < sizeof boxes / sizeof boxes[0]; b++) {
            assert_true(image_crop(&whole, &boxes[b], &cut, &e));
            assert_true(image_resize_box(&img, sizes[i][0], sizes[i][1], RESIZE_BICUBIC, &boxes[b],
                                         &window, &e));
            assert_int_equal(window.width, boxes[b].w);
            assert_int_equal(window.height, boxes[b].h);
            assert_memory_equal(window.px, cut.px, (size_t)(cut.width * cut.height * 3));
            image_free(&cut);
            image_free(&window);
        }
        image_free(&whole);
    }
    image_free(&img);
}

static void test_crop(void **state)
{
    const struct image_box box = {-1, 1, 3, 2};
    const uint8_t want[] = {0, 0, 0, 7, 8, 9, 10, 11, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    struct image img, out;
    struct err e = {0};

    (void)state;
    assert_true(image_new(&img, 2, 2, 3, &e));
    for (uint8_t i = 0; i < 12; i++)
        img.px[i] = (uint8_t)(i + 1);
    assert_true(image_crop(&img, &box, &out, &e));
    assert_memory_equal(out.px, want, sizeof want);
    image_free(&img);
    image_free(&out);
}

static void test_write(void **state)
{
    static const char *const names[] = {"rgb8.png", "rgba8.png", "size1x1.png", "exif6.jpg"};
    struct image img, back;
    struct err e = {0};
    char path[200];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, DIR_GOLDEN "%s", names[i]);
        read_ok(&img, path);
        assert_true(image_write_png(&img, tmp_file, &e));
        read_ok(&back, tmp_file);
        assert_int_equal(back.width, img.width);
        assert_int_equal(back.height, img.height);
        assert_int_equal(back.channels, img.channels);
        assert_memory_equal(back.px, img.px, (size_t)(img.width * img.height * img.channels));
        image_free(&back);
        image_free(&img);
    }
    read_ok(&img, DIR_GOLDEN "rgb8.png");
    assert_false(image_write_png(&img, "/nonexistent/x.png", &e));
    assert_non_null(strstr(e.msg, "/nonexistent/x.png"));
    image_free(&img);
}

/* Not file_write: its flush to the disk, thousands of times, would take most of the test. */
static void put_file(const void *data, size_t len)
{
    FILE *fp = fopen(tmp_file, "wb");

    assert_non_null(fp);
    assert_int_equal(fwrite(data, 1, len, fp), len);
    assert_int_equal(fclose(fp), 0);
}

/* image_read and image_size both fail on `data`, and say `want` and the file's name. */
static void assert_refused(const void *data, size_t len, const char *want)
{
    struct image img;
    struct err e = {0};
    int64_t w, h;

    put_file(data, len);
    assert_false(image_size(tmp_file, &w, &h, &e));
    assert_non_null(strstr(e.msg, tmp_file));
    assert_false(image_read(&img, tmp_file, &e));
    assert_null(img.px);
    assert_non_null(strstr(e.msg, tmp_file));
    if (!strstr(e.msg, want)) fail_msg("\"%s\" lacks \"%s\"", e.msg, want);
}

static void put_be32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Makes every chunk's CRC right again, so that what follows is checked too. */
static void fix_crcs(uint8_t *png, size_t len)
{
    for (size_t pos = 8; pos < len && len - pos >= 12;) {
        uint32_t n = get_be32(png + pos);

        if (n > len - pos - 12) return;
        put_be32(png + pos + 8 + n, (uint32_t)crc32(crc32(0, NULL, 0), png + pos + 4, n + 4));
        pos += (size_t)n + 12;
    }
}

static uint8_t *load(const char *path, size_t *len)
{
    struct err e = {0};
    char *text;

    assert_true(file_read(path, 1 << 20, &text, len, &e));
    return (uint8_t *)text;
}

static void test_refused(void **state)
{
    struct image img;
    struct err e = {0};
    uint8_t *data;
    size_t len;

    (void)state;
    assert_false(image_read(&img, "/nonexistent.png", &e));
    assert_non_null(strstr(e.msg, "/nonexistent.png"));
    assert_false(image_read(&img, tmp_dir, &e));
    assert_refused("", 0, "empty");
    assert_refused("RIFF....WEBP", 12, "WebP");
    assert_refused("hello there", 11, "neither PNG nor JPEG");
    assert_refused("\x89PNG\r\n\x1a\n", 8, "PNG");
    assert_refused("\xff\xd8\xff", 3, "JPEG");

    data = load(DIR_GOLDEN "rgb8.png", &len);
    put_be32(data + 16, 20990); /* IHDR: width, height */
    put_be32(data + 20, 29700);
    fix_crcs(data, len);
    assert_refused(data, len, "20990x29700 pixels, at most 100000000 pixels");
    put_be32(data + 16, 0);
    fix_crcs(data, len);
    assert_refused(data, len, "PNG");
    free(data);

    data = load(DIR_GOLDEN "gray.jpg", &len);
    for (size_t i = 0; i + 8 < len; i++)
        if (data[i] == 0xff && data[i + 1] == 0xc0) memset(data + i + 5, 0xfe, 4); /* the size */
    assert_refused(data, len, "65278x65278 pixels, at most 100000000 pixels");
    free(data);
}

/* libjpeg fills what a scan lacks with gray, and ends well if the end marker is there. */
static void test_short_scan(void **state)
{
    struct image img;
    struct err e = {0};
    size_t len, half;
    uint8_t *data = load(DIR_GOLDEN "rgb444.jpg", &len);

    (void)state;
    half = len - 400;
    memcpy(data + half, "\xff\xd9", 2);
    put_file(data, half + 2);
    assert_false(image_read(&img, tmp_file, &e));
    if (!strstr(e.msg, "premature end of data segment")) fail_msg("%s", e.msg);
    free(data);
}

/* The eXIf chunk counts only with a right CRC, for the size and for the pixels alike. */
static void test_exif_crc(void **state)
{
    size_t len;
    uint8_t *data = load(DIR_GOLDEN "exif6.png", &len);
    struct image img;
    struct err e = {0};
    int64_t w, h;

    (void)state;
    for (size_t i = 0; i + 8 < len; i++)
        if (memcmp(data + i, "eXIf", 4) == 0) data[i + 4 + get_be32(data + i - 4)] ^= 1;
    put_file(data, len);
    read_ok(&img, tmp_file);
    assert_true(image_size(tmp_file, &w, &h, &e));
    assert_int_equal(w, 13);
    assert_int_equal(h, 9);
    assert_int_equal(img.width, 13);
    assert_int_equal(img.height, 9);
    image_free(&img);
    free(data);
}

/* Calls each(data, len, rng) for every picture of the golden directory. */
static void for_each_picture(void (*each)(const uint8_t *data, size_t len, struct rng *r))
{
    DIR *d = opendir(DIR_GOLDEN);
    struct dirent *entry;
    struct rng r;
    char path[400];
    int n = 0;

    assert_non_null(d);
    rng_seed(&r, SEED, 0);
    while ((entry = readdir(d)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        uint8_t *data;
        size_t len;

        if (!dot || (strcmp(dot, ".png") != 0 && strcmp(dot, ".jpg") != 0)) continue;
        snprintf(path, sizeof path, DIR_GOLDEN "%s", entry->d_name);
        data = load(path, &len);
        each(data, len, &r);
        free(data);
        n++;
    }
    closedir(d);
    assert_in_range(n, 60, 1000);
}

/* Any picture that is not all there is an error, wherever it was cut. */
static void cut(const uint8_t *data, size_t len, struct rng *r)
{
    size_t cuts = len < 400 ? len : 150;
    struct image img;
    struct err e = {0};

    for (size_t i = 0; i < cuts; i++) {
        size_t at = cuts == len ? i : i < 8 ? len - 1 - i : (size_t)rng_below(r, len);

        put_file(data, at);
        if (image_read(&img, tmp_file, &e)) fail_msg("cut from %zu to %zu bytes: read", len, at);
        assert_non_null(strstr(e.msg, tmp_file));
        assert_null(img.px);
    }
}

static void test_cut(void **state)
{
    (void)state;
    for_each_picture(cut);
}

/* Damaged bytes give a picture or an error, never a crash; the sanitizers see the rest. */
static void flip(const uint8_t *data, size_t len, struct rng *r)
{
    uint8_t *bad = malloc(len);
    struct image img;
    struct err e = {0};
    int64_t w, h;

    assert_non_null(bad);
    for (int i = 0; i < 120; i++) {
        uint64_t flips = 1 + rng_below(r, 4);
        /* Half of them near the start, where headers are. */
        uint64_t range = i % 2 == 0 && len > 64 ? 64 : len;

        memcpy(bad, data, len);
        for (uint64_t k = 0; k < flips; k++)
            bad[rng_below(r, range)] ^= (uint8_t)(1 + rng_below(r, 255));
        if (i % 4 != 3 && bad[0] == 0x89) fix_crcs(bad, len);
        put_file(bad, len);
        if (image_read(&img, tmp_file, &e)) {
            assert_true(image_size(tmp_file, &w, &h, &e));
            assert_int_equal(w, img.width);
            assert_int_equal(h, img.height);
        }
        image_free(&img);
    }
    free(bad);
}

static void test_flip(void **state)
{
    (void)state;
    print_message("seed %d\n", SEED);
    for_each_picture(flip);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),       cmocka_unit_test(test_resize),
        cmocka_unit_test(test_resize_box), cmocka_unit_test(test_crop),
        cmocka_unit_test(test_write),      cmocka_unit_test(test_refused),
        cmocka_unit_test(test_short_scan), cmocka_unit_test(test_exif_crc),
        cmocka_unit_test(test_cut),        cmocka_unit_test(test_flip),
    };

    return cmocka_run_group_tests_name("image", tests, make_tmp, remove_tmp);
}
