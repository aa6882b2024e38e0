/* test_metric.c - the metrics of data/metric against lmms-eval's functions: answers and scores of
 * tests/data/metric (see its make_golden.py), examples by hand, and bytes at random. All doubles
 * must be equal: each is a quotient or a sum that Python rounds in the same places.
 * MHA2MLA_METRIC_CASES=FILE: also those of a file of the same form. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json/jsonc.h"
#include "base/rng.h"
#include "tests/metric_scored.h"
#include "tests/tmpdir.h"

enum { LIST = 300 }; /* references or choices of a case */

/* A case of a golden file, with what its sample borrows. */
struct golden {
    struct jsonc doc;
    struct text references[LIST], choices[LIST];
    struct metric_sample sample;
};

static const cJSON *member(const struct golden *g, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(g->doc.root, key);
}

static struct text text_of(const cJSON *item)
{
    if (!cJSON_IsString(item)) return (struct text){0};
    return (struct text){item->valuestring, strlen(item->valuestring)};
}

static size_t texts_of(const cJSON *list, struct text *out)
{
    const cJSON *item;
    size_t n = 0;

    cJSON_ArrayForEach(item, list)
    {
        assert_true(n < LIST);
        out[n++] = text_of(item);
    }
    return n;
}

static void golden_read(struct golden *g, const char *line)
{
    static const struct jsonc_rules rules = {.plain = true};
    struct err e = {0};

    memset(g, 0, sizeof *g);
    if (!jsonc_parse_as(&g->doc, "golden", line, strlen(line), &rules, &e)) fail_msg("%s", e.msg);
    g->sample.answer = text_of(member(g, "answer"));
    g->sample.question = text_of(member(g, "question"));
    g->sample.references = g->references;
    g->sample.n_references = texts_of(member(g, "references"), g->references);
    if (member(g, "reference")) {
        g->references[0] = text_of(member(g, "reference"));
        g->sample.n_references = 1;
    }
    g->sample.choices = g->choices;
    g->sample.n_choices = texts_of(member(g, "choices"), g->choices);
}

/* What is extracted equals the string, or is nothing as null is. */
static void check_extracted(const char *metric, const struct golden *g, const cJSON *want,
                            const char *line)
{
    struct metric_result r = scored(metric, &g->sample);
    struct text text = text_of(want);

    if (!r.extracted.s != !text.s || r.extracted.n != text.n ||
        (text.n && memcmp(r.extracted.s, text.s, text.n) != 0))
        fail_msg("%s: extracted \"%s\" of %s", metric, r.extracted.s ? r.extracted.s : "null",
                 line);
    metric_result_free(&r);
}

/* mmbench has no references: its letter is compared with each. */
static void check_mmbench(struct golden *g, const char *line)
{
    check_extracted("mmbench", g, member(g, "extracted"), line);
    check_extracted("mmbench-static", g, member(g, "extracted_static"), line);
    for (char c = 'A'; c <= 'E'; c++) {
        const char *want = cJSON_GetStringValue(member(g, "extracted"));
        struct metric_result r;
        g->references[0] = (struct text){&c, 1};
        r = scored("mmbench", &g->sample);
        if ((r.score > 0) != (want && *want == c)) fail_msg("%c: %f of %s", c, r.score, line);
        metric_result_free(&r);
    }
}

static void check_line(const char *line)
{
    static char none[] = "";
    struct golden g;
    const char *metric;

    golden_read(&g, line);
    metric = cJSON_GetStringValue(member(&g, "metric"));
    if (!g.sample.n_references) g.references[g.sample.n_references++] = (struct text){none, 0};
    if (strcmp(metric, "mmbench") == 0) {
        check_mmbench(&g, line);
    } else {
        struct metric_result r = scored(metric, &g.sample);
        double want = member(&g, "score")->valuedouble;
        if (r.score != want) fail_msg("%.17g instead of %.17g: %s", r.score, want, line);
        metric_result_free(&r);
        if (member(&g, "extracted")) check_extracted(metric, &g, member(&g, "extracted"), line);
    }
    jsonc_close(&g.doc);
}

static int check_file(const char *path)
{
    char *text = slurp(path, NULL), *rest = NULL;
    int n = 0;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), n++)
        check_line(line);
    free(text);
    return n;
}

static void test_goldens(void **state)
{
    const char *more = getenv("MHA2MLA_METRIC_CASES");

    (void)state;
    assert_int_equal(check_file("tests/data/metric/lmms_eval.jsonl"), 880);
    assert_int_equal(check_file("tests/data/metric/more.jsonl"), 1426);
    if (more) print_message("# %d cases of %s\n", check_file(more), more);
}

/* ---- examples ---- */

struct example {
    const char *answer, *reference;
    double score;
};

/* Up to an example without an answer. */
static void check_examples(const char *metric, const char *question, const struct example *x)
{
    for (; x->answer; x++) {
        struct text reference = literal(x->reference);
        struct metric_sample s = {.answer = literal(x->answer),
                                  .references = &reference,
                                  .n_references = 1,
                                  .question = literal(question)};
        struct metric_result r = scored(metric, &s);
        if (r.score != x->score)
            fail_msg("%s: %s | %s: %.17g", metric, x->answer, x->reference, r.score);
        metric_result_free(&r);
    }
}

static const struct example exact_examples[] = {{"Yes", "yes", 1},
                                                {"yes.", "Yes", 1},
                                                {"(A)", "A", 1},
                                                {"A. cat", "A", 0},
                                                {"A .", "A", 0},
                                                {"T-shirt", "tshirt", 1},
                                                {"t shirt", "tshirt", 0},
                                                {"don't", "dont", 1},
                                                {"1,000", "1000", 1},
                                                {"3.5", "35", 1},
                                                {"left_side", "leftside", 1},
                                                {"CAFÉ", "café", 1},
                                                {"café", "cafe", 0},
                                                {"“yes”", "yes", 0},
                                                {"yes。", "yes", 0},
                                                {"STRASSE", "straße", 0},
                                                {".", "", 1},
                                                {"yes", "yes ", 0},
                                                {"ΟΔΟΣ", "οδοσ", 0},
                                                {"ΟΔΟΣ", "οδος", 1},
                                                {"ΣΑ Σ", "σα σ", 1},
                                                {"ΑΣ'Α", "ασα", 1},
                                                {"αʰΣ", "αʰς", 1},
                                                {"ʰΣ", "ʰσ", 1},
                                                {0}};
static const struct example ai2d_examples[] = {{"B", "B", 1},
                                               {"B.", "B", 1},
                                               {"b", "B", 1},
                                               {" B. the leaf", "B", 1},
                                               {"B. the leaf\nC. stem", "B", 1},
                                               {"b. the leaf", "B", 0},
                                               {"(B)", "B", 1},
                                               {"B)", "B", 1},
                                               {"B) leaf", "B", 0},
                                               {"B: leaf", "B", 0},
                                               {"B leaf", "B", 0},
                                               {"The answer is B.", "B", 0},
                                               {"**B**", "B", 1},
                                               {"C. B", "B", 0},
                                               {"leaf", "B", 0},
                                               {"B.C.", "B", 1},
                                               {"Ｂ", "B", 0},
                                               {0}};
static const struct example seed_examples[] = {{"A", "A", 1},
                                               {"a", "A", 1},
                                               {"A.", "A", 1},
                                               {"(A)", "A", 0},
                                               {"Apple", "A", 1},
                                               {"Answer: A", "A", 1},
                                               {"A or B", "A", 1},
                                               {"The answer is B", "B", 0},
                                               {"", "A", 0},
                                               {"A", " a ", 1},
                                               {0}};
static const struct example science_examples[] = {
    {"A", "A", 1}, {" a\n", "A", 1}, {"A.", "A", 0}, {0}};
static const struct example letter_examples[] = {{"A.", "A", 1},     {"a.", "A", 0},
                                                 {"A. cat", "A", 1}, {"B. cat", "A", 0},
                                                 {"A) cat", "A", 0}, {0}};

static void test_words(void **state)
{
    (void)state;
    check_examples("exact", NULL, exact_examples);
    check_examples("ai2d", NULL, ai2d_examples);
    check_examples("seed", NULL, seed_examples);
    check_examples("scienceqa", NULL, science_examples);
    check_examples("scienceqa-letter", NULL, letter_examples);
}

static void test_realworldqa(void **state)
{
    static const struct example q1[] = {{"B", "B", 1},
                                        {"B. Straight", "B", 1},
                                        {"Straight", "B", 1},
                                        {"straight", "B", 0},
                                        {"The car goes straight, not Left", "A", 1},
                                        {"(B)", "B", 1},
                                        {"b", "B", 1},
                                        {"A) Left", "A", 1},
                                        {"Option A", "A", 0},
                                        {0}};
    static const struct example q2[] = {
        {"Two", "2", 1},    {"two", "2", 1},  {"Two.", "2", 0},    {"2.", "2", 1},
        {"2 cars", "2", 0}, {" two", "2", 0}, {"eleven", "11", 0}, {0}};
    static const struct example q3[] = {{"Red", "A", 0}, {"five", "C", 1}, {0}};
    static const struct example q4[] = {{"Not sure", "C", 0}, {"None", "B", 1}, {0}};
    static const struct example q5[] = {{"Left", "B", 1}, {"A", "A", 1}, {0}};
    static const struct example later[] = {{"b", "B", 0},
                                           {"Straight", "B", 0},
                                           {"two", "2", 0},
                                           {"2.", "2", 1},
                                           {"The answer is B", "B", 1},
                                           {"Downhill..", "downhill", 1},
                                           {"The correct answer is (B), not (A).", "A", 1},
                                           {"Apple", "a ", 1},
                                           {"BCD", "D", 1},
                                           {0}};

    (void)state;
    check_examples("realworldqa", "Which way?\n\nA. Left\nB. Straight\nC. Right\nPlease", q1);
    check_examples("realworldqa", "How many cars?", q2);
    check_examples("realworldqa", "What?\nA. Red.\nB. Red and white\nC. 5", q3);
    check_examples("realworldqa", "Is it open?\nA. Yes\nB. No\nC. Not sure", q4);
    check_examples("realworldqa", "Where is the U.S. flag?\nA. Left\nB. Right", q5);
    check_examples("realworldqa-letter", NULL, later);
}

static void test_yes_no(void **state)
{
    static const struct example pope[] = {{"Yes", "yes", 1},  {"Yes.", "yes", 0},
                                          {"NO", "no", 1},    {"No, there is not.", "no", 0},
                                          {"maybe", "no", 0}, {0}};
    static const struct example official[] = {{"No, there is not.", "no", 1},
                                              {"", "yes", 1},
                                              {"maybe", "yes", 1},
                                              {"NO", "yes", 1},
                                              {"Yes. not", "yes", 1},
                                              {"It does not", "no", 1},
                                              {"It is\tnot", "yes", 1},
                                              {0}};
    static const struct example mme[] = {{"Yes.", "Yes", 1}, {"y", "yes", 1},    {"N", "no", 1},
                                         {"know", "no", 1},  {"nope", "no", 1},  {"maybe", "no", 0},
                                         {"", "no", 0},      {"abcno", "no", 0}, {0}};

    (void)state;
    check_examples("pope", NULL, pope);
    check_examples("pope-official", NULL, official);
    check_examples("mme", NULL, mme);
}

static const struct example relaxed_examples[] = {{"10.5", "10", 1},
                                                  {"10.51", "10", 0},
                                                  {"105", "100", 1},
                                                  {"1.05", "1", 0},
                                                  {"0.105", "0.1", 1},
                                                  {"0.95", "1", 0},
                                                  {"95", "100", 1},
                                                  {"-10", "10", 0},
                                                  {"0", "0", 1},
                                                  {"0.0", "0", 0},
                                                  {"1e-9", "0", 0},
                                                  {"12%", "12", 0},
                                                  {"0.12", "12%", 1},
                                                  {"0.1255", "12%", 1},
                                                  {"10", "\t10\n", 1},
                                                  {"12.5%", "12%", 1},
                                                  {"1,000", "1000", 0},
                                                  {"1,000", "1,000", 1},
                                                  {"$5", "5", 0},
                                                  {"5 million", "5", 0},
                                                  {"1925", "2019", 1},
                                                  {"yes.", "yes", 0},
                                                  {"2018, 2019", "2018,2019", 0},
                                                  {"nan", "nan", 0},
                                                  {"inf", "inf", 0},
                                                  {"−5", "-5", 0},
                                                  {"10%%", "10%", 1},
                                                  {"%", "%", 1},
                                                  {"10 %", "10%", 1},
                                                  {"blue ", "blue", 1},
                                                  {"blue", "blue ", 0},
                                                  {"1e1", "10", 1},
                                                  {".5", "0.5", 1},
                                                  {"5.", "5", 1},
                                                  {"+5", "5", 1},
                                                  {"1_0", "10", 1},
                                                  {"1__0", "10", 0},
                                                  {"_10", "10", 0},
                                                  {"10_", "10", 0},
                                                  {"1_.0", "1", 0},
                                                  {"0x10", "16", 0},
                                                  {"0x1p4", "16", 0},
                                                  {"nan(1)", "1", 0},
                                                  {"１٠", "10", 1},
                                                  {"\u00a010\u3000", "10", 1},
                                                  {"10",
                                                   "\x1c"
                                                   "10",
                                                   0},
                                                  {"10",
                                                   "\u3000"
                                                   "10",
                                                   1},
                                                  {"1e", "1", 0},
                                                  {".", "1", 0},
                                                  {"𝟏𝟘", "10", 1},
                                                  {"Infinity", "1", 0},
                                                  {"1e400", "2", 0},
                                                  {0}};

static void test_numbers(void **state)
{
    (void)state;
    check_examples("relaxed", NULL, relaxed_examples);
}

static void test_anls(void **state)
{
    static const struct example anls[] = {{"Kraft  foods", "Kraft Foods", 1},
                                          {"Kraft Food", "Kraft Foods", 0.9090909090909091},
                                          {"Kraft", "Kraft Foods", 0},
                                          {"abcd", "abxx", 0.5},
                                          {"abc", "abxx", 0.5},
                                          {"$1,000", "1000", 0.6666666666666667},
                                          {"1O", "10", 0.5},
                                          {"", "x", 0},
                                          {"", "", 1},
                                          {"ab", "ab        ", 1},
                                          {"straße", "STRASSE", 0.7142857142857143},
                                          {"ß", "ss", 0},
                                          {"answer is 42", "42", 0},
                                          {"é", "e", 0},
                                          {0}};
    struct text references[2] = {literal("0.28"), literal("0.28%")};
    struct metric_sample s = {.references = references, .n_references = 2};
    struct metric_result r;

    (void)state;
    check_examples("anls", NULL, anls);
    s.answer = literal("0.28");
    r = scored("anls", &s);
    assert_true(r.score == 1);
    metric_result_free(&r);
    references[0] = literal("hello"), references[1] = literal("world");
    s.answer = literal("hello world");
    r = scored("anls", &s);
    assert_true(r.score == 0);
    metric_result_free(&r);
}

/* Options that are given are taken as they are, without the question. */
static void test_realworldqa_choices(void **state)
{
    const struct text choices[] = {literal("Left"), {0}, literal("Straight")};
    struct text reference = literal("C");
    struct metric_sample s = {.answer = literal("go Straight!"),
                              .references = &reference,
                              .n_references = 1,
                              .choices = choices,
                              .n_choices = 3,
                              .question = literal("A. Straight")};
    struct metric_result r = scored("realworldqa", &s);

    (void)state;
    assert_true(r.score == 1);
    metric_result_free(&r);
}

/* The letter that an answer gives; '-': none. */
static char letter_of(const char *metric, const char *answer, const struct text *choices, size_t n)
{
    struct text reference = literal("A");
    struct metric_sample s = {.answer = literal(answer),
                              .references = &reference,
                              .n_references = 1,
                              .choices = choices,
                              .n_choices = n};
    struct metric_result r = scored(metric, &s);
    char c = '-';

    if (r.extracted.s) {
        assert_int_equal(r.extracted.n, 1);
        c = *r.extracted.s;
    }
    metric_result_free(&r);
    return c;
}

static void check_letters(const char *metric, const char *const (*pairs)[2],
                          const struct text *choices, size_t n)
{
    for (; (*pairs)[0]; pairs++) {
        char c = letter_of(metric, (*pairs)[0], choices, n);
        if (c != *(*pairs)[1]) fail_msg("%s: \"%s\" gives %c", metric, (*pairs)[0], c);
    }
}

static const char *const mmbench_rules[][2] = {{"A", "A"},
                                               {"a", "-"},
                                               {"A.", "A"},
                                               {"(A)", "A"},
                                               {"A)", "A"},
                                               {"A. cat", "A"},
                                               {"The answer is B", "B"},
                                               {"The answer is A", "-"},
                                               {"It is A", "A"},
                                               {"A cat sits here", "A"},
                                               {"A red bird", "A"},
                                               {"dog", "B"},
                                               {"cat or dog", "-"},
                                               {"A or B", "-"},
                                               {"E", "E"},
                                               {"F", "-"},
                                               {":B", "B"},
                                               {"B).", "B"},
                                               {"**B**", "-"},
                                               {"[B]", "-"},
                                               {"B\nB", "B"},
                                               {"a dogfish", "-"},
                                               {"I think C is right", "C"},
                                               {0}};
static const char *const two_options[][2] = {{"C", "C"}, {"banana", "-"}, {0}};
/* decided by the shared extractor alone: no option's text can be in them */
static const char *const extractor_alone[][2] = {{"a", "-"},
                                                 {"(B)", "B"},
                                                 {"The answer is A", "A"},
                                                 {"A or B", "A"},
                                                 {"Answer: D", "D"},
                                                 {"BCD", "D"},
                                                 {"Apple", "A"},
                                                 {"answer is A. B? the answer is A!", "A"},
                                                 {0}};

static void test_letters(void **state)
{
    const struct text animals[] = {literal("cat"), literal("dog"), literal("a red bird"),
                                   literal("fish")};
    const struct text words[] = {literal("yes"), literal("no")};
    const struct text far[] = {literal("~1"), literal("~2"), literal("~3"), literal("~4")};

    (void)state;
    check_letters("mmbench", mmbench_rules, animals, 4);
    check_letters("mmbench", two_options, words, 2);
    check_letters("mmbench-static", extractor_alone, far, 4);
    assert_int_equal(letter_of("mmbench-static", "The correct answer is [B], not [A].", far, 4),
                     'A'); /* the last place of equal ranks */
}

/* Scores among ten people, of whom so many gave the answer. */
static void test_people(void **state)
{
    static const double scores[] = {0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1};

    (void)state;
    for (size_t same = 0; same <= 10; same++) {
        struct text people[10];
        struct metric_sample s = {
            .answer = literal("Two"), .references = people, .n_references = 10};
        for (size_t i = 0; i < 10; i++)
            people[i] = literal(i < same ? "the 2." : "three");
        for (int v2 = 0; v2 < 2; v2++) {
            struct metric_result r = scored(v2 ? "vqav2" : "vqa", &s);
            /* as they agree, vqav2 compares "2" with "the 2." */
            if (r.score != (v2 && same == 10 ? 0 : scores[same]))
                fail_msg("%zu of 10, v%d: %.17g", same, v2 + 1, r.score);
            metric_result_free(&r);
        }
    }
}

/* ---- bad input ---- */

static void check_refused(const char *metric, const struct metric_sample *s, const char *message)
{
    struct metric_result r = {.score = 1};
    struct err e = {0};

    assert_false(metric_score(metric_find(metric), s, &r, &e));
    assert_string_equal(e.msg, message);
    assert_true(r.score == 0 && !r.extracted.s);
}

static void test_refused(void **state)
{
    struct text many[257], one = literal("maybe");

    (void)state;
    assert_null(metric_find("bleu"));
    check_refused("anls", &(struct metric_sample){0},
                  "metric \"anls\": there is no reference to compare with");
    check_refused("pope", &(struct metric_sample){.references = &one, .n_references = 1},
                  "metric \"pope\": the reference must be yes or no");
    check_refused("mmbench", &(struct metric_sample){.references = &one, .n_references = 1},
                  "metric \"mmbench\": the options of the question (choices) are missing");
    for (int i = 0; i < 257; i++)
        many[i] = one;
    check_refused("vqa", &(struct metric_sample){.references = many, .n_references = 257},
                  "metric \"vqa\": 257 references; allowed: up to 256");
    many[1].s = NULL;
    check_refused("exact", &(struct metric_sample){.references = many, .n_references = 2},
                  "metric \"exact\": reference 2 is missing");
}

/* Bytes at random, many of them of the kind that rules look for, in memory of
 * exactly their size. */
static struct text random_text(struct rng *r)
{
    static const char *const often[] = {
        "A", "B. ", "(",  ")",         ".", ",", "%", "yes",  "no",       " ", "\n", "1",
        "_", "'",   "\"", "answer is", "Σ", "İ", "ß", "\xc3", "\xf0\x9f", "٣", "e+", "nan"};
    char s[64];
    struct text t = {.n = 0};

    while (t.n < 40 && rng_below(r, 8)) {
        const char *piece = often[rng_below(r, sizeof often / sizeof *often)];
        if (rng_below(r, 3) == 0)
            s[t.n++] = (char)rng_below(r, 256);
        else
            for (; *piece; piece++)
                s[t.n++] = *piece;
    }
    t.s = malloc(t.n ? t.n : 1);
    assert_non_null(t.s);
    memcpy(t.s, s, t.n);
    return t;
}

enum { TEXTS = 4 };

static void score_random(const struct metric *m, struct rng *r)
{
    struct text t[2 * TEXTS], answer = random_text(r), question = random_text(r);
    struct metric_sample s = {.answer = answer,
                              .question = question,
                              .references = t,
                              .n_references = 1 + rng_below(r, TEXTS),
                              .choices = t + TEXTS,
                              .n_choices = rng_below(r, TEXTS + 1)};
    struct metric_result got;
    struct err e = {0};

    for (int i = 0; i < 2 * TEXTS; i++)
        t[i] = random_text(r);
    if (metric_score(m, &s, &got, &e))
        assert_true(got.score >= 0 && got.score <= 1);
    else
        assert_true(strncmp(e.msg, "metric \"", 8) == 0 && !e.machine);
    metric_result_free(&got);
    for (int i = 0; i < 2 * TEXTS; i++)
        free(t[i].s);
    free(question.s);
    free(answer.s);
}

static void test_random(void **state)
{
    struct rng r;

    (void)state;
    rng_seed(&r, 1, 0); /* the seed is 1 */
    for (int i = 0; i < 4000; i++)
        for (const struct metric *m = metrics; m->name; m++)
            if (!m->measured) score_random(m, &r);
}

/* Invalid bytes are U+FFFD, one for each part that a decoder replaces. */
static void test_invalid(void **state)
{
    struct text reference = literal("\ufffd\ufffdx");
    struct metric_sample s = {
        .answer = literal("\xff\xe2\x82x"), .references = &reference, .n_references = 1};
    struct metric_result r = scored("exact", &s);

    (void)state;
    assert_true(r.score == 1);
    assert_string_equal(r.extracted.s, "\ufffd\ufffdx");
    metric_result_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),     cmocka_unit_test(test_words),
        cmocka_unit_test(test_realworldqa), cmocka_unit_test(test_realworldqa_choices),
        cmocka_unit_test(test_yes_no),      cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_anls),        cmocka_unit_test(test_letters),
        cmocka_unit_test(test_people),      cmocka_unit_test(test_refused),
        cmocka_unit_test(test_random),      cmocka_unit_test(test_invalid),
    };

    return cmocka_run_group_tests_name("metric", tests, NULL, NULL);
}
