/* test_shapes.c - the shapes of pictures of any size: sizes, tiles, grids and tokens as
 * transformers computes them, for all pairs of 1 to 64 pixels and 10,000 sizes up to 6,000; and the
 * pixels of some pictures. tests/data/vlm/make_sizes.py and make_pixels.py describe the files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "data/picture/processor_parts.h"
#include "data/dataset.h"
#include "model/family/qwen_tower.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIR "tests/data/vlm/"

static void must(bool ok, const struct err *e)
{
    if (!ok) fail_msg("%s", e->msg);
}

/* A model's settings and its processor. */
struct setting {
    char name[32], sha[65];
    int rows;
    struct hf_config cfg;
    struct processor p;
};

static void finish(struct setting *s, const char *json)
{
    const char *key;
    struct err e = {0};

    must(hf_config_parse(&s->cfg, json, strlen(json), "settings", &e), &e);
    s->cfg.family->new_processor(&s->cfg, &s->p);
    must(processor_check(&s->p, &key, &e), &e);
}

/* A model that fits the processor. */
static void finish_config(struct setting *s, const char *type)
{
    char json[100];
    struct err e = {0};

    snprintf(json, sizeof json, "{\"model_type\":\"%s\"}", type);
    must(hf_config_parse(&s->cfg, json, strlen(json), "settings", &e), &e);
}

static struct picture_shape shape_of(const struct setting *s, int64_t h, int64_t w)
{
    struct picture_shape shape = {.height = h, .width = w};
    struct err e = {0};

    if (!processor_shape(&s->p, &shape, &e)) return (struct picture_shape){.height = h, .width = w};
    s->cfg.family->shape(&s->cfg, &shape);
    return shape;
}

/* ---- lines as in the golden files ---- */

static void next_line(const struct setting *s, int64_t h, int64_t w, char line[200])
{
    const struct picture_shape p = shape_of(s, h, w);
    const int64_t H = p.grid_h * s->p.height, W = p.grid_w * s->p.width;
    const int64_t top = (H - p.to_h) / 2, left = (W - p.to_w) / 2;
    const int64_t numbers[] = {h,
                               w,
                               H,
                               W,
                               p.inputs,
                               p.to_h,
                               p.to_w,
                               top,
                               H - p.to_h - top,
                               left,
                               W - p.to_w - left,
                               p.kept_h,
                               p.kept_w,
                               p.tokens};
    int n = 0;

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        n += snprintf(line + n, 200 - (size_t)n, "%s%" PRId64, i ? " " : "", numbers[i]);
}

typedef void line_of(const struct setting *s, int64_t h, int64_t w, char line[200]);

/* The digest of the lines of all sizes. */
static void check_all(const struct setting *s, line_of *line)
{
    uint32_t x = 1, size[2];
    char text[200], hex[65];
    struct sha256 sum;
    int rows = 0;

    sha256_init(&sum);
    for (; rows < 64 * 64 + 10000; rows++) {
        for (int i = 0; i < 2 && rows >= 64 * 64; i++) {
            x = 1664525 * x + 1013904223;
            size[i] = 1 + (x >> 8) % 6000;
        }
        if (rows < 64 * 64)
            line(s, 1 + rows / 64, 1 + rows % 64, text);
        else
            line(s, size[0], size[1], text);
        strcat(text, "\n");
        sha256_add(&sum, text, strlen(text));
    }
    sha256_hex(&sum, hex);
    assert_int_equal(rows, s->rows);
    assert_string_equal(hex, s->sha);
}

/* The sizes listed in the file, one by one. */
static int check_listed(const struct setting *all, int n, const char *file, line_of *line)
{
    FILE *fp = fopen(file, "r");
    char want[200], got[200], name[32];
    int64_t h, w;
    int found = 0, at;

    assert_non_null(fp);
    while (fgets(want, sizeof want, fp)) {
        want[strcspn(want, "\n")] = '\0';
        assert_int_equal(sscanf(want, "%31s %n%" SCNd64 " %" SCNd64, name, &at, &h, &w), 3);
        for (int i = 0; i < n; i++) {
            if (strcmp(all[i].name, name) != 0) continue;
            line(&all[i], h, w, got);
            if (strcmp(got, want + at) != 0) fail_msg("%s: %s, wanted %s", name, got, want + at);
            found++;
        }
    }
    fclose(fp);
    return found;
}

/* ---- LLaVA-NeXT ---- */

/* "name side patch rows sha256 n (H W)*n" */
static bool read_next(FILE *fp, struct setting *s)
{
    char json[2000], grids[1000] = "", one[40];
    int side, patch, n, h, w;

    memset(s, 0, sizeof *s);
    if (fscanf(fp, "%31s %d %d %d %64s %d", s->name, &side, &patch, &s->rows, s->sha, &n) != 6)
        return false;
    for (int i = 0; i < n; i++) {
        assert_int_equal(fscanf(fp, "%d %d", &h, &w), 2);
        snprintf(one, sizeof one, "%s[%d,%d]", i ? "," : "", h, w);
        strcat(grids, one);
    }
    snprintf(json, sizeof json,
             "{\"model_type\":\"llava_next\",\"image_grid_pinpoints\":[%s],"
             "\"vision_config\":{\"image_size\":%d,\"patch_size\":%d}}",
             grids, side, patch);
    finish(s, json);
    return true;
}

static void test_next(void **state)
{
    FILE *fp = fopen(DIR "next-settings.txt", "r");
    struct setting all[8];
    int n = 0;

    (void)state;
    assert_non_null(fp);
    while (n < 8 && read_next(fp, &all[n]))
        check_all(&all[n++], next_line);
    fclose(fp);
    assert_int_equal(n, 4);
    assert_true(check_listed(all, n, DIR "next-sizes.txt", next_line) > 100);
    for (int i = 0; i < n; i++)
        hf_config_free(&all[i].cfg);
}

/* ---- Qwen2-VL and Qwen2.5-VL, which take pictures alike ---- */

static const char *const qwens[] = {"qwen2_vl", "qwen2_5_vl"};
enum { QWENS = sizeof qwens / sizeof *qwens };

static void qwen_line(const struct setting *s, int64_t h, int64_t w, char line[200])
{
    const struct picture_shape p = shape_of(s, h, w);

    snprintf(line, 200, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, h, w, p.to_h,
             p.to_w, p.tokens);
}

static void qwen_setting(struct setting *s, const char *type, int64_t factor, int64_t least,
                         int64_t most)
{
    char json[200];
    const char *key;
    struct err e = {0};

    snprintf(json, sizeof json,
             "{\"model_type\":\"%s\",\"vision_config\":{\"patch_size\":%" PRId64 "}}", type,
             factor / 2);
    finish(s, json);
    s->p.min_pixels = least;
    s->p.max_pixels = most;
    must(processor_check(&s->p, &key, &e), &e);
}

/* "name factor min_pixels max_pixels rows sha256" */
static bool read_qwen(FILE *fp, const char *type, struct setting *s)
{
    int64_t factor, least, most;

    memset(s, 0, sizeof *s);
    if (fscanf(fp, "%31s %" SCNd64 " %" SCNd64 " %" SCNd64 " %d %64s", s->name, &factor, &least,
               &most, &s->rows, s->sha) != 6)
        return false;
    qwen_setting(s, type, factor, least, most);
    return true;
}

static void check_qwen(const char *type)
{
    FILE *fp = fopen(DIR "qwen-settings.txt", "r");
    struct setting all[8];
    int n = 0;

    assert_non_null(fp);
    while (n < 8 && read_qwen(fp, type, &all[n]))
        check_all(&all[n++], qwen_line);
    fclose(fp);
    assert_int_equal(n, 6);
    assert_true(check_listed(all, n, DIR "qwen-sizes.txt", qwen_line) > 200);
    for (int i = 0; i < n; i++)
        hf_config_free(&all[i].cfg);
}

static void test_qwen(void **state)
{
    (void)state;
    for (int i = 0; i < QWENS; i++)
        check_qwen(qwens[i]);
}

static int64_t number(FILE *fp)
{
    int64_t v;

    assert_int_equal(fscanf(fp, "%" SCNd64, &v), 1);
    return v;
}

enum { PICTURES = 8, CELLS = 4096 };

/* Grids of patches, "pictures (gh gw)*pictures", with the tokens that `merge` gives. */
static int64_t read_grids(FILE *fp, int64_t n, int64_t merge, struct picture_shape *s)
{
    int64_t cells = 0;

    assert_true(n <= PICTURES);
    for (int64_t i = 0; i < n; i++) {
        s[i] = (struct picture_shape){.grid_h = number(fp)};
        s[i].grid_w = number(fp);
        s[i].kept_h = s[i].grid_h / merge;
        s[i].kept_w = s[i].grid_w / merge;
        s[i].tokens = s[i].kept_h * s[i].kept_w;
        cells += s[i].tokens;
    }
    assert_true(cells <= CELLS);
    return cells;
}

/* "merge window patch pictures (gh gw)*pictures cells order*cells n bounds*n" */
static void test_windows(void **state)
{
    FILE *fp = fopen(DIR "windows.txt", "r");
    struct picture_shape shapes[PICTURES];
    int64_t begin[CELLS + 1], merge;
    int32_t order[CELLS];
    int lines = 0;

    (void)state;
    assert_non_null(fp);
    for (; fscanf(fp, "%" SCNd64, &merge) == 1; lines++) {
        struct vision_config v = {.spatial_merge_size = merge, .window_size = number(fp)};
        int64_t n, cells, windows;
        v.patch_size = number(fp);
        n = number(fp);
        cells = read_grids(fp, n, merge, shapes);
        windows = qwen_windows(&v, shapes, n, order, begin);
        assert_int_equal(number(fp), cells);
        for (int64_t i = 0; i < cells; i++)
            assert_int_equal(order[i], number(fp));
        assert_int_equal(number(fp), windows + 1);
        for (int64_t i = 0; i <= windows; i++)
            assert_int_equal(begin[i], number(fp));
    }
    fclose(fp);
    assert_int_equal(lines, 15);
}

/* "pictures (gh gw)*pictures T type*T delta t*T h*T w*T" */
static void check_positions(const char *type)
{
    FILE *fp = fopen(DIR "positions.txt", "r");
    struct picture_shape shapes[PICTURES];
    static uint8_t kind[CELLS];
    static int32_t out[3 * CELLS];
    struct setting s = {.rows = 0};
    struct picture_places places;
    char json[100];
    int64_t pictures;
    int lines = 0;

    assert_non_null(fp);
    snprintf(json, sizeof json, "{\"model_type\":\"%s\"}", type);
    finish(&s, json);
    family_places(&s.cfg, &places);
    assert_int_equal(places.axes, 3);
    for (; fscanf(fp, "%" SCNd64, &pictures) == 1; lines++) {
        struct sample sample = {.kind = kind, .shape = shapes, .images = pictures};
        int64_t T, delta;
        read_grids(fp, pictures, 2, shapes);
        T = number(fp);
        assert_true(T <= CELLS);
        for (int64_t i = 0; i < T; i++)
            kind[i] = number(fp) ? TOKEN_PLACE : TOKEN_TEXT;
        delta = number(fp);
        assert_int_equal(places.positions(&sample, T, out, T), T + delta);
        for (int64_t i = 0; i < 3 * T; i++)
            assert_int_equal(out[i], number(fp));
    }
    fclose(fp);
    assert_int_equal(lines, 13);
    hf_config_free(&s.cfg);
}

static void test_positions(void **state)
{
    (void)state;
    for (int i = 0; i < QWENS; i++)
        check_positions(qwens[i]);
}

/* ---- pixels ---- */

/* As make_pixels.py draws it. */
static void draw(struct image *img, int64_t h, int64_t w)
{
    struct err e = {0};

    must(image_new(img, w, h, 3, &e), &e);
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            for (int64_t c = 0; c < 3; c++)
                img->px[3 * (y * w + x) + c] = (uint8_t)(x * (3 + c) + y * (5 - c) +
                                                         ((x / 16 ^ y / 16) & 1) * 90 + x * y % 29);
}

static void check_pixels(const struct setting *s, int64_t h, int64_t w, const char *want)
{
    const struct picture_shape shape = shape_of(s, h, w);
    size_t count = (size_t)(shape.inputs * s->p.input_width);
    float *pixels = malloc(count * sizeof *pixels);
    struct image img;
    struct sha256 sum;
    struct err e = {0};
    char hex[65];

    assert_non_null(pixels);
    draw(&img, h, w);
    must(processor_run(&s->p, &img, pixels, &e), &e);
    sha256_init(&sum);
    sha256_add(&sum, pixels, count * sizeof *pixels);
    sha256_hex(&sum, hex);
    if (strcmp(hex, want) != 0)
        fail_msg("%" PRId64 " x %" PRId64 ": other pixels than transformers'", h, w);
    image_free(&img);
    free(pixels);
}

/* "next side h w tiles sha256(8 bits) sha256(float32)" */
static void test_next_pixels(void **state)
{
    FILE *fp = fopen(DIR "pixels.txt", "r");
    char line[400], sha[65];
    int64_t side, h, w;
    int n = 0;

    (void)state;
    assert_non_null(fp);
    while (fgets(line, sizeof line, fp)) {
        struct setting s = {.rows = 0};
        if (sscanf(line, "next %" SCNd64 " %" SCNd64 " %" SCNd64 " %*d %*s %64s", &side, &h, &w,
                   sha) != 4)
            continue;
        assert_int_equal(side, 336);
        finish(&s, "{\"model_type\":\"llava_next\"}");
        check_pixels(&s, h, w, sha);
        hf_config_free(&s.cfg);
        n++;
    }
    fclose(fp);
    assert_int_equal(n, 16);
}

/* "qwen min_pixels max_pixels h w H W sha256(8 bits) sha256(float32)" */
static void test_qwen_pixels(void **state)
{
    FILE *fp = fopen(DIR "pixels.txt", "r");
    char line[400], sha[65];
    int64_t least, most, h, w;
    int n = 0;

    (void)state;
    assert_non_null(fp);
    while (fgets(line, sizeof line, fp)) {
        struct setting s = {.rows = 0};
        if (sscanf(line, "qwen %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %*d %*d %*s %64s",
                   &least, &most, &h, &w, sha) != 5)
            continue;
        qwen_setting(&s, qwens[n % QWENS], 28, least, most);
        check_pixels(&s, h, w, sha);
        hf_config_free(&s.cfg);
        n++;
    }
    fclose(fp);
    assert_int_equal(n, 14);
}

/* Every processor config: read as by transformers, or refused. We refuse more, namely what a
 * tower does not take. */
static void check_config(const cJSON *item)
{
    const cJSON *sha = cJSON_GetObjectItem(item, "sha256");
    struct setting s = {.rows = 0};
    struct err e = {0};
    char dir[300];

    snprintf(dir, sizeof dir, DIR "processor/%s", item->string);
    bool ok = processor_load(&s.p, dir, &e);
    if (ok && !sha) fail_msg("%s: is read, transformers refuses it", item->string);
    print_message("# %s: %s\n", item->string, ok ? "read" : e.msg);
    if (!ok || !sha) return;
    finish_config(&s, s.p.min_pixels ? "qwen2_5_vl" : "llava_next");
    check_pixels(&s, 61, 97, sha->valuestring);
    hf_config_free(&s.cfg);
}

static void test_configs(void **state)
{
    struct err e = {0};
    char *text;
    size_t len;
    cJSON *all;
    const cJSON *item;
    int n = 0;

    (void)state;
    must(file_read(DIR "processors.json", 1 << 20, &text, &len, &e), &e);
    all = cJSON_Parse(text);
    free(text);
    cJSON_ArrayForEach(item, all)
    {
        check_config(item);
        n++;
    }
    cJSON_Delete(all);
    assert_int_equal(n, 33);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next),        cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_windows),     cmocka_unit_test(test_positions),
        cmocka_unit_test(test_next_pixels), cmocka_unit_test(test_qwen_pixels),
        cmocka_unit_test(test_configs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
