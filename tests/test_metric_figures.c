/* test_metric_figures.c - figures of whole sets and standard errors (data/metric), against
 * lmms-eval's doubles: sums and quotients in the same order. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/metric_scored.h"

#include <math.h>

static double figure(const char *metric, const char *name, const struct metric_item *items,
                     size_t n)
{
    const struct metric_figure *f = metric_find(metric)->figures;
    struct err e = {0};
    double value;

    while (f->name && strcmp(f->name, name) != 0)
        f++;
    if (!f->name) fail_msg("%s has no %s", metric, name);
    if (!metric_figure_value(f, items, n, &value, &e)) fail_msg("%s", e.msg);
    return value;
}

static struct metric_item item_of(const char *metric, const char *answer, const char *want)
{
    struct text reference = literal(want);
    struct metric_sample s = {
        .answer = literal(answer), .references = &reference, .n_references = 1};
    struct metric_result r = scored(metric, &s);
    struct metric_item item = {.score = r.score, .said = r.said, .wanted = r.wanted};

    metric_result_free(&r);
    return item;
}

static void test_pope_figures(void **state)
{
    static const char *const answers[] = {"Yes", "yes",          "Yes.", "No",    "Yes",
                                          "no",  "No, there is", "NO",   "maybe", "yes"};
    static const char wanted[] = "yyyynnnnny";
    struct metric_item items[10], one = item_of("pope", "no", "no");

    (void)state;
    for (int i = 0; i < 10; i++)
        items[i] = item_of("pope", answers[i], wanted[i] == 'y' ? "yes" : "no");
    assert_true(figure("pope", "pope_accuracy", items, 10) == 0.5);
    assert_true(figure("pope", "pope_precision", items, 10) == 0.75);
    assert_true(figure("pope", "pope_recall", items, 10) == 0.75);
    assert_true(figure("pope", "pope_f1_score", items, 10) == 0.75);
    assert_true(figure("pope", "pope_yes_ratio", items, 10) == 0.5);
    assert_true(figure("pope", "yes_answers", items, 10) == 0.4);
    assert_true(figure("pope", "pope_accuracy", &one, 1) == 1);
    for (const char *const *f = (const char *const[]){"pope_precision", "pope_recall",
                                                      "pope_f1_score", "pope_yes_ratio", NULL};
         *f; f++)
        assert_true(figure("pope", *f, &one, 1) == 0);
    assert_true(isnan(figure("pope", "pope_accuracy", &one, 0)));
}

/* Of 12 answers, with TP 5, FP 2, FN 4: lmms-eval's doubles. */
static void test_pope_rounding(void **state)
{
    struct metric_item items[12];

    (void)state;
    for (int i = 0; i < 12; i++)
        items[i] = item_of("pope", i < 7 ? "yes" : "no", i < 5 || (i > 6 && i < 11) ? "yes" : "no");
    assert_true(figure("pope", "pope_precision", items, 12) == 0.7142857142857143);
    assert_true(figure("pope", "pope_recall", items, 12) == 0.5555555555555556);
    assert_true(figure("pope", "pope_f1_score", items, 12) == 0.6250000000000001);
    assert_true(figure("pope", "pope_yes_ratio", items, 12) == 0.75);
}

static void test_mmbench_figures(void **state)
{
    /* question 1: four rows right; 2: one of four wrong; 3 and 4: right; rows in no order */
    static const struct metric_item items[] = {
        {.score = 1, .index = 1, .kind = "x"},
        {.score = 1, .index = 2, .kind = "x"},
        {.score = 1, .index = 3000001, .kind = "x"},
        {.score = 1, .index = 1000002, .kind = "x"},
        {.score = 0, .undecided = true, .index = 2000002, .kind = "x"},
        {.score = 1, .index = 3, .kind = "y"},
        {.score = 1, .index = 2000001, .kind = "x"},
        {.score = 1, .index = 3000002, .kind = "x"},
        {.score = 1, .index = 1000001, .kind = "x"},
        {.score = 1, .index = 4, .kind = "y"},
        {.score = 0, .index = 1000009, .kind = "y"}};
    enum { N = sizeof items / sizeof *items };
    struct metric_item some[N];
    double hit[N];
    size_t n;
    struct err e = {0};

    (void)state;
    assert_true(figure("mmbench", "gpt_eval_score", items, N) == 75);
    assert_true(figure("mmbench", "vanilla", items, N) == 100);
    assert_true(figure("mmbench", "undecided", items, N) == 1);
    assert_int_equal(metric_of_kind(some, items, N, "x"), 8);
    assert_true(figure("mmbench", "gpt_eval_score", some, 8) == 50);
    n = metric_of_kind(some, items, N, "y");
    assert_true(figure("mmbench", "gpt_eval_score", some, n) == 100);
    assert_true(metric_circular(items, N, hit, &n, &e));
    assert_int_equal(n, 4);
    assert_true(hit[0] == 1 && hit[1] == 0 && hit[2] == 1 && hit[3] == 1);
}

static void test_kinds(void **state)
{
    static const struct metric_item items[] = {{.score = 1, .kind = "image"},
                                               {.score = 0, .kind = "image"},
                                               {.score = 1, .kind = "video"},
                                               {.score = 1, .kind = "image"}};
    static const struct metric_item charts[] = {{.score = 1, .kind = "human_test"},
                                                {.score = 0, .kind = "augmented_test"},
                                                {.score = 0, .kind = "human_test"},
                                                {.score = 1}};

    (void)state;
    assert_true(figure("seed", "seed_all", items, 4) == 0.75);
    assert_true(figure("seed", "seed_image", items, 4) == 2.0 / 3);
    assert_true(figure("seed", "seed_video", items, 4) == 1);
    assert_true(isnan(figure("seed", "seed_video", items, 2)));
    assert_true(figure("relaxed", "relaxed_overall", charts, 4) == 0.5);
    assert_true(figure("relaxed", "relaxed_human_split", charts, 4) == 0.5);
    assert_true(figure("relaxed", "relaxed_augmented_split", charts, 4) == 0.5);
}

static void test_mme_figures(void **state)
{
    /* pairs (1, 1) and (1, 0) of a category: 125; of another (0, 1): 50; cognition (1, 1): 200 */
    struct metric_item items[] = {{.score = 1, .group = 7, .kind = "count"},
                                  {.score = 1, .group = 8, .kind = "count"},
                                  {.score = 0, .group = 7, .kind = "OCR"},
                                  {.score = 1, .group = 7, .kind = "count"},
                                  {.score = 1, .group = 7, .kind = "OCR"},
                                  {.score = 0, .group = 8, .kind = "count"},
                                  {.score = 1, .group = 9, .kind = "code_reasoning"},
                                  {.score = 1, .group = 9, .kind = "code_reasoning"}};
    const struct metric_figure *f = metric_find("mme")->figures;
    struct err e = {0};
    double value;

    (void)state;
    assert_true(figure("mme", "mme_perception_score", items, 8) == 125 + 50);
    assert_true(figure("mme", "mme_cognition_score", items, 8) == 200);
    items[1].group = 6;
    items[1].row = 12;
    assert_false(metric_figure_value(f, items, 8, &value, &e));
    assert_string_equal(
        e.msg, "\"count\": the picture (\"group\") of row 12 has 1 sample: mme needs two of each");
}

/* Four categories of 3 or 7 pictures in no order, and lmms-eval's sum of their means. */
static void test_mme_rounding(void **state)
{
    static const char *const kinds[] = {"count", "OCR", "position", "landmark"};
    static const char rows[] = "c10 O61 p11 l01 p11 O00 O11 c01 c21 c11 O41 p21 c20 c00 O40 O21 "
                               "O00 l00 l10 O50 O20 O60 O30 l20 l10 O11 p01 p21 O30 p01 l21 O50 ";
    struct metric_item items[32];

    (void)state;
    for (int i = 0; i < 32; i++) {
        const char *row = rows + 4 * i;
        int kind = 0;
        while (*kinds[kind] != *row)
            kind++;
        items[i] =
            (struct metric_item){.kind = kinds[kind], .group = row[1] - '0', .score = row[2] - '0'};
    }
    assert_true(figure("mme", "mme_perception_score", items, 32) == 333.3333333333333);
}

static void test_errors(void **state)
{
    static const double x[] = {1, 1, 0, 1, 0, 0, 1, 1};
    static const int64_t pairs[] = {1, 1, 2, 2, 3, 3, 4, 4}, halves[] = {5, 5, 5, 5, 2, 2, 2, 2};
    static const int64_t apart[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct err e = {0};
    double value;

    (void)state;
    assert_true(metric_mean(x, 8) == 0.625);
    assert_true(metric_stderr(x, 8) == 0.18298126367784995);
    assert_true(metric_stderr_clustered(x, pairs, 8, &value, &e));
    assert_true(value == 0.21714975905384482);
    assert_true(metric_stderr_clustered(x, halves, 8, &value, &e));
    assert_true(value == 0.109534322735583);
    assert_true(metric_stderr_clustered(x, apart, 8, &value, &e));
    assert_true(fabs(value - metric_stderr(x, 8)) < 1e-16); /* sqrt of the quotient, not of both */
    assert_true(isnan(metric_stderr(x, 1)) && isnan(metric_mean(x, 0)));
    assert_true(metric_stderr_clustered(x, apart, 1, &value, &e) && isnan(value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pope_figures),    cmocka_unit_test(test_pope_rounding),
        cmocka_unit_test(test_mmbench_figures), cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_mme_figures),     cmocka_unit_test(test_mme_rounding),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests_name("metric_figures", tests, NULL, NULL);
}
