/* test_metrics.c - metrics.jsonl: doubles come back bit for bit, killed runs leave
 * complete lines, a rewind drops what a resumed run will measure again, and the HDF5 copy
 * holds the same numbers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "tests/tmpdir.h"
#include "train/record/metrics.h"

#include <cJSON.h>
#include <hdf5.h>
#include <math.h>

static void write_line(const char *path, const struct metrics_value *m, size_t n)
{
    struct err e = {0};
    struct metrics out;

    if (!metrics_open(&out, path, &e) || !metrics_write(&out, m, n, &e)) fail_msg("%s", e.msg);
    metrics_close(&out);
}

/* ---- numbers and strings ---- */

struct expect {
    const double *values;
    long lines;
};

static bool same_bits(void *arg, const struct metrics_line *l, struct err *e)
{
    struct expect *x = arg;
    double v = metrics_number(l, "v");

    (void)e;
    assert_int_equal(l->number, x->lines + 1);
    if (isnan(x->values[x->lines]))
        assert_true(isnan(v));
    else
        assert_memory_equal(&v, &x->values[x->lines], sizeof v);
    x->lines++;
    return true;
}

static void test_round_trip(void **state)
{
    enum { FIXED = 12, N = 300 };
    double values[N] = {0,       -0.0, 0.1,  1e300, 5e-324,   1.7976931348623157e308,
                        1.0 / 3, 120,  1e17, NAN,   INFINITY, -INFINITY};
    const char *path = tmpdir_path(state, "metrics.jsonl");
    struct expect x = {.values = values};
    struct err e = {0};
    struct metrics m;
    struct rng rng;

    rng_seed(&rng, 1, 0);
    for (int i = FIXED; i < N; i++) {
        uint64_t bits = rng_u64(&rng);
        memcpy(&values[i], &bits, sizeof bits);
    }
    assert_true(metrics_open(&m, path, &e));
    for (int i = 0; i < N; i++) {
        struct metrics_value line[] = {metric_tag("event", "train"), metric_num("v", values[i])};
        assert_true(metrics_write(&m, line, 2, &e));
    }
    metrics_close(&m);
    assert_true(metrics_each(path, same_bits, &x, &e));
    assert_int_equal(x.lines, N);
}

static bool check_text(void *arg, const struct metrics_line *l, struct err *e)
{
    (void)e;
    assert_string_equal(metrics_text(l, "point"), arg);
    assert_null(metrics_text(l, "phase"));
    assert_null(metrics_text(l, "step"));
    assert_true(isnan(metrics_number(l, "point")));
    assert_true(isnan(metrics_number(l, "nowhere")));
    return true;
}

/* The file contains what the header promises, not just what we read back. */
static void test_lines_are_json(void **state)
{
    char text[] = "a \"b\" \\ \n\x01 \xc3\xa9";
    const char *path = tmpdir_path(state, "metrics.jsonl");
    struct metrics_value line[] = {metric_tag("point", text), metric_num("step", 120),
                                   metric_num("loss", -INFINITY), metric_num("lr", 0.1)};
    struct err e = {0};
    char *got;

    write_line(path, line, 4);
    got = slurp(path, NULL);
    assert_string_equal(got, "{\"point\":\"a \\\"b\\\" \\\\ \\n\\u0001 \xc3\xa9\",\"step\":120,"
                             "\"loss\":null,\"loss_note\":\"-inf\",\"lr\":0.1}\n");
    free(got);
    assert_true(metrics_each(path, check_text, text, &e));
}

/* ---- killed runs ---- */

static bool count_line(void *arg, const struct metrics_line *l, struct err *e)
{
    (void)l;
    (void)e;
    ++*(int *)arg;
    return true;
}

static void test_half_line(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        int lines; /* complete ones */
    } cases[] = {{"", 0, 0},
                 {"{\"step\"", 7, 0},
                 {"{\"step\":1}\n", 11, 1},
                 {"{\"step\":1}\n{\"step\":2}", 21, 1},
                 {"{\"step\":1}\n\0\0\0\0", 15, 1}}; /* zeros: a power cut */
    const char *path = tmpdir_path(state, "metrics.jsonl");
    struct metrics_value line = metric_num("step", 3);
    struct err e = {0};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = 0;

        spill(path, cases[i].text, cases[i].len);
        assert_true(metrics_each(path, count_line, &n, &e));
        assert_int_equal(n, cases[i].lines);
        write_line(path, &line, 1); /* must not be appended to the half line */
        n = 0;
        if (!metrics_each(path, count_line, &n, &e)) fail_msg("case %zu: %s", i, e.msg);
        assert_int_equal(n, cases[i].lines + 1);
    }
}

static void test_bad_lines(void **state)
{
    static const char *const bad[] = {
        "{\"a\":1}\nhello\n",       "{\"a\":1}\n[1]\n",          "{\"a\":1}\n\n",
        "{\"a\":1}\n{\"b\":[1]}\n", "{\"a\":1}\n{\"b\":true}\n", "{\"a\":1}\n{\"b\":1} x\n"};
    const char *path = tmpdir_path(state, "metrics.jsonl");

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct metrics_value tag = metric_tag("point", "p");
        struct err e = {0};
        char *after;
        int n = 0;

        spill(path, bad[i], strlen(bad[i]));
        assert_false(metrics_each(path, count_line, &n, &e));
        assert_non_null(strstr(e.msg, "metrics.jsonl:2:"));
        assert_false(metrics_rewind(path, &tag, 1, 0, &e));
        after = slurp(path, NULL);
        assert_string_equal(after, bad[i]);
        free(after);
    }
}

static void test_rewind(void **state)
{
    static const char before[] = "{\"point\":\"a\",\"phase\":\"s1\",\"step\":9}\n"
                                 "{\"point\":\"a\",\"phase\":\"s2\",\"step\":4}\n"
                                 "{ \"phase\" : \"s2\", \"point\":\"a\",\"step\":5,\"loss\":0.10}\n"
                                 "{\"point\":\"a\",\"phase\":\"s2\",\"step\":6}\n"
                                 "{\"point\":\"b\",\"phase\":\"s2\",\"step\":6}\n"
                                 "{\"point\":\"a\",\"phase\":\"s2\",\"note\":\"no step\"}\n"
                                 "{\"phase\":\"s2\",\"step\":7}\n"
                                 "{\"point\":\"a\",\"phase\":\"s2\",\"step\":1e1}\n"
                                 "{\"point\":\"a\",\"ph";
    static const char after[] = "{\"point\":\"a\",\"phase\":\"s1\",\"step\":9}\n"
                                "{\"point\":\"a\",\"phase\":\"s2\",\"step\":4}\n"
                                "{ \"phase\" : \"s2\", \"point\":\"a\",\"step\":5,\"loss\":0.10}\n"
                                "{\"point\":\"b\",\"phase\":\"s2\",\"step\":6}\n"
                                "{\"point\":\"a\",\"phase\":\"s2\",\"note\":\"no step\"}\n"
                                "{\"phase\":\"s2\",\"step\":7}\n";
    const char *path = tmpdir_path(state, "metrics.jsonl");
    struct metrics_value tags[] = {metric_tag("point", "a"), metric_tag("phase", "s2")};
    struct err e = {0};
    char *got;

    assert_true(metrics_rewind(path, tags, 2, 5, &e)); /* no file yet */
    assert_false(is_there(path));
    spill(path, before, sizeof before - 1);
    assert_true(metrics_rewind(path, tags, 2, 5, &e));
    got = slurp(path, NULL);
    assert_string_equal(got, after);
    free(got);
}

static void test_cannot_open(void **state)
{
    struct err e = {0};
    struct metrics m;

    assert_false(metrics_open(&m, tmpdir_path(state, "no/metrics.jsonl"), &e));
    assert_non_null(strstr(e.msg, "no/metrics.jsonl"));
    metrics_close(&m); /* zeroed */
}

static void test_full_disk(void **state)
{
    struct metrics_value line = metric_num("step", 3);
    struct err e = {0};
    struct metrics m;

    (void)state;
    if (!is_there("/dev/full")) skip();
    m = (struct metrics){.fp = fopen("/dev/full", "w"), .path = strdup("metrics.jsonl")};
    assert_false(metrics_write(&m, &line, 1, &e));
    assert_string_equal(e.msg, "metrics.jsonl: cannot be written: No space left on device");
    metrics_close(&m);
}

/* ---- HDF5 ---- */

static void expect_numbers(hid_t file, const char *name, const double *want, hsize_t n)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(set);
    double got[8];
    hsize_t rows;

    assert_int_equal(H5Sget_simple_extent_ndims(space), 1);
    H5Sget_simple_extent_dims(space, &rows, NULL);
    assert_int_equal(rows, n);
    assert_true(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, got) >= 0);
    for (hsize_t i = 0; i < n; i++)
        assert_true(isnan(want[i]) ? isnan(got[i]) : got[i] == want[i]);
    H5Sclose(space);
    H5Dclose(set);
}

static void expect_texts(hid_t file, const char *name, size_t width, const char *want, size_t len)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), type = H5Dget_type(set);
    char got[64];

    assert_int_equal(H5Tget_size(type), width);
    assert_int_equal(H5Dget_storage_size(set), len);
    assert_true(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, got) >= 0);
    assert_memory_equal(got, want, len);
    H5Tclose(type);
    H5Dclose(set);
}

static void test_h5(void **state)
{
    static const char lines[] =
        "{\"point\":\"r8/c4\",\"phase\":\"s2\",\"event\":\"train\",\"step\":1,\"loss\":null}\n"
        "{\"point\":\"r8/c4\",\"phase\":\"s2\",\"event\":\"eval\",\"set\":\"val\",\"step\":1}\n"
        "{\"point\":\"r8/c4\",\"phase\":\"s2\",\"event\":\"train\",\"step\":2,\"lr\":0.1}\n"
        "{\"point\":\"r8/c4\",\"phase\":\"s2\",\"event\":\"eval\",\"step\":2,\"score_a/b\":0.5}\n"
        "{\"point\":\"r8/c4\",\"phase\":\"s2\",\"event\":\"eval\",\"set\":\"t\",\"step\":3}\n"
        "{\"seconds\":4.5}\n";
    const char *jsonl = tmpdir_path(state, "metrics.jsonl");
    const char *h5 = tmpdir_path(state, "metrics.h5");
    struct err e = {0};
    hid_t file;

    spill(jsonl, lines, sizeof lines - 1);
    if (!metrics_write_h5(jsonl, h5, &e)) fail_msg("%s", e.msg);
    assert_false(is_there(tmpdir_path(state, "metrics.h5.tmp")));
    file = H5Fopen(h5, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file > 0);
    expect_numbers(file, "/r8_c4/s2/train/step", (double[]){1, 2}, 2);
    expect_numbers(file, "/r8_c4/s2/train/loss", (double[]){NAN, NAN}, 2);
    expect_numbers(file, "/r8_c4/s2/train/lr", (double[]){NAN, 0.1}, 2);
    expect_numbers(file, "/r8_c4/s2/eval/step", (double[]){1, 2, 3}, 3);
    expect_numbers(file, "/r8_c4/s2/eval/score_a_b", (double[]){NAN, 0.5, NAN}, 3);
    expect_texts(file, "/r8_c4/s2/eval/set", 3, "val\0\0\0t\0\0", 9);
    expect_numbers(file, "/none/none/none/seconds", (double[]){4.5}, 1);
    H5Fclose(file);
}

static void test_h5_refuses(void **state)
{
    static const struct {
        const char *lines, *message;
    } cases[] = {{"{\"a\":1}\n{\"a\":\"x\"}\n", ":2: 'a' is a string here"},
                 {"{\"a\":\"x\"}\n{\"a\":1}\n", ":2: 'a' is a number here"},
                 {"{\"a\":1,\"a\":2}\n", ":1:8: the key \"a\" is there twice"},
                 {"nonsense\n", ":1:1: a value is needed"}};
    const char *jsonl = tmpdir_path(state, "metrics.jsonl");
    const char *h5 = tmpdir_path(state, "metrics.h5");

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};

        spill(jsonl, cases[i].lines, strlen(cases[i].lines));
        assert_false(metrics_write_h5(jsonl, h5, &e));
        if (!strstr(e.msg, cases[i].message)) fail_msg("case %zu: %s", i, e.msg);
        assert_false(is_there(h5));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_round_trip), tmpdir_test(test_lines_are_json),
        tmpdir_test(test_half_line),  tmpdir_test(test_bad_lines),
        tmpdir_test(test_rewind),     tmpdir_test(test_cannot_open),
        tmpdir_test(test_full_disk),  tmpdir_test(test_h5),
        tmpdir_test(test_h5_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
