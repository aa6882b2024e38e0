/* test_paired.c - statistics of paired scores (data/metric/paired.h, bootstrap.h) and the errors of
 * figures, against values of exact fractions and long decimals. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json/jsonc.h"
#include "base/rng.h"
#include "data/json_scan.h"
#include "base/file.h"
#include "data/metric/bootstrap.h"
#include "data/metric/metric.h"
#include "data/set_figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 3000 };

static void near_to(double got, double want, const char *what)
{
    /* Sums of up to 3000 doubles, and logarithms of gamma near 5e4, lose some 1e-12 of them. */
    if (!(fabs(got - want) <= 1e-11 * fabs(want) + 1e-15))
        fail_msg("%s: %.17g, not %.17g", what, got, want);
}

static double at(const cJSON *list, int i)
{
    return cJSON_GetArrayItem(list, i)->valuedouble;
}

static void check_counts(const cJSON *counts, const cJSON *want)
{
    static double x[MOST], y[MOST];
    static int64_t cluster[MOST];
    const int n = (int)at(counts, 0), both = (int)at(counts, 1), lost = (int)at(counts, 2),
              won = (int)at(counts, 3), size = (int)at(counts, 4);
    struct paired p;
    struct err e;

    for (int i = 0; i < n; i++) {
        x[i] = i < both + lost;
        y[i] = i < both || (i >= both + lost && i < both + lost + won);
        cluster[i] = i / size;
    }
    assert_true(paired_compare(x, y, size > 1 ? cluster : NULL, (size_t)n, &p, &e));
    assert_true(p.binary && p.lost == lost && p.won == won);
    near_to(p.base, at(want, 0), "base");
    near_to(p.converted, at(want, 1), "converted");
    near_to(p.difference, at(want, 2), "difference");
    near_to(p.difference_se, at(want, 3), "its error");
    near_to(p.recovered, at(want, 4), "recovered");
    near_to(p.recovered_se, at(want, 5), "its error");
    if (size > 1)
        assert_true(isnan(p.p)); /* each sample for itself, which these are not */
    else
        near_to(p.p, mcnemar_mid(lost, won), "p");
    near_to(p.interval.high, p.difference + PAIRED_Z * at(want, 3), "interval");
    assert_int_equal(p.shown, p.difference + PAIRED_Z * at(want, 3) < 0);
}

static void check_line(const cJSON *line)
{
    const cJSON *want = cJSON_GetObjectItem(line, "want"), *in;

    if ((in = cJSON_GetObjectItem(line, "mcnemar"))) {
        near_to(mcnemar_mid((int64_t)at(in, 0), (int64_t)at(in, 1)), at(want, 0), "mid-p");
        near_to(mcnemar_mid((int64_t)at(in, 1), (int64_t)at(in, 0)), at(want, 0), "mid-p");
    } else if ((in = cJSON_GetObjectItem(line, "wilson"))) {
        struct interval i = interval_wilson(at(in, 0), at(in, 1));
        near_to(i.low, at(want, 0), "low");
        near_to(i.high, at(want, 1), "high");
    } else {
        check_counts(cJSON_GetObjectItem(line, "counts"), want);
    }
}

static void test_golden(void **state)
{
    const char *path = "tests/data/metric/paired.jsonl";
    struct json_scan scan;
    struct file_map map;
    struct jsonc doc;
    struct err e;
    size_t begin, end, n = 0;
    bool found = true;

    (void)state;
    assert_true(file_map_open(&map, path, &e));
    assert_true(json_scan_open(&scan, map.data, map.size, path, &e));
    while (json_scan_next(&scan, &begin, &end, &found, &e) && found) {
        assert_true(jsonc_parse(&doc, path, (const char *)map.data + begin, end - begin, &e));
        check_line(doc.root);
        jsonc_close(&doc);
        n++;
    }
    assert_int_equal(n, 19);
    file_map_close(&map);
}

/* Nothing to go on, and nothing that differs. */
static void test_edges(void **state)
{
    static const double zero[4], one[4] = {1, 1, 1, 1}, part[4] = {0.5, 1, 0.25, 0};
    struct paired p;
    struct err e;
    double mean, se;

    (void)state;
    assert_true(isnan(interval_wilson(0, 0).low));
    assert_true(paired_compare(one, one, NULL, 4, &p, &e));
    assert_true(p.difference == 0 && p.difference_se == 0 && p.recovered == 1 && !p.shown);
    assert_true(p.p == 1 && p.recovered_se == 0);
    assert_true(paired_compare(zero, one, NULL, 4, &p, &e));
    assert_true(isnan(p.recovered) && isnan(p.recovered_se) && p.difference == 1 && p.shown);
    assert_true(p.p == 2 * 0.0625 - 0.0625);
    assert_true(paired_compare(one, part, NULL, 4, &p, &e));
    assert_true(!p.binary && isnan(p.p) && p.lost == 0 && p.won == 0);
    assert_true(paired_compare(one, zero, NULL, 1, &p, &e) && isnan(p.difference_se) && !p.shown);
    assert_true(paired_compare(one, zero, NULL, 0, &p, &e) && isnan(p.difference) && !p.shown);
    paired_mean((const double[]){0.5, 0.75}, (const double[]){0.03, 0.04}, 2, &mean, &se);
    assert_true(mean == 0.625);
    near_to(se, 0.025, "the mean's error");
    paired_mean(NULL, NULL, 0, &mean, &se);
    assert_true(isnan(mean) && isnan(se));
}

static bool mean_of_rows(void *arg, const size_t *row, const int64_t *copy, size_t n, double *out,
                         struct err *e)
{
    const double *x = arg;

    (void)copy, (void)e;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out += x[row[i]] / (double)n;
    return true;
}

/* Of a mean, the draws must give what the formula gives, within what 10,000 draws leave open: the
 * error of a standard deviation is 1 / sqrt(2 * 10,000) = 0.7 % of it, the formulas' n and n - 1
 * are 0.3 % apart with 200 samples, and so are clusters of 4 (1 %). */
static void test_bootstrap(void **state)
{
    static double x[200];
    static int64_t cluster[200];
    struct bootstrap b = {.cluster = cluster,
                          .n = 200,
                          .draws = BOOTSTRAP_DRAWS,
                          .seed = 7,
                          .figure = mean_of_rows,
                          .arg = x};
    struct bootstrap_result r, again;
    struct rng rng;
    struct err e;
    double want, middle;

    (void)state;
    rng_seed(&rng, 5, 0);
    for (int size = 1; size <= 4; size += 3) {
        for (int i = 0; i < 200; i++) {
            cluster[i] = 90 - i / size;
            x[i] = i % size ? x[i - 1] : rng_uniform(&rng);
        }
        assert_true(metric_stderr_clustered(x, cluster, 200, &want, &e));
        assert_true(bootstrap_run(&b, &r, &e) && bootstrap_run(&b, &again, &e));
        assert_memory_equal(&r, &again, sizeof r);
        if (fabs(r.se / want - 1) > 0.04) fail_msg("clusters of %d: %g, not %g", size, r.se, want);
        /* A percentile's own error: sqrt(0.025 * 0.975 / 10,000) / density = 0.027 errors. */
        middle = metric_mean(x, 200);
        assert_true(fabs((middle - r.interval.low) / want - PAIRED_Z) < 0.15);
        assert_true(fabs((r.interval.high - middle) / want - PAIRED_Z) < 0.15);
    }
    b.n = 0;
    assert_true(bootstrap_run(&b, &r, &e));
}

static const struct metric_figure *figure(const char *metric, const char *name)
{
    const struct metric_figure *f = metric_find(metric)->figures;

    while (f->name && strcmp(f->name, name) != 0)
        f++;
    assert_non_null(f->name);
    return f;
}

/* Each figure with values is their mean, to the last bits, and its error theirs. */
static void test_values(void **state)
{
    struct metric_item items[48];
    struct metric_value v[48];
    double value, sum, se;
    size_t k;
    struct rng r;
    struct err e;

    (void)state;
    rng_seed(&r, 11, 0);
    for (int i = 0; i < 48; i++)
        items[i] = (struct metric_item){.score = (double)rng_below(&r, 2),
                                        .said = (enum metric_word)rng_below(&r, 3),
                                        .wanted = METRIC_NO + (enum metric_word)rng_below(&r, 2),
                                        .tokens = 1 + i % 5,
                                        .loss = i % 3,
                                        .index = i / 4 + i % 4 * 1000000,
                                        .group = i / 2,
                                        .cluster = i / 4,
                                        .kind = i % 8 < 4 ? "human_test" : "image"};
    for (const struct metric *m = metrics; m->name; m++) {
        for (const struct metric_figure *f = m->figures; f->name; f++) {
            assert_true(metric_figure_error(f, items, 48, &se, &e));
            if (!f->values) continue;
            struct metric_item some[48];
            size_t n = metric_figure_items(f, some, items, 48);
            assert_true(metric_figure_value(f, items, 48, &value, &e));
            assert_true(f->values(some, n, v, &k, &e) && k <= n);
            sum = 0;
            for (size_t i = 0; i < k; i++)
                sum += v[i].value;
            if (n) near_to(sum / (double)k, value, f->name);
            assert_true(n ? se >= 0 : isnan(se));
        }
    }
    assert_true(metric_figure_error(figure("mmbench", "undecided"), items, 48, &se, &e));
    assert_true(isnan(se));
}

/* F1 of 400 answers: the error by draws is that of repeated sampling from the same shares, and
 * where both models answer alike no difference is shown. */
static void test_drawn(void **state)
{
    static struct metric_item a[400], b[400];
    const struct metric_figure *f1 = figure("pope", "pope_f1_score");
    struct paired p;
    struct rng r;
    struct err e;
    double se, value, sum = 0, squares = 0;
    enum { TRIALS = 400 };

    (void)state;
    rng_seed(&r, 3, 0);
    for (int t = 0; t < TRIALS; t++) {
        for (int i = 0; i < 400; i++) {
            bool yes = rng_below(&r, 2), right = rng_below(&r, 5) > 0;
            a[i] = (struct metric_item){.wanted = yes ? METRIC_YES : METRIC_NO,
                                        .said = yes == right ? METRIC_YES : METRIC_NO,
                                        .cluster = i};
        }
        assert_true(metric_figure_value(f1, a, 400, &value, &e));
        sum += value;
        squares += value * value;
    }
    double spread = sqrt(squares / TRIALS - sum / TRIALS * (sum / TRIALS));
    assert_true(metric_figure_error(f1, a, 400, &se, &e));
    /* A standard deviation of 400 trials is known to 3.5 %; that of one set of 400 to some more. */
    if (fabs(se / spread - 1) > 0.2) fail_msg("%g, not %g", se, spread);
    assert_true(metric_figure_compare(f1, a, a, 400, &p, &e));
    assert_true(p.n == 400 && p.difference == 0 && p.recovered == 1 && !p.shown && isnan(p.p));
    memcpy(b, a, sizeof b);
    for (int i = 0; i < 400; i += 4)
        if (b[i].wanted == METRIC_YES) b[i].said = METRIC_NO;
    assert_true(metric_figure_compare(f1, a, b, 400, &p, &e));
    assert_true(p.shown && p.interval.high < 0 && p.recovered_interval.high < 1);
    assert_true(metric_figure_compare(f1, a, b, 0, &p, &e) && p.n == 0);
}

/* The lower the perplexity, the better. Losses of 1 and 2 a token, and the other way round. */
static void test_lower(void **state)
{
    const struct metric_figure *f = figure("tokens", "perplexity");
    struct metric_item a[20], b[20];
    struct paired worse, better;
    struct err e;

    (void)state;
    for (int i = 0; i < 20; i++) {
        a[i] = (struct metric_item){.tokens = 10, .loss = 10 + i % 2, .cluster = i};
        b[i] = (struct metric_item){.tokens = 10, .loss = 20 + i % 2, .cluster = i};
    }
    assert_true(metric_figure_compare(f, a, b, 20, &worse, &e));
    assert_true(worse.lower && worse.shown && worse.difference > 0);
    near_to(worse.recovered, exp(-1), "recovered");
    assert_true(worse.recovered_interval.high < 1);
    assert_string_equal(figure_pair_verdict(&worse), "worse");
    assert_true(metric_figure_compare(f, b, a, 20, &better, &e));
    near_to(better.recovered, exp(1), "recovered");
    assert_string_equal(figure_pair_verdict(&better), "better");
    f = figure("tokens", "tokens_right");
    assert_true(metric_figure_compare(f, a, a, 20, &better, &e) && !better.lower);
}

/* Two questions a picture: what one of them says of chance, the other does not say again. */
static void test_shared(void **state)
{
    double x[20], y[20];
    int64_t cluster[20];
    struct paired p;
    struct err e;
    const struct metric_figure *f = figure("exact", "exact_match");
    char text[FIGURE_PAIR_TEXT];

    (void)state;
    for (int i = 0; i < 20; i++) {
        x[i] = 1;
        y[i] = i >= 12;
        cluster[i] = i;
    }
    assert_true(paired_compare(x, y, cluster, 20, &p, &e) && p.binary && p.p < 0.01);
    figure_pair_text(f, &p, text);
    assert_non_null(strstr(text, "McNemar"));
    cluster[19] = 3; /* not a neighbour */
    assert_true(paired_compare(x, y, cluster, 20, &p, &e) && p.binary && isnan(p.p));
    assert_true(p.lost == 12 && p.won == 0);
    figure_pair_text(f, &p, text);
    assert_null(strstr(text, "McNemar"));
    assert_null(strstr(text, "nan"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),    cmocka_unit_test(test_edges),
        cmocka_unit_test(test_bootstrap), cmocka_unit_test(test_values),
        cmocka_unit_test(test_drawn),     cmocka_unit_test(test_lower),
        cmocka_unit_test(test_shared),
    };

    return cmocka_run_group_tests_name("paired", tests, NULL, NULL);
}
