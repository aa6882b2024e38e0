/* test_processor.c - the image processor against transformers' CLIPImageProcessorPil and
 * LlavaImageProcessorPil (tests/data/image/make_golden.py), and its config file. If
 * MHA2MLA_REAL_DATA names the directory of data/fetch-real-data.sh, its tuxpaint pictures
 * are compared too. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/picture/processor.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIR_GOLDEN "tests/data/image/"

static char tmp_dir[512], own[600], shared[600];

static int make_tmp(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    snprintf(tmp_dir, sizeof tmp_dir, "%s/test_processor.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(tmp_dir)) return -1;
    snprintf(own, sizeof own, "%s/preprocessor_config.json", tmp_dir);
    snprintf(shared, sizeof shared, "%s/processor_config.json", tmp_dir);
    return 0;
}

static int remove_tmp(void **state)
{
    (void)state;
    unlink(own);
    unlink(shared);
    return rmdir(tmp_dir);
}

static void hex_of(const void *data, size_t len, char hex[65])
{
    struct sha256 s;

    sha256_init(&s);
    sha256_add(&s, data, len);
    sha256_hex(&s, hex);
}

static size_t values_of(const struct processor *p)
{
    return (size_t)(3 * p->height * p->width);
}

/* The output of the 8-bit stage is the output without rescaling and normalising. */
static uint8_t *run_8_bit(const struct processor *p, const struct image *img, float *px)
{
    struct processor plain = *p;
    struct err e = {0};
    uint8_t *bytes = mem_new(values_of(p), 1, "bytes", &e);

    plain.do_rescale = plain.do_normalize = false;
    if (!processor_run(&plain, img, px, &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < values_of(p); i++)
        bytes[i] = (uint8_t)px[i];
    return bytes;
}

/* Checks the digests of both stages. */
static void assert_stages(const struct processor *p, const struct image *img, const char *u8,
                          const char *f32, const char *what)
{
    struct err e = {0};
    float *px = mem_new(values_of(p), sizeof *px, "pixels", &e);
    uint8_t *bytes = run_8_bit(p, img, px);
    char hex[65];

    hex_of(bytes, values_of(p), hex);
    if (strcmp(hex, u8) != 0) fail_msg("%s: 8-bit stage differs", what);
    assert_true(processor_run(p, img, px, &e));
    hex_of(px, values_of(p) * sizeof *px, hex);
    if (strcmp(hex, f32) != 0) fail_msg("%s: float stage differs", what);
    free(px);
    free(bytes);
}

static void load_config(struct processor *p, const char *config)
{
    struct err e = {0};
    char path[200];

    snprintf(path, sizeof path, DIR_GOLDEN "processor/%s", config);
    if (!processor_load(p, path, &e)) fail_msg("%s", e.msg);
}

static void test_golden(void **state)
{
    char config[60], name[60], path[200], u8[65], f32[65], what[200];
    FILE *list = fopen(DIR_GOLDEN "processor.txt", "r");
    struct processor p;
    struct image img;
    struct err e = {0};
    int n = 0;

    (void)state;
    assert_non_null(list);
    while (fscanf(list, "%59s %59s %64s %64s", config, name, u8, f32) == 4) {
        load_config(&p, config);
        snprintf(what, sizeof what, "%s on %s", config, name);
        snprintf(path, sizeof path, DIR_GOLDEN "%s", name);
        if (!image_read(&img, path, &e)) fail_msg("%s", e.msg);
        image_flatten(&img, ALPHA_DROP);
        assert_stages(&p, &img, u8, f32, what);
        image_free(&img);
        n++;
    }
    fclose(list);
    assert_in_range(n, 100, 10000);
}

/* The picture of make_golden.py's drawn(). */
static void draw(struct image *img, int64_t w, int64_t h)
{
    struct err e = {0};
    uint8_t *to;

    assert_true(image_new(img, w, h, 3, &e));
    to = img->px;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            for (int64_t c = 0; c < 3; c++)
                *to++ = (uint8_t)(x * (3 + c) + y * (5 - c) + ((x / 16 ^ y / 16) & 1) * 90 +
                                  x * y % 29);
}

/* From 1 x 1 to 12 million pixels, very wide and very tall, and around the requested size. */
static void test_sizes(void **state)
{
    char config[60], u8[65], f32[65], what[200];
    FILE *list = fopen(DIR_GOLDEN "sizes.txt", "r");
    struct image img = {0};
    struct processor p;
    int64_t w, h;
    int n = 0;

    (void)state;
    assert_non_null(list);
    while (fscanf(list, "%59s %" SCNd64 " %" SCNd64 " %64s %64s", config, &w, &h, u8, f32) == 5) {
        load_config(&p, config);
        snprintf(what, sizeof what, "%s on %" PRId64 "x%" PRId64, config, w, h);
        if (w != img.width || h != img.height) {
            image_free(&img);
            draw(&img, w, h);
        }
        assert_stages(&p, &img, u8, f32, what);
        n++;
    }
    image_free(&img);
    fclose(list);
    assert_in_range(n, 100, 1000);
}

/* One digest over the 8-bit stages of the pictures listed by data/fetch-real-data.sh. */
static int64_t digest_real(const char *root, const struct processor *p, enum alpha_mode alpha,
                           char hex[65])
{
    char list_path[1000], line[4096], path[6000];
    struct sha256 sum;
    struct image img;
    struct err e = {0};
    float *px = mem_new(values_of(p), sizeof *px, "pixels", &e);
    int64_t n = 0;
    FILE *list;

    snprintf(list_path, sizeof list_path, "%s/pairs/tuxpaint.tsv", root);
    list = fopen(list_path, "r");
    if (!list) fail_msg("%s cannot be read", list_path);
    sha256_init(&sum);
    while (fgets(line, sizeof line, list)) {
        uint8_t *bytes;

        line[strcspn(line, "\t")] = '\0';
        snprintf(path, sizeof path, "%s/%s", root, line);
        if (!image_read(&img, path, &e)) fail_msg("%s", e.msg);
        image_flatten(&img, alpha);
        bytes = run_8_bit(p, &img, px);
        sha256_add(&sum, bytes, values_of(p));
        free(bytes);
        image_free(&img);
        n++;
    }
    sha256_hex(&sum, hex);
    fclose(list);
    free(px);
    return n;
}

/* All 8-bit values of 785 photographs and drawings equal transformers'. */
static void test_real(void **state)
{
    const char *root = getenv("MHA2MLA_REAL_DATA");
    char config[60], alpha[20], want[65], hex[65];
    FILE *list = fopen(DIR_GOLDEN "real.txt", "r");
    struct processor p;
    int64_t n;
    int done = 0;

    (void)state;
    assert_non_null(list);
    while (root && fscanf(list, "%59s %19s %" SCNd64 " %64s", config, alpha, &n, want) == 4) {
        load_config(&p, config);
        assert_int_equal(digest_real(root, &p, *alpha == 'w' ? ALPHA_WHITE : ALPHA_DROP, hex), n);
        if (strcmp(hex, want) != 0) fail_msg("%s, %s: 8-bit stages differ", config, alpha);
        done++;
    }
    fclose(list);
    if (!root) skip();
    assert_int_equal(done, 2);
}

static void write_config(const char *path, const char *text)
{
    struct err e = {0};

    assert_true(file_write(path, text, strlen(text), &e));
}

/* The description after a save and a load is the one before, and differs between configs. */
static void test_round_trip(void **state)
{
    static const char *const configs[] = {"llava",   "small",      "odd_crop",  "big_crop",
                                          "fixed",   "fixed_crop", "crop_only", "no_rescale",
                                          "no_norm", "padded",     "black_pad"};
    enum { N = sizeof configs / sizeof configs[0] };
    char lines[N][512], back[512], path[200];
    struct processor p, q;
    struct err e = {0};

    (void)state;
    for (int i = 0; i < N; i++) {
        snprintf(path, sizeof path, DIR_GOLDEN "processor/%s", configs[i]);
        assert_true(processor_load(&p, path, &e));
        processor_describe(&p, lines[i], sizeof lines[i]);
        assert_true(processor_save(&p, NULL, tmp_dir, &e));
        assert_true(processor_load(&q, tmp_dir, &e));
        processor_describe(&q, back, sizeof back);
        assert_string_equal(back, lines[i]);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(lines[i], lines[k]);
    }
    assert_string_equal(lines[0], "clip resize=shortest:336:bicubic crop=336x336 "
                                  "rescale=0.0039215686274509803 normalize="
                                  "0.48145465999999998,0.4578275,0.40821073000000002/"
                                  "0.26862954,0.26130258000000001,0.27577710999999999");
    processor_default(&p);
    assert_false(processor_save(&p, NULL, "/nonexistent", &e));
    unlink(own);
}

/* LLaVA-1.5's file, the older form with plain numbers, and the form inside processor_config.json
 * all mean the same. */
static void test_forms(void **state)
{
    static const char llava[] =
        "{\"_valid_processor_keys\": [\"images\"], \"crop_size\": {\"height\": 336, \"width\": "
        "336},"
        " \"do_center_crop\": true, \"do_convert_rgb\": true, \"do_normalize\": true,"
        " \"do_rescale\": true, \"do_resize\": true, \"do_pad\": false, \"pad_size\": null,"
        " \"image_mean\": [0.48145466, 0.4578275, 0.40821073],"
        " \"image_processor_type\": \"CLIPImageProcessor\","
        " \"image_std\": [0.26862954, 0.26130258, 0.27577711],"
        " \"processor_class\": \"LlavaProcessor\", \"resample\": 3,"
        " \"rescale_factor\": 0.00392156862745098, \"size\": {\"shortest_edge\": 336}}";
    struct processor p;
    struct err e = {0};
    char want[512], got[512], nested[1500];

    (void)state;
    write_config(own, llava);
    if (!processor_load(&p, tmp_dir, &e)) fail_msg("%s", e.msg);
    assert_int_equal(p.height, 336);
    assert_int_equal(p.width, 336);
    processor_describe(&p, want, sizeof want);

    write_config(own, "{\"feature_extractor_type\": \"CLIPFeatureExtractor\", \"size\": 336, "
                      "\"crop_size\": 336}");
    assert_true(processor_load(&p, tmp_dir, &e));
    processor_describe(&p, got, sizeof got);
    assert_string_equal(got, want);

    unlink(own);
    snprintf(nested, sizeof nested, "{\"patch_size\": 14, \"image_processor\": %s}", llava);
    write_config(shared, nested);
    if (!processor_load(&p, tmp_dir, &e)) fail_msg("%s", e.msg);
    processor_describe(&p, got, sizeof got);
    assert_string_equal(got, want);
    unlink(shared);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"{\n\"size\": 3,\n}", ":2:10: a trailing comma is not allowed"},
        {"{\"size\": 3} {\"size\": 3}", ":1:13: "},
        {"{\"size\": 3, \"size\": 4}", ":1:13: the key \"size\" is there twice"},
        {"{\"image_processor_type\": \"CLIP\\u0000\"}", ":1:31: \\u0000 is not allowed"},
        {"[1]", ":1:1: an object"},
        {"{\"do_resize\": 1}", ":1:15: do_resize is 1; allowed: true, false, null"},
        {"{\"resample\": 0}",
         "resample is 0; allowed: 1 (lanczos), 2 (bilinear), 3 (bicubic); this "
         "is nearest, which is not supported"},
        {"{\"resample\": 4}", "this is box"},
        {"{\"resample\": 5}", "this is hamming"},
        {"{\"resample\": 6}", "resample is 6; allowed: 1"},
        {"{\"resample\": 1.5}", "resample is 1.5; allowed: 1"},
        {"{\"size\": {\"longest_edge\": 5, \"shortest_edge\": 5}}",
         "size is {\"longest_edge\":5,\"shortest_edge\":5}; allowed: shortest_edge only"},
        {"{\"size\": {\"height\": 5}}", "size is {\"height\":5}; allowed: shortest_edge only, or"},
        {"{\"size\": {\"max_height\": 5, \"max_width\": 5}}", "size is {\"max_height\":5"},
        {"{\"size\": -3}", "size is -3; allowed: a whole number of pixels from 1 to 8192"},
        {"{\"crop_size\": 1e300}", "crop_size is 1e300; allowed: a whole"},
        {"{\"crop_size\": {\"height\": 2.5, \"width\": 3}}", ":1:26: crop_size.height is 2.5"},
        {"{\"image_mean\": [1, 2]}", "image_mean is [1,2]; allowed: a list of three numbers"},
        {"{\"image_std\": [1, 0, 1]}", ":1:15: image_std: finite numbers other than 0"},
        {"{\"rescale_factor\": 0}", "rescale_factor: a finite number above 0 is needed"},
        {"{\"rescale_factor\": -1}", "rescale_factor: a finite number above 0 is needed"},
        {"{\"min_pixels\": 64}",
         "min_pixels is 64; allowed: only with image_processor_type Qwen2VLImageProcessor"},
        {"{\"rescale_factor\": 1e300}", "image_std: black becomes"},
        {"{\"rescale_factor\": 1e300, \"do_normalize\": false}",
         ":1:20: rescale_factor: black becomes 0 and white inf"},
        {"{\"rescale_factor\": 1e-30}", "should be from 1e-06 to 1e+06 apart"},
        {"{\"image_mean\": [1e38, 0, 0]}", "image_std: black becomes"},
        {"{\"image_std\": [1, 1e30, 1]}", ":1:15: image_std: black becomes"},
        {"{\"rescale_factor\": \"x\"}", "rescale_factor is \"x\"; allowed: a number"},
        {"{\"do_pad\": true, \"image_processor_type\": \"LlavaImageProcessor\","
         "\"image_mean\": [0, 1.01, 0]}",
         "image_mean: 1.01; do_pad needs"},
        {"{\"do_pad\": true, \"pad_size\": {\"height\": 9, \"width\": 9}}", "pad_size is {"},
        {"{\"image_aspect_ratio\": \"pad\"}",
         "image_aspect_ratio is \"pad\"; allowed: to leave it out: this setting"},
        {"{\"image_grid_pinpoints\": [[336, 672]]}", "image_grid_pinpoints is [[336,672]]"},
        {"{\"image_processor_type\": \"ViTImageProcessor\"}",
         "\"ViTImageProcessor\"; allowed: CLIPImageProcessor, Llava"},
        {"{\"data_format\": \"channels_last\"}", "data_format is \"channels_last\"; allowed: chan"},
        {"{\"do_center_crop\": false}", ":1:20: do_center_crop is off and size does not"},
        {"{\"do_center_crop\": null}", ":1:20: do_center_crop is off and size does not"},
        /* a null turns a step off, and is no value that a step could use */
        {"{\"size\": null}", ":1:10: size is null; allowed: a value, because do_resize is on"},
        {"{\"resample\": null}", "resample is null; allowed: a value, because do_resize is on"},
        {"{\"crop_size\": null}",
         "crop_size is null; allowed: a value, because do_center_crop is on"},
        {"{\"rescale_factor\": null}",
         "rescale_factor is null; allowed: a value, because do_rescale"},
        {"{\"image_mean\": null}",
         "image_mean is null; allowed: a value, because do_normalize is on"},
        {"{\"image_std\": null}",
         "image_std is null; allowed: a value, because do_normalize is on"},
    };
    struct processor p;
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_config(own, cases[i].text);
        if (processor_load(&p, tmp_dir, &e)) fail_msg("accepted: %s", cases[i].text);
        assert_non_null(strstr(e.msg, own));
        if (!strstr(e.msg, cases[i].want)) fail_msg("\"%s\" lacks \"%s\"", e.msg, cases[i].want);
    }
    unlink(own);
    assert_false(processor_load(&p, tmp_dir, &e));
    assert_non_null(strstr(e.msg, own));
    write_config(shared, "{}");
    assert_false(processor_load(&p, tmp_dir, &e));
    assert_non_null(strstr(e.msg, "no \"image_processor\""));
    write_config(shared, "{\n \"image_processor\": {\"size\": \"x\"}}");
    assert_false(processor_load(&p, tmp_dir, &e));
    assert_non_null(strstr(e.msg, "/processor_config.json:2:30: image_processor.size is \"x\""));
    unlink(shared);
}

/* If both files have settings, those in processor_config.json take precedence, as in transformers;
 * an empty entry there does not. */
static void test_two_files(void **state)
{
    struct processor p;
    struct err e = {0};

    (void)state;
    write_config(own, "{\"crop_size\": 5}");
    write_config(shared, "{\"image_processor\": {\"crop_size\": 7}}");
    assert_true(processor_load(&p, tmp_dir, &e));
    assert_int_equal(p.height, 7);
    write_config(shared, "{\"image_processor\": null}");
    assert_true(processor_load(&p, tmp_dir, &e));
    assert_int_equal(p.height, 5);
    unlink(own);
    unlink(shared);
}

/* A number is saved with as many digits as needed to read back the same double. */
static void test_last_bit(void **state)
{
    static const double factor = 5.00392156862745098; /* 15 digits would give another double */
    struct processor p, q;
    struct err e = {0};

    (void)state;
    processor_default(&p);
    p.rescale_factor = factor;
    for (int c = 0; c < 3; c++)
        p.mean[c] = nextafter(0.1 * (c + 1), 1);
    assert_true(processor_save(&p, NULL, tmp_dir, &e));
    assert_true(processor_load(&q, tmp_dir, &e));
    assert_memory_equal(&q.rescale_factor, &factor, sizeof factor);
    assert_memory_equal(q.mean, p.mean, sizeof p.mean);
    unlink(own);
}

/* 1 x 5000 pixels with a shorter side of 8192 would be 8192 x 40,960,000: only the
 * crop is computed. */
static void test_extreme_shape(void **state)
{
    struct processor p;
    struct image img;
    struct err e = {0};
    float px[3 * 4 * 4];
    const char *key;

    (void)state;
    processor_default(&p);
    p.size_h = p.size_w = 8192;
    p.crop_h = p.crop_w = 4;
    p.do_normalize = p.do_rescale = false;
    assert_true(processor_check(&p, &key, &e));
    assert_true(image_new(&img, 1, 5000, 3, &e));
    memset(img.px, 200, 15000);
    if (!processor_run(&p, &img, px, &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < sizeof px / sizeof px[0]; i++)
        assert_true(px[i] >= 200 && px[i] <= 200);
    image_free(&img);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_real),          cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_forms),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_extreme_shape), cmocka_unit_test(test_two_files),
        cmocka_unit_test(test_last_bit),
    };

    return cmocka_run_group_tests_name("processor", tests, make_tmp, remove_tmp);
}
