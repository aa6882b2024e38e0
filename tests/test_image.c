/* test_image.c - reading, flattening and writing pictures: against golden values from Pillow
 * (tests/data/image/make_golden.py, make_formats.py), and files that are not pictures or too large.
 * Damaged files: test_image_damage.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/picture.h"

#include <sys/socket.h>
#include <sys/un.h>

struct golden {
    char name[100], as_read[65], dropped[65], white[65];
    int64_t w, h;
    int channels;
};

static void check_golden(const struct golden *g)
{
    struct image_info info;
    struct image img;
    struct err e = {0};
    char path[200];

    snprintf(path, sizeof path, PICTURES "%s", g->name);
    if (!image_look(path, &info, &e)) fail_msg("%s", e.msg);
    picture_read(&img, path);
    if (img.width != g->w || img.height != g->h || img.channels != g->channels ||
        info.width != g->w || info.height != g->h)
        fail_msg("%s: wrong shape", g->name);
    assert_true(info.memory >= g->w * g->h * g->channels);
    if (img.damage) fail_msg("%s: is said to be damaged: %s", g->name, img.damage);
    assert_pixels(&img, g->as_read, g->name);
    image_flatten(&img, ALPHA_DROP);
    assert_int_equal(img.channels, 3);
    assert_pixels(&img, g->dropped, g->name);
    image_free(&img);
    picture_read(&img, path);
    image_flatten(&img, ALPHA_WHITE);
    assert_pixels(&img, g->white, g->name);
    image_free(&img);
}

static void check_refused(const char *name)
{
    struct image img;
    struct err e = {0};
    char path[200];

    snprintf(path, sizeof path, PICTURES "%s", name);
    if (image_read(&img, path, &e)) fail_msg("%s: read", name);
    assert_non_null(strstr(e.msg, name));
}

static int check_list(const char *list)
{
    FILE *fp = picture_list(list);
    struct golden g;
    char line[400];
    int n = 0;

    for (; fgets(line, sizeof line, fp); n++) {
        int got = sscanf(line, "%99s %" SCNd64 " %" SCNd64 " %d %64s %64s %64s", g.name, &g.w, &g.h,
                         &g.channels, g.as_read, g.dropped, g.white);

        if (got == 7)
            check_golden(&g);
        else if (got == 1 && strstr(line, " refused\n"))
            check_refused(g.name);
        else
            fail_msg("%s: %s", list, line);
    }
    fclose(fp);
    return n;
}

static void test_read(void **state)
{
    (void)state;
    assert_in_range(check_list("read.txt"), 60, 1000);
    assert_in_range(check_list("formats.txt"), 100, 1000);
}

/* Only a sample's number of bits counts in a transparent colour: some writers give 255 for
 * white. */
static void test_trns_bits(void **state)
{
    static const char *const names[] = {"gray1_trns.png", "gray4_trns.png", "rgb8_trns.png"};
    struct image img, odd;
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t len, at = 0;
        uint8_t *data = picture_load(names[i], &len);

        assert_true(image_decode(&img, names[i], data, len, &e));
        while (memcmp(data + at, "tRNS", 4) != 0)
            at++;
        data[at + 4] = 0xff; /* the high byte of the first sample */
        fix_crcs(data, len);
        assert_true(image_decode(&odd, names[i], data, len, &e));
        assert_memory_equal(odd.px, img.px, (size_t)(img.width * img.height * 4));
        image_free(&img);
        image_free(&odd);
        free(data);
    }
}

/* The name does not matter. */
static void test_names(void **state)
{
    static const char *const golden[] = {"rgb8.png", "gray.jpg", "lossy.webp", "global.gif",
                                         "info_24.bmp"};
    static const char *const names[] = {"a.jpg", "b.png", "c.gif", "d", "e.txt"};

    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        size_t len;
        uint8_t *data = picture_load(golden[i], &len);

        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            const char *path = tmpdir_path(state, names[k]);
            struct image img;

            put_bytes(path, data, len);
            picture_read(&img, path);
            assert_non_null(img.px);
            image_free(&img);
        }
        free(data);
    }
}

static void test_write(void **state)
{
    static const char *const names[] = {"rgb8.png", "rgba8.png", "size1x1.png", "exif6.jpg"};
    const char *copy = tmpdir_path(state, "copy.png");
    struct image img, back;
    struct err e = {0};
    char path[200];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, PICTURES "%s", names[i]);
        picture_read(&img, path);
        assert_true(image_write_png(&img, copy, &e));
        picture_read(&back, copy);
        assert_int_equal(back.width, img.width);
        assert_int_equal(back.height, img.height);
        assert_int_equal(back.channels, img.channels);
        assert_memory_equal(back.px, img.px, (size_t)(img.width * img.height * img.channels));
        image_free(&back);
        image_free(&img);
    }
    picture_read(&img, PICTURES "rgb8.png");
    assert_false(image_write_png(&img, "/nonexistent/x.png", &e));
    assert_non_null(strstr(e.msg, "/nonexistent/x.png"));
    image_free(&img);
}

/* Other kinds of files found under a picture's name, and the messages about them. */
static void test_no_picture(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        const char *want;
    } cases[] = {
#define BYTES(text) text, sizeof text - 1
        {"", 0, "is empty; pictures that are read: PNG, JPEG, WebP, GIF, BMP"},
        {BYTES("hello there"), "is no picture of a format that is read: PNG, JPEG, WebP, GIF, BMP"},
        {BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull`"},
        {BYTES("<!DOCTYPE html><title>403</title>"), "is an HTML page"},
        {BYTES("<svg xmlns='http://www.w3.org/2000/svg'/>"), "is an SVG drawing; pictures that"},
        {BYTES("II*\0\x08\0\0\0"), "is a TIFF picture; pictures that are read"},
        {BYTES("\0\0\0\x20"
               "ftypavif"),
         "is an AVIF picture; pictures that are read"},
        {BYTES("\0\0\0\x18"
               "ftypheic"),
         "is a HEIC picture; pictures that are read"},
        {BYTES("%PDF-1.4"), "is a PDF; pictures that are read"},
        {BYTES("PK\x03\x04"), "is a zip archive"},
        {BYTES("\0\0\0\0\0\0\0\0"), "is nothing but zero bytes"},
        {BYTES("\x89PNG\r\n\x1a\n"), "PNG: the file is cut short"},
        {BYTES("\xff\xd8\xff"), "JPEG: the file is cut short"},
        {BYTES("RIFF\x10\0\0\0WEBP"), "WebP: the file is cut short"},
        {BYTES("RIFF\x10\0\0\0WAVE"), "is no picture of a format that is read"},
        {BYTES("GIF89a"), "GIF: the file is cut short"},
        {BYTES("GIF88a\1\0\1\0\0\0\0;"), "GIF: unknown version"},
        {BYTES("BM"), "BMP: the file is cut short"},
#undef BYTES
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(state, cases[i].data, cases[i].len, cases[i].want);
}

static void assert_path_refused(const char *path, const char *want)
{
    struct image_info info;
    struct image img;
    struct err e = {0};

    assert_false(image_look(path, &info, &e));
    assert_false(image_read(&img, path, &e));
    if (!strstr(e.msg, path) || !strstr(e.msg, want)) fail_msg("%s", e.msg);
}

/* open() would wait for ever on a named pipe without a writer: the alarm ends the test then. */
static void test_no_file(void **state)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    alarm(30);
    assert_int_equal(mkfifo(tmpdir_path(state, "pipe.png"), 0600), 0);
    assert_int_equal(symlink("gone", tmpdir_path(state, "link.png")), 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", tmpdir_path(state, "socket.png"));
    assert_true(s >= 0 && bind(s, (struct sockaddr *)&at, sizeof at) == 0);
    assert_path_refused(tmpdir_path(state, "pipe.png"), "is a named pipe, a file is needed");
    assert_path_refused(tmpdir_path(state, "link.png"), "is a link to gone, which is not there");
    assert_path_refused(tmpdir_path(state, "socket.png"), "is a socket, a file is needed");
    assert_path_refused("/dev/null", "is a device, a file is needed");
    assert_path_refused(*state, "is a directory, a file is needed");
    assert_path_refused(tmpdir_path(state, "none.png"), "No such file");
    alarm(0);
    close(s);
}

/* Sizes over the limit, and sizes that the file is too short for, are refused from the header. */
static void test_too_large(void **state)
{
    const char *path = tmpdir_path(state, "large.png");
    struct image_info info;
    struct err e = {0};
    size_t len, longer = 30000;
    uint8_t *data = picture_load("gray1.png", &len);
    uint8_t *file = calloc(1, longer);

    assert_non_null(file);
    memcpy(file, data, len);
    put_be32(file + 16, 13378); /* IHDR: width, height */
    put_be32(file + 20, 13378);
    fix_crcs(file, len);
    assert_refused(state, file, longer,
                   "13378x13378 pixels, at most 178956970 pixels are allowed (Pillow's limit)");
    put_be32(file + 20, 13376);
    fix_crcs(file, len);
    assert_refused(state, file, len,
                   "13378x13376 pixels, but the file's 90 bytes can hold no more than 743040");
    put_bytes(path, file, longer);
    if (!image_look(path, &info, &e)) fail_msg("%s", e.msg);
    assert_int_equal(info.width, 13378);
    put_be32(file + 16, 0);
    fix_crcs(file, len);
    assert_refused(state, file, len, "0x13376 pixels");
    free(data);
    free(file);

    data = picture_load("gray.jpg", &len);
    for (size_t i = 0; i + 8 < len; i++)
        if (data[i] == 0xff && data[i + 1] == 0xc0) memset(data + i + 5, 0xfe, 4); /* the size */
    assert_refused(state, data, len, "65278x65278 pixels, at most 178956970 pixels");
    free(data);

    data = picture_load("one_8.bmp", &len);
    memcpy(data + 18, "\xf8\xff\xff\xff", 4); /* the width, -8 */
    assert_refused(state, data, len, "picture of -8x");
    free(data);
}

/* Writes a progressive JPEG of side x side gray pixels to buf, whose passes are all empty. */
static size_t many_passes(uint8_t *buf, int side, int passes)
{
    static const uint8_t tables[] = {0xff, 0xd8, 0xff, 0xdb, 0, 67, 0};
    static const uint8_t codes[] = {0xff, 0xc4, 0, 20, 0, 1}; /* a single code of one bit */
    static const uint8_t pass[] = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0};
    const uint8_t frame[] = {
        0xff,          0xc2, 0, 11,   8, (uint8_t)(side >> 8), (uint8_t)side, (uint8_t)(side >> 8),
        (uint8_t)side, 1,    1, 0x11, 0};
    uint8_t *p = buf;

    memcpy(p, tables, sizeof tables);
    memset(p + sizeof tables, 1, 64);
    p += sizeof tables + 64;
    memcpy(p, frame, sizeof frame);
    p += sizeof frame;
    memset(p, 0, 22);
    memcpy(p, codes, sizeof codes);
    p += 22;
    for (int i = 0; i < passes; i++, p += sizeof pass)
        memcpy(p, pass, sizeof pass);
    memcpy(p, "\xff\xd9", 2);
    return (size_t)(p + 2 - buf);
}

static void test_passes(void **state)
{
    const char *path = tmpdir_path(state, "passes.jpg");
    struct image_info info;
    uint8_t buf[4000];
    struct image img;
    struct err e = {0};

    (void)state;
    put_bytes(path, buf, many_passes(buf, 16, 300)); /* a small picture may have many */
    picture_read(&img, path);
    assert_string_equal(img.damage, "its data end before its last row");
    image_free(&img);
    put_bytes(path, buf, many_passes(buf, 4096, 300));
    assert_false(image_read(&img, path, &e));
    if (!strstr(e.msg, "more than 59 passes over 16777216 pixels")) fail_msg("%s", e.msg);
    assert_true(image_look(path, &info, &e));
    assert_int_equal(info.memory, 5 * 4096 * 4096); /* RGB, and 2 bytes per coefficient */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read), cmocka_unit_test(test_trns_bits), tmpdir_test(test_names),
        tmpdir_test(test_write),     tmpdir_test(test_no_picture),     tmpdir_test(test_no_file),
        tmpdir_test(test_too_large), tmpdir_test(test_passes),
    };

    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
