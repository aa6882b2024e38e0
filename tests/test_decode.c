/* test_decode.c - picture files on their way into a run: the memory they need, messages about
 * damaged ones, and formats by content. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/picture.h"
#include "tests/program.h"
#include "tests/sanitized.h"
#include "train/decode.h"

/* A black PNG of side x side gray pixels of 1 bit. */
static void put_large_png(const char *path, uint32_t side)
{
    const size_t raw = (size_t)side * (side / 8 + 1);
    uint8_t *rows = calloc(1, raw), *file = malloc(raw + 100);
    uLongf n = raw;
    size_t len;
    uint8_t *gray = picture_load("gray1.png", &len);

    assert_true(rows && file);
    memcpy(file, gray, 33); /* up to the end of IHDR */
    put_be32(file + 16, side);
    put_be32(file + 20, side);
    assert_int_equal(compress2(file + 41, &n, rows, raw, 1), Z_OK);
    put_be32(file + 33, (uint32_t)n);
    memcpy(file + 37, "IDAT", 4);
    memcpy(file + 41 + n + 4, gray + len - 12, 12);
    fix_crcs(file, 41 + n + 16);
    put_bytes(path, file, 41 + n + 16);
    free(gray);
    free(rows);
    free(file);
}

/* For a large picture the memory left is checked, and too little is not the picture's fault. */
static void test_room(void **state)
{
    const char *path = tmpdir_path(state, "large.png");
    struct dataset_image img = {.path = (char *)(uintptr_t)path,
                                .shape = {.height = 4800, .width = 4800}};
    struct run r = {.c.run.memory_limit = 1, .memory_limit = 4 << 20};
    float *pixels = calloc(3 * 224 * 224, sizeof *pixels);
    const char *damage;
    struct err e = {0};

    assert_non_null(pixels);
    processor_default(&r.processor);
    put_large_png(path, 4800);
    assert_false(decode_picture(&r, &img, pixels, &damage, &e));
    assert_true(e.machine);
    if (!strstr(e.msg, "4800x4800 pixels take 65.95 MiB to read and process, run.memory_limit"))
        fail_msg("%s", e.msg);
    r.memory_limit = (size_t)4 << 30;
    if (!decode_picture(&r, &img, pixels, &damage, &e)) fail_msg("%s", e.msg);
    assert_null(damage);
    assert_true(pixels[0] < -1.7f); /* black */

    put_bytes(path, "BM", 2);
    r.memory_limit = 0;
    assert_false(decode_picture(&r, &img, pixels, &damage, &e));
    assert_false(e.machine);
    free(pixels);
}

/* The room that the largest picture takes is known before a run begins, from its header. */
static void test_room_is_foretold(void **state)
{
    static const char dry[] = "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' "
                              "--dry-run";
    static const char refused[] = "train-000003.png: 4800x4800 pixels take 65.95 MiB to read and "
                                  "process, ";

    must_run(state, dry);
    assert_false(says(state, "The largest picture"));
    put_large_png(tmpdir_path(state, "s/images/train-000003.png"), 4800);
    must_run(state, dry);
    must_run(state,
             "$B/mha2mla-train --config $C --dry-run > $T/plan && "
             "grep -q '^The largest picture takes 65.95 MiB of it to read: .*train-000003.png' "
             "$T/plan && grep -q '^pictures .* 6[6-9]\\.[0-9]* MiB' $T/plan");
    must_fail(state, "$B/mha2mla-train --config $C --set run.memory_limit=0.06 --dry-run", refused);
    must_fail(state, "$B/mha2mla-train --config $C --set run.memory_limit=0.06", refused);
    must_run(state, "test ! -e $T/run");
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    /* it has been read by now; a sanitizer alone takes more */
    if (!SANITIZED)
        must_run(state,
                 "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' --resume --set "
                 "run.memory_limit=0.06");
}

/* A PNG without its end is trained on, with a message; one truncated in its pixels is dropped; a
 * WebP, a GIF and a BMP named as PNG are trained on. */
static void test_run(void **state)
{
    must_run(state, "cd $T/s/images && truncate -s -12 train-000000.png && "
                    "truncate -s -60 train-000001.png");
    must_run(state, "G=$PWD/tests/data/image; cd $T/s/images && "
                    "cp $G/lossy.webp train-000002.png && cp $G/global.gif train-000003.png && "
                    "cp $G/info_8.bmp train-000004.png");
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    must_run(state, "grep -q 'picture left out: .*train-000001.png: PNG: .*cut short' "
                    "$T/run/train.log && "
                    "grep -q 'json:[0-9]*:[0-9]*: .*train-000001.png: PNG: .*cut short' "
                    "$T/run/left_out.txt && "
                    "test $(wc -l < $T/run/left_out.txt) = 2" /* data.eval contains it too */);
    must_run(state, "grep -q '^.*1 of the pictures that were read now are damaged, .* the first: "
                    ".*train-000000.png: it ends before its end mark (IEND)' $T/run/train.log");
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_room), program_test(test_room_is_foretold),
                                       program_test(test_run)};

    return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
