/* The report of a run whose directory is filled in here: two points, the second one not
 * finished. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/template.h"
#include "tests/tmpdir.h"
#include "train/score/score.h"
#include "train/report/report.h"
#include "base/units.h"

#include <errno.h>
#include <math.h>

#include "tests/printed.h"
#include "tests/tiny_run.h"

static void must(bool ok, const struct err *e)
{
    if (!ok) fail_msg("%s", e->msg);
}

static void assert_says(const char *text, const char *what)
{
    if (strstr(text, what)) return;
    fputs(text, stderr); /* longer than cmocka prints */
    fail_msg("the text lacks: %s", what);
}

/* Scores of two kinds, `right` of 6 and all of 4, and the matching answers. */
static void put_scores(const struct run *r, const char *dir, int right)
{
    struct score kinds[2] = {{.name = "colour", .n = 6, .right = right},
                             {.name = "yes_no", .n = 4, .right = 4}};
    struct scores s = {.cache = cache_kind_f32(),
                       .all = {.n = 10, .right = right + 4},
                       .curve = {.n = 10, .right = right + 4},
                       .kinds = kinds,
                       .n = 2};
    struct err e;
    char *path = run_path(r, &e, "%s", dir), *file;
    FILE *fp;

    s.stats.cached_tokens = 10;
    s.stats.cache_bytes = 5120;
    must(file_mkdirs(path, &e), &e);
    file = run_path(r, &e, "%s/scores.json", dir);
    must(scores_save(&s, file, &e), &e);
    free(file);
    file = run_path(r, &e, "%s/answers.jsonl", dir);
    fp = fopen(file, "w");
    assert_non_null(fp);
    for (int64_t i = 0; i < 10; i++) {
        bool ok = i < right || i >= 6;
        fprintf(fp,
                "{\"set\":\"t\",\"id\":\"%d\",\"prompt\":\"USER: <image>\\nWhat is %d? "
                "ASSISTANT: x|%d</s>\",\"expected\":\"x|%d\",\"answer\":\"%s|%d\",\"right\":%s}\n",
                (int)i, (int)i, (int)i, (int)i, ok ? "x" : "y", (int)i, ok ? "true" : "false");
    }
    fclose(fp);
    free(file);
    free(path);
}

static void put_metrics(struct run *r)
{
    struct err e;

    for (int step = 0; step <= 20; step += 10) {
        struct metrics_value line[] = {
            metric_tag("point", "rope8-rank2"), metric_tag("phase", "stage2"),
            metric_tag("event", "eval"),        metric_num("step", step),
            metric_num("tokens", 100 * step),   metric_num("score", 0.5 + step / 100.0)};
        must(metrics_write(&r->metrics, line, sizeof line / sizeof *line, &e), &e);
    }
    struct metrics_value end[] = {metric_tag("point", "rope8-rank2"),
                                  metric_tag("phase", "stage2"),
                                  metric_tag("event", "end"),
                                  metric_num("step", 20),
                                  metric_num("tokens", 2000),
                                  metric_num("seconds", 187),
                                  metric_num("trained_parameters", 1280),
                                  metric_num("parameters", 12800)};
    must(metrics_write(&r->metrics, end, sizeof end / sizeof *end, &e), &e);
}

/* A saved MLA model: 16 rotated values and so wide a latent, instead of 64. */
static void put_model(struct run *r, const char *point, int64_t latent)
{
    struct model m = {0};
    struct err e;
    char *dir = run_path(r, &e, "%s/svd/model", point);

    must(make_baseline_model(r, &m, &e), &e);
    tiny_convert(&m, 8, latent);
    must(file_mkdirs(dir, &e) && model_save(&m, dir, DT_F32, false, &e), &e);
    model_close(&m);
    free(dir);
}

static void open_run(struct run *r, void **state, const char *const *more)
{
    struct err e;

    tiny_run(r, state, more);
    must(file_mkdirs(r->c.run.dir, &e), &e);
    r->chat = *template_find("vicuna", &e);
    must(metrics_open(&r->metrics, tmpdir_path(state, "run/metrics.jsonl"), &e), &e);
}

static int rows_with(const char *text, const char *what)
{
    int n = 0;

    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

static void test_half_done(void **state)
{
    const char *const more[] = {"evaluate.examples=4", NULL};
    struct run r;
    struct err e;
    char *text;

    open_run(&r, state, more);
    put_scores(&r, "base", 4);
    put_scores(&r, "rope8-rank2/svd", 0);
    put_scores(&r, "rope8-rank2/stage2", 2);
    put_metrics(&r);
    put_model(&r, "rope8-rank2", 4);
    must(step_report(&r, &e), &e);
    text = slurp(tmpdir_path(state, "run/report.md"), NULL);
    assert_says(text, "# run\n");
    assert_says(text, "| base | 64 | 100.00 % | 512 | 80.00 % | – | – | – | – |\n");
    assert_says(
        text, "| rope8-rank2 | 20 | 31.25 % | 512 | 80.00 % | – | 40.00 % | 60.00 % | 75.00 % |\n");
    assert_says(text, "| rope8-rank4 | – | – | – | 80.00 % | – | – | – | – |\n");
    assert_says(text, "| colour | 6 | 66.67 % | – | 0.00 % | 33.33 % | – | – |\n");
    assert_says(text, "| yes\\_no | 4 | 100.00 % | – | 100.00 % | 100.00 % | – | – |\n");
    assert_says(text, "| rope8-rank2 | stage 2 | 1,280 | 10.00 % | 20 | 2,000 | 3m 07s |\n");
    assert_says(text, "| rope8-rank4 | stage 2 | – | – | – | – | – |\n");
    assert_says(text, "| rope8 | stage 1 | – | – | – | – | – |\n");
    /* 2 and 3 are right in base and wrong after conversion, 4 and 5 are wrong in both; 0, 1, 6 .. 9
     * are right in both */
    assert_says(text, "| question | expected | base | rope8-rank2 |\n");
    /* 2 of 10 lost, none won: SE = sqrt((2 - 0.4) / 90) */
    assert_says(text,
                "| rope8-rank2 | t | exact_match | 10 | -0.2000 ± 0.1333 | -0.4613 to +0.0613 | "
                "75.00 % | ");
    assert_says(text, " | 0.25 | no difference shown |\n");
    assert_says(text, "| What is 0? | x\\|0 | x\\|0 | x\\|0 |\n");
    assert_says(text, "| What is 2? | x\\|2 | x\\|2 | ✗ y\\|2 |\n");
    assert_says(text, "| What is 4? | x\\|4 | ✗ y\\|4 | ✗ y\\|4 |\n");
    assert_says(text, "| What is 7? | x\\|7 | x\\|7 | x\\|7 |\n");
    assert_int_equal(rows_with(text, "| What is "), 4);
    free(text);
    text = slurp(tmpdir_path(state, "run/recovery.tsv"), NULL);
    assert_says(text, "31.2 % of the cache (rope 8, rank 2)");
    assert_says(text, "\n0\t1000\t0.59999999999999998\t");
    free(text);
    assert_true(is_there(tmpdir_path(state, "run/metrics.h5")));
    run_close(&r);
}

/* The same model with several kinds of cache: a row each that is there, beside its own kind; of the
 * original none with rotated latents. */
static void test_caches(void **state)
{
    const char *const more[] = {"evaluate.caches=[\"q8+q4\",\"q8+q4+rotate\",\"f32\"]",
                                "rank.budget=heads", "svd.refit=true", "stage2.loss=distill", NULL};
    struct run r;
    struct err e;
    char *text;

    open_run(&r, state, more);
    put_scores(&r, "base", 6);
    put_scores(&r, "base/cache-q8+q4", 6);
    put_scores(&r, "rope8-rank2/svd", 5);
    put_scores(&r, "rope8-rank2/stage2", 5);
    put_scores(&r, "rope8-rank2/stage2/cache-q8+q4", 2);
    put_scores(&r, "rope8-rank2/stage2/cache-q8+q4+rotate", 5);
    put_model(&r, "rope8-rank2", 4);
    must(step_report(&r, &e), &e);
    text = slurp(tmpdir_path(state, "run/report.md"), NULL);
    /* 5120 bytes of 10 tokens; the original has 2 layers of 64 values, in bf16 256 bytes */
    assert_says(text,
                "| base | f32 | 512 | 200.00 % | 100.00 % |  |\n"
                "| base | q8+q4 | 512 | 200.00 % | 100.00 % | +0.00 ± 0.00: no difference shown |\n"
                "| rope8-rank2 after SVD | f32 | 512 | 200.00 % | 90.00 % |  |\n"
                "| rope8-rank2 stage 2 | f32 | 512 | 200.00 % | 90.00 % |  |\n");
    assert_says(text, "; rank.budget heads; svd.refit true |\n");
    assert_says(text, "; stage 2: kv+rope, distilled (weight 0.5, temperature 1) |\n");
    /* 3 of 10 lost: sqrt((.3 - .09) / 9) */
    assert_says(text,
                "| rope8-rank2 stage 2 | q8+q4 | 512 | 200.00 % | 60.00 % | -30.00 ± 15.28 |\n"
                "| rope8-rank2 stage 2 | q8+q4+rotate | 512 | 200.00 % | 90.00 % | +0.00 ± 0.00: "
                "no difference shown |\n\n");
    free(text);
    text = slurp(tmpdir_path(state, "run/caches.tsv"), NULL);
    assert_string_equal(text,
                        "curve\tcache\tafter_svd\tafter_stage2\tkind\tlabel\n"
                        "0\t512\tnan\t100\tf32\tbase\n0\t512\tnan\t100\tq8+q4\tbase\n"
                        "1\t512\t90\tnan\tf32\trope8-rank2\n1\t512\tnan\t90\tf32\trope8-rank2\n"
                        "1\t512\tnan\t60\tq8+q4\trope8-rank2\n"
                        "2\t512\tnan\t90\tq8+q4+rotate\trope8-rank2, +rotate\n");
    free(text);
    run_close(&r);
}

/* Rules of eviction: the original's, as curves of their own. */
static void test_evicted(void **state)
{
    const char *const more[] = {
        "evaluate.caches=[\"h2o:0.5\",\"tova:0.5\",\"q8\",\"h2o:0.25\",\"hqq2\"]", NULL};
    struct run r;
    struct err e;
    char *text;

    open_run(&r, state, more);
    put_scores(&r, "base", 6);
    put_scores(&r, "base/cache-q8", 6);
    put_scores(&r, "base/cache-h2o:0.5", 5);
    put_scores(&r, "base/cache-h2o:0.25", 2);
    put_scores(&r, "base/cache-tova:0.5", 5);
    put_scores(&r, "base/cache-hqq2", 2);
    put_scores(&r, "rope8-rank2/stage2", 5);
    put_model(&r, "rope8-rank2", 4);
    must(step_report(&r, &e), &e);
    text = slurp(tmpdir_path(state, "run/report.md"), NULL);
    assert_says(text,
                "h2o and tova: the original, holding that share of the tokens (docs/method.md)");
    assert_says(text, "| base | h2o:0.25 | 512 | 200.00 % | 60.00 % | -40.00 ± 16.33 |\n");
    free(text);
    text = slurp(tmpdir_path(state, "run/caches.tsv"), NULL);
    assert_string_equal(text, "curve\tcache\tafter_svd\tafter_stage2\tkind\tlabel\n"
                              "0\t512\tnan\t100\tf32\tbase\n0\t512\tnan\t100\tq8\tbase\n"
                              "1\t512\tnan\t90\th2o:0.5\tbase, h2o\n"
                              "1\t512\tnan\t60\th2o:0.25\tbase, h2o\n"
                              "2\t512\tnan\t90\ttova:0.5\tbase, tova\n"
                              "3\t512\tnan\t60\thqq2\tbase, hqq\n"
                              "4\t512\tnan\t90\tf32\trope8-rank2\n");
    free(text);
    run_close(&r);
}

/* Ten questions, of which the ones with a 1 are answered right. */
static void put_answers(const struct run *r, const char *dir, const char *right)
{
    struct scores s = {.cache = cache_kind_f32(), .all = {.n = 10}};
    struct err e;
    char *file;
    FILE *fp;

    for (int i = 0; i < 10; i++)
        s.all.right += right[i] == '1';
    s.curve = s.all;
    file = run_path(r, &e, "%s", dir);
    must(file_mkdirs(file, &e), &e);
    free(file);
    file = run_path(r, &e, "%s/scores.json", dir);
    must(scores_save(&s, file, &e), &e);
    free(file);
    file = run_path(r, &e, "%s/answers.jsonl", dir);
    fp = fopen(file, "w");
    assert_non_null(fp);
    for (int i = 0; i < 10; i++)
        fprintf(fp, "{\"id\":\"%d\",\"expected\":\"x\",\"answer\":\"%c\",\"right\":%s}\n", i,
                right[i] == '1' ? 'x' : 'y', right[i] == '1' ? "true" : "false");
    fclose(fp);
    free(file);
}

/* Four recipes: the first has two sizes of the cache, the second other points of the same sizes,
 * the others a third size, and no scores of stage 2. */
static void put_recipes(struct run *r)
{
    put_model(r, "plain-rope8-rank2", 4);
    put_model(r, "plain-rope8-rank4", 8);
    put_model(r, "ours-rope8-rank2", 4);
    put_model(r, "ours-rope8-rank4", 8);
    put_model(r, "more-rope8-rank6", 12);
    put_answers(r, "base", "1111111110");
    put_answers(r, "plain-rope8-rank4/svd", "1111000000");
    put_answers(r, "plain-rope8-rank4/stage2", "1111111100");
    put_answers(r, "plain-rope8-rank2/svd", "0000000000");
    put_answers(r, "plain-rope8-rank2/stage2", "1111110000");
    put_answers(r, "ours-rope8-rank4/svd", "1110111000");    /* 3 won, 1 lost */
    put_answers(r, "ours-rope8-rank4/stage2", "1111111100"); /* the same */
    put_answers(r, "ours-rope8-rank2/svd", "1111111000");    /* 7 won */
    put_answers(r, "ours-rope8-rank2/stage2", "0000000000"); /* 6 lost */
    put_answers(r, "more-rope8-rank6/svd", "1111100000");
    put_model(r, "last-rope8-rank6", 12);
    put_answers(r, "last-rope8-rank6/svd", "1111110000"); /* 1 won, beside more */
}

static const char recipes[] =
    "sweep.recipe=[{\"name\":\"plain\"},{\"name\":\"ours\",\"set\":[\"svd.refit=true\","
    "\"svd.samples=8\"]},{\"name\":\"more\",\"set\":[\"sweep.low_rank=[6]\"]},"
    "{\"name\":\"last\",\"set\":[\"sweep.low_rank=[6]\",\"svd.steps=1\"]}]";

/* d = (won - lost) / 10 and sqrt(((won + lost) / 10 - d^2) / 9): of 3 and 1 0.2 and 0.2, of 7
 * and 0 0.7 and 0.15275, of 0 and 6 -0.6 and 0.16330, of 1 and 0 0.1 and 0.1. */
static void test_recipes(void **state)
{
    static const char *const rows[] = {
        "| recipe | its settings |\n|---|---|\n| plain | the run's |\n"
        "| ours | svd.refit=true, svd.samples=8 |\n",
        "The scores are exact match. \"Beside the first\": the difference from the first recipe",
        "| cache | point | after SVD | beside the first | stage 2 | beside the first |\n"
        "|--:|---|--:|--:|--:|--:|\n"
        "| 43.75 % | more-rope8-rank6 | 50.00 % |  | – |  |\n"
        "| 43.75 % | last-rope8-rank6 | 60.00 % | +10.00 ± 10.00: no difference shown | – | – |\n"
        "| 37.50 % | plain-rope8-rank4 | 40.00 % |  | 80.00 % |  |\n"
        "| 37.50 % | ours-rope8-rank4 | 60.00 % | +20.00 ± 20.00: no difference shown | 80.00 % | "
        "+0.00 ± 0.00: no difference shown |\n"
        "| 31.25 % | plain-rope8-rank2 | 0.00 % |  | 60.00 % |  |\n"
        "| 31.25 % | ours-rope8-rank2 | 70.00 % | +70.00 ± 15.28 | 0.00 % | -60.00 ± 16.33 |\n",
    };
    const char *const more[] = {recipes, NULL};
    struct run r;
    struct err e;
    char *text;

    open_run(&r, state, more);
    put_recipes(&r);
    int was = printed_begin(state);
    bool ok = step_report(&r, &e);
    text = printed_end(state, was);
    must(ok, &e);
    assert_says(text,
                "\nbeside the first               cache   after SVD, points of exact match    "
                "stage 2\n"
                "last-rope8-rank6             43.75 %   +10.00 ± 10.00: no difference shown -\n"
                "ours-rope8-rank4             37.50 %   +20.00 ± 20.00: no difference shown "
                "+0.00 ± 0.00: no difference shown\n"
                "ours-rope8-rank2             31.25 %   +70.00 ± 15.28                      "
                "-60.00 ± 16.33\n");
    free(text);
    text = slurp(tmpdir_path(state, "run/report.md"), NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_says(text, rows[i]);
    assert_says(text,
                "± one standard error of the differences of the same questions, clustered by");
    free(text);
    text = slurp(tmpdir_path(state, "run/recipes.tsv"), NULL);
    assert_says(text, "curve\tcache\tafter_svd\tafter_stage2\tsvd_error\tstage2_error\tlabel\n"
                      "0\t31.25\t0\t60\tnan\tnan\tplain\n0\t37.5\t40\t80\tnan\tnan\tplain\n"
                      "1\t31.25\t70\t0\t15.27");
    assert_says(text, "\tours\n2\t43.75\t50\tnan\tnan\tnan\tmore\n3\t43.75\t60\tnan\t10\t");
    free(text);
    run_close(&r);
}

/* Tokens of four texts that are right. */
static void put_tokens(struct run *r, const char *dir, int more)
{
    static const int n[] = {10, 20, 30, 40}, right[] = {5, 10, 15, 20}, gain[] = {0, 2, 1, 0};
    struct err e;
    char *path = run_path(r, &e, "%s/answers.jsonl", dir);
    FILE *fp = path ? fopen(path, "w") : NULL;

    assert_non_null(fp);
    for (int i = 0; i < 4; i++)
        fprintf(fp,
                "{\"set\":\"s\",\"id\":\"%d\",\"tokens\":\"%d\",\"metric\":\"tokens\","
                "\"n\":%d,\"right_tokens\":%d,\"loss\":%d}\n",
                i, i, n[i], right[i] + more * gain[i], 2 * n[i]);
    assert_int_equal(fclose(fp), 0);
    free(path);
}

/* Ten texts of n tokens, each with so much -log p. */
static void put_texts(struct run *r, const char *dir, double loss, int n)
{
    struct err e;
    char *path = run_path(r, &e, "%s/answers.jsonl", dir);
    FILE *fp = path ? fopen(path, "w") : NULL;

    assert_non_null(fp);
    for (int i = 0; i < 10; i++)
        fprintf(fp,
                "{\"set\":\"s\",\"id\":\"%d\",\"metric\":\"tokens\",\"n\":%d,\"right_tokens\":%d,"
                "\"loss\":%g}\n",
                i, n, i % 3, loss * n);
    assert_int_equal(fclose(fp), 0);
    free(path);
}

static void test_recipes_of_tokens(void **state)
{
    const char *const more[] = {recipes, "evaluate.score=tokens", NULL};
    struct run r;
    struct err e;
    char *text;

    open_run(&r, state, more);
    put_recipes(&r);
    put_tokens(&r, "plain-rope8-rank2/stage2", 0);
    put_tokens(&r, "ours-rope8-rank2/stage2", 1);
    must(step_report(&r, &e), &e);
    text = slurp(tmpdir_path(state, "run/report.md"), NULL);
    /* x - y is 0, 2, 1, 0 of 10, 20, 30, 40 tokens: D = 3 / 100, left -0.3, 1.4, 0.1, -1.2, of
     * which the error is sqrt(3.5 / 3 / 4) / 25 */
    assert_says(text, "+3.00 ± 2.16: no difference shown");
    assert_says(text, "differences of the same samples");
    free(text);
    run_close(&r);
}

/* Ten questions about five pictures, of which the ones with a 1 are answered right. */
static void put_pictures(const struct run *r, const char *dir, const char *right)
{
    struct err e;
    char *path;
    FILE *fp;

    put_answers(r, dir, right);
    path = run_path(r, &e, "%s/answers.jsonl", dir);
    fp = fopen(path, "w");
    assert_non_null(fp);
    for (int i = 0; i < 10; i++)
        fprintf(
            fp,
            "{\"set\":\"t\",\"id\":\"%d\",\"image\":\"%d\",\"expected\":\"x\",\"answer\":\"%c\","
            "\"right\":%s}\n",
            i, i / 2, right[i] == '1' ? 'x' : 'y', right[i] == '1' ? "true" : "false");
    assert_int_equal(fclose(fp), 0);
    free(path);
}

/* One difference has one error and one verdict, whichever table it stands in. Of two pictures both
 * answers are lost, of three none: d is -1 four times of ten, s^2 = 2.4 / 9, and over the pictures
 * (sum d)^2 - sum d^2 adds 2 * 0.72 + 3 * 0.32, over 10^2: sqrt(0.024 / 0.9 + 0.024) =
 * 0.2251. */
static void test_one_error(void **state)
{
    const char *const more[] = {"evaluate.caches=[\"q8+q4\"]", NULL};
    struct run r;
    struct err e;
    char *text;

    open_run(&r, state, more);
    put_pictures(&r, "base", "1111111111");
    put_pictures(&r, "base/cache-q8+q4", "0000111111");
    put_pictures(&r, "rope8-rank2/stage2", "0000111111");
    put_model(&r, "rope8-rank2", 4);
    must(step_report(&r, &e), &e);
    text = slurp(tmpdir_path(state, "run/report.md"), NULL);
    assert_says(text, "| 60.00 % | -40.00 ± 22.51: no difference shown |\n");
    assert_says(text, "| exact_match | 10 | -0.4000 ± 0.2251 | -0.8412 to +0.0412 | 60.00 % | ");
    assert_says(text, " | – | no difference shown |\n"); /* without McNemar's p */
    free(text);
    run_close(&r);
}

/* What was chosen is said, and what has no part in it is not. */
static void test_conversion(void **state)
{
    static const struct {
        const char *set[4], *said;
    } rows[] = {
        {{"rank.strategy=mkl"},
         "RoPE pairs kept by mkl; MD-SVD: joint, factors apart for images and text, from "
         "activations |"},
        {{"rank.basis=cross", "svd.statistics=blocks", "svd.steps=7", "svd.refit=true"},
         "one rotated key of all heads' components; MD-SVD: joint, factors apart for images and "
         "text, from activations; rank.basis cross; svd.statistics blocks; svd.refit true; "
         "svd.steps 7 |"},
        {{"svd.statistics=received", "svd.steps=7", "svd.decoupled=false"},
         "MD-SVD: joint, the same factors for all tokens, from activations; svd.statistics "
         "received |"},
        {{"svd.method=none", "svd.steps=7"}, "; nothing compressed |"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *more[5] = {NULL};
        struct run r;
        struct err e;
        char *text;

        memcpy(more, rows[i].set, sizeof rows[i].set);
        open_run(&r, state, more);
        put_answers(&r, "base", "1111100000");
        must(step_report(&r, &e), &e);
        text = slurp(tmpdir_path(state, "run/report.md"), NULL);
        assert_says(text, rows[i].said);
        free(text);
        run_close(&r);
    }
}

/* Of texts, perplexity is compared too, and a rise is worse. */
static void test_texts_against_base(void **state)
{
    const char *const more[] = {"evaluate.score=tokens", NULL};
    struct run r;
    struct err e;
    char *text;

    open_run(&r, state, more);
    put_answers(&r, "base", "1111111110");
    put_answers(&r, "rope8-rank2/stage2", "1111111110");
    put_texts(&r, "base", 1, 10);
    put_texts(&r, "rope8-rank2/stage2", 2, 10);
    must(step_report(&r, &e), &e);
    text = slurp(tmpdir_path(state, "run/report.md"), NULL);
    assert_says(text, "| rope8-rank2 | s | tokens_right | 10 | +0.0000 ");
    /* e^2 - e, and e / e^2 */
    assert_says(text, "| rope8-rank2 | s | perplexity | 10 | +4.6708 ");
    assert_says(text, " | 36.79 % | 36.79 to 36.79 % | – | worse |\n");
    free(text);
    put_texts(&r, "rope8-rank2/stage2", 2, 9); /* another window */
    int was = printed_begin(state);
    bool ok = step_report(&r, &e);
    text = printed_end(state, was);
    must(ok, &e);
    assert_says(text,
                "rope8-rank2 is not compared with the base: \"0\": 10 of its tokens are scored in "
                "one and 9 in the other");
    free(text);
    run_close(&r);
}

/* Stage 2 was scored, but the file is gone that its curve was in. */
static void test_metrics_lost(void **state)
{
    const char *const more[] = {NULL};
    struct run r;
    struct err e;
    char *text;

    open_run(&r, state, more);
    put_scores(&r, "base", 4);
    put_scores(&r, "rope8-rank2/stage2", 2);
    int was = printed_begin(state);
    bool ok = step_report(&r, &e);
    text = printed_end(state, was);
    must(ok, &e);
    assert_says(text, "no curve of rope8-rank2: ");
    assert_says(text, "/run/metrics.jsonl lacks its scores");
    assert_null(strstr(text, "has not been scored"));
    free(text);
    run_close(&r);
}

/* Without any scores there is a report, full of dashes, and no curve. */
static void test_nothing_yet(void **state)
{
    const char *const more[] = {NULL};
    struct run r;
    struct err e;
    char *text;

    open_run(&r, state, more);
    must(step_report(&r, &e), &e);
    text = slurp(tmpdir_path(state, "run/report.md"), NULL);
    assert_says(text, "| rope8-rank2 | – | – | – | – | – | – | – | – |\n");
    assert_null(strstr(text, "recovery.png"));
    assert_null(strstr(text, "Sample answers"));
    assert_false(is_there(tmpdir_path(state, "run/recovery.tsv")));
    free(text);
    run_close(&r);
}

static void test_broken_answers(void **state)
{
    const char *const more[] = {NULL};
    struct run r;
    struct err e;

    open_run(&r, state, more);
    put_scores(&r, "base", 4);
    static const char broken[] = "{\"id\":\"0\",\"answer\":\"x\"}\n{\"id\":";

    spill(tmpdir_path(state, "run/base/answers.jsonl"), broken, strlen(broken));
    assert_false(step_report(&r, &e));
    assert_says(e.msg, "answers.jsonl:2:7: a value is needed");
    assert_says(e.msg, "delete it and scores.json, and resume");
    assert_false(is_there(tmpdir_path(state, "run/report.md")));
    run_close(&r);
}

static void test_units(void **state)
{
    char t[UNIT_TEXT];

    (void)state;
    assert_string_equal(unit_count(t, 0), "0");
    assert_string_equal(unit_count(t, 999), "999");
    assert_string_equal(unit_count(t, 1234567), "1,234,567");
    assert_string_equal(unit_count(t, -1234), "-1,234");
    assert_string_equal(unit_bytes(t, 1023), "1023 B");
    assert_string_equal(unit_bytes(t, 1536), "1.50 KiB");
    assert_string_equal(unit_bytes(t, 0x1p50), "1024.00 TiB");
    assert_string_equal(unit_seconds(t, 4.25), "4.2 s");
    assert_string_equal(unit_seconds(t, 59.97), "1m 00s");
    assert_string_equal(unit_seconds(t, 7505), "2h 05m");
    assert_string_equal(unit_percent(t, 0.931), "93.10 %");
    assert_string_equal(unit_percent(t, NAN), "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_conversion),
        tmpdir_test(test_recipes),
        tmpdir_test(test_recipes_of_tokens),
        tmpdir_test(test_half_done),
        tmpdir_test(test_nothing_yet),
        tmpdir_test(test_metrics_lost),
        tmpdir_test(test_broken_answers),
        tmpdir_test(test_caches),
        tmpdir_test(test_evicted),
        tmpdir_test(test_one_error),
        tmpdir_test(test_texts_against_base),
        cmocka_unit_test(test_units),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
