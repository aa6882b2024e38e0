/* test_plot.c - the recovery curve's data and script, a PNG if gnuplot is installed, a note if it
 * is not or fails, and an error if its picture is incomplete. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"
#include "train/report/gnuplot.h"
#include "train/report/plot.h"
#include "train/report/plot_cache.h"

#include <math.h>

static const double tokens[] = {0, 250e3, 1.5e6}, low[] = {0, 0.5, 0.75}, high[] = {0.3, NAN, 0.8};
static const double errors[] = {0.1, NAN, 0.05};

static const struct curve curves[] = {
    {"rope_8 \xe2\x80\x94 50 % {cache}^2", tokens, low, 3, errors},
    {"it's a \"label\"\t\n\\n $PATH `id` @x", tokens, high, 3, NULL},
    {"one point", tokens, high, 1, NULL},
};
static const struct recovery_plot plot = {"A model's % of_it", 0.8, curves, 3};

static bool has_gnuplot(void)
{
    return system("gnuplot --version > /dev/null 2>&1") == 0;
}

static void expect_inside(const char *path, const char *part)
{
    char *text = slurp(path, NULL);

    if (!strstr(text, part)) fail_msg("%s has no '%s':\n%s", path, part, text);
    free(text);
}

static void expect_png(const char *path)
{
    size_t len;
    char *png = slurp(path, &len);

    assert_true(len > 2000);
    assert_memory_equal(png, "\x89PNG\r\n\x1a\n", 8);
    assert_memory_equal(png + len - 8, "IEND\xae\x42\x60\x82", 8);
    free(png);
}

static void test_files(void **state)
{
    static const char tsv[] =
        "curve\ttrained_tokens\tscore\tpercent_of_base\tpercent_error\tlabel\n"
        "0\t0\t0\t0\t12.5\trope_8 \xe2\x80\x94 50 % {cache}^2\n"
        "0\t250000\t0.5\t62.5\tnan\trope_8 \xe2\x80\x94 50 % {cache}^2\n"
        "0\t1500000\t0.75\t93.75\t6.25\trope_8 \xe2\x80\x94 50 % {cache}^2\n"
        "1\t0\t0.29999999999999999\t37.5\tnan\tit's a \"label\"  \\n $PATH `id` @x\n"
        "1\t250000\tnan\tnan\tnan\tit's a \"label\"  \\n $PATH `id` @x\n"
        "1\t1500000\t0.80000000000000004\t100\tnan\tit's a \"label\"  \\n $PATH `id` @x\n"
        "2\t0\t0.29999999999999999\t37.5\tnan\tone point\n";
    const char *script = tmpdir_path(state, "recovery.gnuplot");
    struct err e = {0}, note = {0};
    char *got;

    if (!plot_recovery(*state, &plot, &note, &e)) fail_msg("%s", e.msg);
    got = slurp(tmpdir_path(state, "recovery.tsv"), NULL);
    assert_string_equal(got, tsv);
    free(got);
    expect_inside(script, "set title 'A model''s % of_it' noenhanced");
    expect_inside(script, "title 'rope_8 \xe2\x80\x94 50 % {cache}^2'");
    expect_inside(script, "title 'it''s a \"label\"  \\n $PATH `id` @x'");
    expect_inside(script, "set xtics ('0' 0, '0.2M' 200000, '0.4M' 400000,");
    expect_inside(script, "column(1) == 0 ? column(2) : NaN):4:5 with yerrorbars");
    expect_inside(script, "set xrange [0:1530000]");
    expect_inside(script, "set yrange [0:120]");
    got = slurp(script, NULL);
    assert_true(strstr(got, "yerrorbars") < strstr(got, "linespoints")); /* below the markers */
    free(got);
}

static void test_png(void **state)
{
    struct recovery_plot p = plot;
    struct err e = {0}, note = {0};
    char command[1300];

    if (!has_gnuplot()) skip();
    for (p.n = 0; p.n <= plot.n; p.n++) { /* no curve at all is fine too */
        assert_true(plot_recovery(*state, &p, &note, &e));
        assert_string_equal(note.msg, "");
        expect_png(tmpdir_path(state, "recovery.png"));
        assert_false(is_there(tmpdir_path(state, "recovery.png.tmp")));
    }
    /* The script works without this program. */
    assert_int_equal(unlink(tmpdir_path(state, "recovery.png")), 0);
    snprintf(command, sizeof command, "cd '%s' && gnuplot recovery.gnuplot 2>&1",
             (const char *)*state);
    assert_int_equal(system(command), 0);
    expect_png(tmpdir_path(state, "recovery.png"));
}

/* A legend of many lines makes the picture higher. */
static void test_many(void **state)
{
    enum { MANY = 30 };
    struct curve many[MANY];
    const struct recovery_plot p = {"many", 0.8, many, MANY};
    struct err e = {0}, note = {0};

    for (int i = 0; i < MANY; i++)
        many[i] = curves[0];
    assert_true(plot_recovery(*state, &p, &note, &e));
    expect_inside(tmpdir_path(state, "recovery.gnuplot"), ",1029 font"); /* 130 + 29 * 31 */
    assert_true(plot_recovery(*state, &plot, &note, &e));
    expect_inside(tmpdir_path(state, "recovery.gnuplot"), ",620 font");
}

/* Two recipes, of which the second is not trained yet; and nothing but a base. */
static void test_cache(void **state)
{
    static const struct cache_score first[] = {{7.8125, 0.5, 45, NULL, {NAN, NAN}},
                                               {25, 80, 82.5, NULL, {NAN, NAN}}},
                                    second[] = {{10, 75, NAN, NULL, {1.5, NAN}}};
    static const struct cache_curve recipes[] = {{"published", first, 2, false},
                                                 {"ours_2", second, 1, false}};
    struct cache_plot p = {"it's", "exact match (%)", 80, recipes, 2, CACHE_SHARE};
    const char *script = tmpdir_path(state, "recipes.gnuplot");
    struct err e = {0}, note = {0};
    char *got;

    if (!plot_cache(*state, &p, &note, &e)) fail_msg("%s", e.msg);
    got = slurp(tmpdir_path(state, "recipes.tsv"), NULL);
    assert_string_equal(got,
                        "curve\tcache\tafter_svd\tafter_stage2\tsvd_error\tstage2_error\tlabel\n"
                        "0\t7.8125\t0.5\t45\tnan\tnan\tpublished\n"
                        "0\t25\t80\t82.5\tnan\tnan\tpublished\n"
                        "1\t10\t75\tnan\t1.5\tnan\tours_2\n");
    free(got);
    expect_inside(script, "set title 'it''s'");
    expect_inside(script, "set xrange [0:26]\nset xtics 2.5");
    expect_inside(script, "set yrange [0:100]\nset ytics 20");
    expect_inside(script, "title 'base model: 80'");
    expect_inside(script, "title 'published, after stage 2'");
    expect_inside(script, "title 'ours_2, after SVD'");
    got = slurp(script, NULL);
    assert_null(strstr(got, "ours_2, after stage 2")); /* without a score, no line */
    assert_non_null(strstr(got, "(column(1) == 1 ? column(2) : NaN):3:5 with yerrorbars"));
    assert_null(strstr(got, ":4:6 with yerrorbars"));
    assert_null(strstr(got, "(column(1) == 0 ? column(2) : NaN):3:5"));
    /* the bars are below the markers */
    assert_true(strstr(got, "yerrorbars") < strstr(got, "linespoints"));
    free(got);
    if (!has_gnuplot()) skip();
    expect_png(tmpdir_path(state, "recipes.png"));
    p.base = NAN;
    assert_true(plot_cache(*state, &p, &note, &e));
    assert_string_equal(note.msg, "");
    expect_png(tmpdir_path(state, "recipes.png"));
}

/* Of 40 curves no two look the same. */
static void test_looks(void **state)
{
    (void)state;
    for (size_t i = 0; i < 40; i++)
        for (size_t k = 0; k < i; k++)
            assert_false(gnuplot_mark(i) == gnuplot_mark(k) &&
                         strcmp(gnuplot_colour(i), gnuplot_colour(k)) == 0);
}

/* Runs the plot with `path` as PATH and an old picture in place, which must be
 * removed, with a note. */
static void expect_note(void **state, const char *path, const char *message)
{
    const char *png = tmpdir_path(state, "recovery.png");
    char *saved = strdup(getenv("PATH"));
    struct err e = {0}, note = {0};

    spill(png, "old", 3);
    setenv("PATH", path, 1);
    assert_true(plot_recovery(*state, &plot, &note, &e));
    setenv("PATH", saved, 1);
    free(saved);
    if (!strstr(note.msg, "recovery.png was not made: gnuplot") || !strstr(note.msg, message))
        fail_msg("'%s' has no '%s'", note.msg, message);
    assert_false(is_there(png));
    assert_true(is_there(tmpdir_path(state, "recovery.tsv")));
    assert_true(is_there(tmpdir_path(state, "recovery.gnuplot")));
}

static void test_without_gnuplot(void **state)
{
    const char *fake = tmpdir_path(state, "gnuplot");
    static const char script[] = "#!/bin/sh\nexit 3\n";

    expect_note(state, *state, "cannot be run: ");
    spill(fake, script, sizeof script - 1);
    assert_int_equal(chmod(fake, 0755), 0);
    expect_note(state, *state, "ended with status 3");
}

/* gnuplot does not check its writes: it ends with status 0, leaving a partial file or none. */
static void test_full_disk(void **state)
{
    static const char *const scripts[] = {
        "#!/bin/sh\nexit 0\n", "#!/bin/sh\n: > recovery.png.tmp\n",
        "#!/bin/sh\n/usr/bin/head -c -1 whole.png > recovery.png.tmp\n",
        "#!/bin/sh\n/usr/bin/head -c 900 whole.png > recovery.png.tmp\n"};
    const char *png = tmpdir_path(state, "recovery.png"), *fake = tmpdir_path(state, "gnuplot");
    char *saved = strdup(getenv("PATH"));
    struct err note;

    if (!has_gnuplot()) skip();
    assert_true(plot_recovery(*state, &plot, &note, &(struct err){0}));
    assert_int_equal(rename(png, tmpdir_path(state, "whole.png")), 0);
    setenv("PATH", *state, 1);
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        struct err e = {0};
        spill(fake, scripts[i], strlen(scripts[i]));
        assert_int_equal(chmod(fake, 0755), 0);
        assert_false(plot_recovery(*state, &plot, &note, &e));
        assert_true(e.machine);
        if (!strstr(e.msg, "recovery.png.tmp: ")) fail_msg("%zu: '%s'", i, e.msg);
        assert_false(is_there(png));
        assert_false(is_there(tmpdir_path(state, "recovery.png.tmp")));
    }
    setenv("PATH", saved, 1);
    free(saved);
}

static void test_refuses(void **state)
{
    static const double bad[] = {0, -1, NAN, INFINITY};
    struct recovery_plot p = plot;
    struct err e = {0}, note = {0};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        p.base_score = bad[i];
        assert_false(plot_recovery(*state, &p, &note, &e));
        assert_non_null(strstr(e.msg, "must be above 0"));
    }
    assert_false(plot_recovery(tmpdir_path(state, "no"), &plot, &note, &e));
    assert_non_null(strstr(e.msg, "no/recovery.tsv"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_files),     tmpdir_test(test_png),     tmpdir_test(test_many),
        tmpdir_test(test_cache),     tmpdir_test(test_looks),   tmpdir_test(test_without_gnuplot),
        tmpdir_test(test_full_disk), tmpdir_test(test_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
