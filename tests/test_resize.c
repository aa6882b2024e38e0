/* test_resize.c - resampling and cropping of pictures, against golden values from Pillow
 * (tests/data/image/make_golden.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/picture/resize.h"
#include "tests/picture.h"

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
    FILE *list = picture_list("resize.txt");
    struct image img, out;
    struct err e = {0};

    (void)state;
    while (fscanf(list, "%99s %" SCNd64 " %" SCNd64 " %19s %d %64s", name, &w, &h, filter,
                  &channels, want) == 6) {
        snprintf(path, sizeof path, PICTURES "%s", name);
        picture_read(&img, path);
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

/* A window equals that part of the whole picture, black outside, whichever pass is first. */
static void test_resize_box(void **state)
{
    static const int64_t sizes[][2] = {{50, 80}, {120, 20}, {97, 61}, {20, 30}};
    static const struct image_box boxes[] = {
        {0, 0, 10, 10}, {7, 9, 11, 8}, {-3, -5, 200, 100}, {-20, 3, 20, 5}, {500, 500, 3, 3}};
    struct image img, whole, cut, window;
    struct err e = {0};

    (void)state;
    picture_read(&img, PICTURES "size97x61.png");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_true(image_resize(&img, sizes[i][0], sizes[i][1], RESIZE_BICUBIC, &whole, &e));
        for (size_t b = 0; b < sizeof boxes / sizeof boxes[0]; b++) {
            assert_true(image_crop(&whole, &boxes[b], &cut, &e));
            assert_true(image_resize_box(
                &img, &(struct resize_to){sizes[i][0], sizes[i][1], RESIZE_BICUBIC}, &boxes[b],
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_resize_box),
        cmocka_unit_test(test_crop),
    };

    return cmocka_run_group_tests_name("resize", tests, NULL, NULL);
}
