/* test_image_damage.c - damaged picture files: read or refused as by Pillow, with the same pixels
 * (tests/data/image/make_formats.py), and never a crash. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/picture.h"

#define SEED 20240611

/* One line of damaged.txt; `got` is what sscanf returned. */
struct damage {
    char name[100], edits[100], dropped[17], white[17];
    int64_t w, h;
    size_t len;
    int fix, got;
};

/* The golden file with the damage applied; the caller frees it. */
static uint8_t *damaged_file(const struct damage *d)
{
    size_t len;
    uint8_t *data = picture_load(d->name, &len), *bad = malloc(d->len + 1);

    assert_non_null(bad);
    memset(bad, 'U', d->len);
    memcpy(bad, data, len < d->len ? len : d->len);
    for (const char *p = d->edits; *p && *p != '-'; p = strchr(p, ',') ? strchr(p, ',') + 1 : "") {
        size_t at;
        unsigned byte;

        assert_int_equal(sscanf(p, "%zu=%x", &at, &byte), 2);
        assert_true(at < d->len);
        bad[at] = (uint8_t)byte;
    }
    if (d->fix) fix_crcs(bad, d->len);
    free(data);
    return bad;
}

/* Reads it from memory; false if the result differs from the line. */
static bool as_pillow(const struct damage *d, const uint8_t *bad)
{
    struct image img;
    struct err e = {0};
    char dropped[65], white[65];

    if (!image_decode(&img, "damaged", bad, d->len, &e)) {
        assert_null(img.px);
        assert_non_null(strstr(e.msg, "damaged"));
        return d->got == 4;
    }
    image_flatten(&img, ALPHA_DROP);
    picture_sha(&img, dropped);
    dropped[16] = '\0';
    bool same =
        d->got == 8 && img.width == d->w && img.height == d->h && strcmp(dropped, d->dropped) == 0;
    image_free(&img);
    assert_true(image_decode(&img, "damaged", bad, d->len, &e));
    image_flatten(&img, ALPHA_WHITE);
    picture_sha(&img, white);
    white[16] = '\0';
    same = same && strcmp(white, d->white) == 0;
    image_free(&img);
    return same;
}

static void test_as_pillow(void **state)
{
    FILE *list = picture_list("damaged.txt");
    struct damage d = {0};
    char line[400];
    int n = 0, bad = 0;

    (void)state;
    for (; fgets(line, sizeof line, list); n++) {
        uint8_t *file;

        d.got = sscanf(line, "%99s %zu %d %99s %" SCNd64 " %" SCNd64 " %16s %16s", d.name, &d.len,
                       &d.fix, d.edits, &d.w, &d.h, d.dropped, d.white);
        if (d.got != 8 && !strstr(line, " refused\n")) fail_msg("damaged.txt: %s", line);
        file = damaged_file(&d);
        if (!as_pillow(&d, file)) {
            print_error("not as Pillow: %s", line);
            bad++;
        }
        free(file);
    }
    fclose(list);
    assert_in_range(n, 1000, 10000);
#ifdef __aarch64__ /* where libjpeg-turbo's NEON code makes other pixels of bad coefficients */
    assert_in_range(bad, 0, 1);
#else
    assert_int_equal(bad, 0);
#endif
}

/* Each kind of damage that is tolerated, and its message. */
static const char *damage_of(const uint8_t *data, size_t len)
{
    const char *damage;
    struct image img;
    struct err e = {0};

    if (!image_decode(&img, "file", data, len, &e)) fail_msg("%s", e.msg);
    damage = img.damage;
    image_free(&img);
    return damage ? damage : "none";
}

static uint8_t *find(uint8_t *data, size_t len, const char *name)
{
    for (size_t i = 0; i + 4 <= len; i++)
        if (memcmp(data + i, name, 4) == 0) return data + i;
    fail_msg("no %s", name);
    return NULL;
}

static void test_png_said(void **state)
{
    size_t len;
    uint8_t *data = picture_load("rgb8.png", &len), *idat = find(data, len, "IDAT");

    (void)state;
    assert_string_equal(damage_of(data, len), "none");
    assert_string_equal(damage_of(data, len - 12), "it ends before its end mark (IEND)");
    assert_string_equal(damage_of(data, len - 7), "it ends before its end mark (IEND)");
    assert_string_equal(damage_of(data, len - 4), "none"); /* the CRC of IEND does not matter */
    idat[4 + get_be32(idat - 4)] ^= 1;
    assert_string_equal(damage_of(data, len), "a checksum is wrong, or missing");
    free(data);
}

/* Compressed data that end correctly, but after two rows: Pillow continues here. */
static void test_png_rows_missing(void **state)
{
    uint8_t raw[2 * (1 + 3 * 13)] = {0}, file[200];
    size_t len;
    uint8_t *data = picture_load("rgb8.png", &len);
    size_t head = (size_t)(find(data, len, "IDAT") - data) + 4;
    uLongf n = 100;
    struct image img;
    struct err e = {0};

    (void)state;
    memcpy(file, data, head);
    assert_int_equal(compress(file + head, &n, raw, sizeof raw), Z_OK);
    put_be32(file + head - 8, (uint32_t)n);
    put_be32(file + head + n, (uint32_t)crc32(crc32(0, NULL, 0), file + head - 4, (uInt)n + 4));
    memcpy(file + head + n + 4, data + len - 12, 12);
    assert_false(image_decode(&img, "file", file, head + n + 16, &e));
    assert_null(img.px);
    assert_string_equal(e.msg,
                        "file: PNG: the pixels are cut short, or their compressed data damaged");
    free(data);
}

static uint8_t *put_chunk(uint8_t *to, const char *name, const void *body, size_t n)
{
    put_be32(to, (uint32_t)n);
    memcpy(to + 4, name, 4);
    if (n > 0) memcpy(to + 8, body, n);
    put_be32(to + 8 + n, (uint32_t)crc32(crc32(0, NULL, 0), to + 4, (uInt)n + 4));
    return to + n + 12;
}

/* Where libpng would stumble and Pillow does not: an unknown compression method, an unknown
 * critical chunk, two palettes, one with a byte too many, a tRNS chunk longer than they are, and
 * pixels in chunks of 0 and 1 bytes that end with the last row, without IEND. */
static void test_png_oddities(void **state)
{
    static const uint8_t wrong[768] = {0}, clear[256] = {[1] = 77};
    size_t len, n, colours;
    uint8_t *data = picture_load("palette4.png", &len), *plte = find(data, len, "PLTE"), *idat;
    uint8_t *file = malloc(20 * len + 4000), *p = file + 33, palette[3 * 16 + 1] = {0};
    struct image img, odd;
    struct err e = {0};

    (void)state;
    assert_non_null(file);
    colours = get_be32(plte - 4);
    assert_in_range(colours, 6, sizeof palette - 1);
    memcpy(palette, plte + 4, colours);
    memcpy(file, data, 33); /* signature, IHDR */
    file[26] = 7;
    p = put_chunk(p, "ABCD", "x", 1);
    p = put_chunk(p, "PLTE", wrong, 768);
    p = put_chunk(p, "PLTE", palette, colours + 1);
    p = put_chunk(p, "tRNS", clear, 256);
    idat = find(data, len, "IDAT");
    n = get_be32(idat - 4);
    for (size_t i = 0; i + 4 < n; i++) { /* omits the checksum after the pixels */
        p = put_chunk(p, "IDAT", NULL, 0);
        p = put_chunk(p, "IDAT", idat + 4 + i, 1);
    }
    fix_crcs(file, (size_t)(p - file));
    assert_true(image_decode(&img, "whole", data, len, &e));
    if (!image_decode(&odd, "odd", file, (size_t)(p - file), &e)) fail_msg("%s", e.msg);
    assert_string_equal(odd.damage, "it ends before its end mark (IEND)");
    assert_int_equal(odd.channels, 4);
    for (int64_t i = 0; i < img.width * img.height; i++) {
        assert_memory_equal(odd.px + 4 * i, img.px + 3 * i, 3);
        assert_int_equal(odd.px[4 * i + 3], memcmp(img.px + 3 * i, palette + 3, 3) == 0 ? 77 : 0);
    }
    image_free(&img);
    image_free(&odd);
    free(file);
    free(data);
}

/* libjpeg fills what a scan lacks with gray, as Pillow shows it; but a file without an end
 * marker is truncated. */
static void test_jpeg_said(void **state)
{
    size_t len, half;
    uint8_t *data = picture_load("rgb444.jpg", &len);
    struct image img;
    struct err e = {0};

    (void)state;
    assert_string_equal(damage_of(data, len), "none");
    half = len - 400;
    assert_false(image_decode(&img, "file", data, half, &e));
    assert_string_equal(e.msg, "file: JPEG: the file is cut short");
    memcpy(data + half, "\xff\xd9", 2);
    assert_string_equal(damage_of(data, half + 2), "its data end before its last row");
    free(data);
    data = picture_load("restart.jpg", &len);
    for (size_t i = 2; i + 1 < len; i++)
        if (data[i] == 0xff && data[i + 1] >= 0xd0 && data[i + 1] <= 0xd7) {
            data[i + 1] ^= 3;
            break;
        }
    assert_string_equal(damage_of(data, len), "a restart mark is missing");
    free(data);
}

static void test_others_said(void **state)
{
    size_t len;
    uint8_t *data = picture_load("global.gif", &len);

    (void)state;
    assert_string_equal(damage_of(data, len), "none");
    assert_string_equal(damage_of(data, len - 1), "it ends before its end mark");
    assert_string_equal(damage_of(data, len - 2), "it is cut short after its pixels");
    free(data);
    data = picture_load("info_8.bmp", &len); /* 13 bytes per row, padded to 16 */
    assert_string_equal(damage_of(data, len - 1), "it is cut short after its last pixel");
    free(data);
    data = picture_load("exif6.jpg", &len);
    find(data, len, "Exif")[6] = 'x';
    assert_string_equal(damage_of(data, len),
                        "its EXIF block cannot be read, so it is not turned upright");
    free(data);
}

/* Chunks before the pixels need correct CRCs; Pillow checks none after them. */
static void test_exif_crc(void **state)
{
    size_t len;
    uint8_t *data = picture_load("exif6.png", &len), *exif = find(data, len, "eXIf");
    struct image img;
    struct err e = {0};

    exif[4 + get_be32(exif - 4)] ^= 1;
    assert_refused(state, data, len, "the checksum of eXIf is wrong");
    free(data);
    data = picture_load("exif8_late.png", &len);
    exif = find(data, len, "eXIf");
    exif[4 + get_be32(exif - 4)] ^= 1;
    assert_true(image_decode(&img, "file", data, len, &e));
    assert_int_equal(img.width, 9);
    assert_string_equal(img.damage, "a checksum is wrong, or missing");
    image_free(&img);
    free(data);
}

/* A truncated file is refused, or has all its pixels. */
static void cut(const char *name, const uint8_t *data, size_t len, struct rng *r)
{
    size_t cuts = len < 300 ? len : 150;
    struct image img, whole;
    struct err e = {0};

    if (strcmp(name, "exif8_late.png") == 0) return;        /* truncated, its orientation changes */
    if (!image_decode(&whole, name, data, len, &e)) return; /* some are meant to be refused */
    for (size_t i = 0; i < cuts; i++) {
        size_t at = cuts == len ? i : i < 20 ? len - 1 - i : (size_t)rng_below(r, len);

        if (!image_decode(&img, name, data, at, &e)) {
            assert_non_null(strstr(e.msg, name));
            assert_null(img.px);
            continue;
        }
        assert_int_equal(img.width, whole.width);
        assert_int_equal(img.height, whole.height);
        assert_memory_equal(img.px, whole.px, (size_t)(img.width * img.height * img.channels));
        image_free(&img);
    }
    image_free(&whole);
}

static void test_cut(void **state)
{
    (void)state;
    for_each_picture(cut, SEED);
}

/* Damaged bytes give a picture or an error, never a crash; sanitizers check the rest. Each file is
 * in a block of exactly its length, to expose reads beyond its end. */
static void flip(const char *name, const uint8_t *data, size_t len, struct rng *r)
{
    uint8_t *bad = malloc(len);
    struct image img;
    struct err e = {0};

    assert_non_null(bad);
    for (int i = 0; i < 60; i++) {
        uint64_t flips = 1 + rng_below(r, 4);
        /* Half of them near the start, where the headers are. */
        uint64_t range = i % 2 == 0 && len > 64 ? 64 : len;

        memcpy(bad, data, len);
        for (uint64_t k = 0; k < flips; k++)
            bad[rng_below(r, range)] ^= (uint8_t)(1 + rng_below(r, 255));
        if (i % 4 != 3 && bad[0] == 0x89) fix_crcs(bad, len);
        if (image_decode(&img, name, bad, len, &e))
            assert_true(img.width * img.height >= 1);
        else
            assert_null(img.px);
        image_free(&img);
    }
    free(bad);
}

static void test_flip(void **state)
{
    (void)state;
    print_message("seed %d\n", SEED);
    for_each_picture(flip, SEED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_pillow),
        cmocka_unit_test(test_png_said),
        cmocka_unit_test(test_png_rows_missing),
        cmocka_unit_test(test_png_oddities),
        cmocka_unit_test(test_jpeg_said),
        cmocka_unit_test(test_others_said),
        tmpdir_test(test_exif_crc),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_flip),
    };

    return cmocka_run_group_tests_name("image_damage", tests, NULL, NULL);
}
