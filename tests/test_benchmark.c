/* test_benchmark.c - how a sample says what it is scored by (data/benchmark.h), and files of
 * answers (data/answers.h): what is read, refused, written and read again. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "data/answers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct text literal(const char *s)
{
    return (struct text){(char *)(uintptr_t)s, s ? strlen(s) : 0};
}

/* Reads one and completes it; the caller frees it. */
static bool read_json(struct benchmark *b, const char *json, const char *instead, struct err *e)
{
    const struct benchmark_turns turns = {.answer = literal("yes"),
                                          .question = literal("<image>\nIs it? A. Yes"),
                                          .id = literal("set/1000241")};
    const struct jsonc_rules rules = {.zeros = true};
    struct jsonc doc;
    bool ok;

    assert_true(jsonc_parse_as(&doc, "f", json, strlen(json), &rules, e));
    ok = benchmark_read(b, &doc, doc.root, instead, e) && benchmark_complete(b, &turns, e);
    jsonc_close(&doc);
    if (!ok) benchmark_free(b);
    return ok;
}

static void test_defaults(void **state)
{
    struct benchmark b;
    struct err e = {0};

    (void)state;
    assert_true(read_json(&b, "{\"answers\":[\"a\"],\"group\":7}", NULL, &e));
    assert_true(!b.metric && !b.n_answers && !b.group.s); /* plain: none of it says anything */
    benchmark_free(&b);
    assert_true(read_json(&b, "{\"metric\":\"pope\",\"category\":\"random\"}", NULL, &e));
    assert_string_equal(b.metric->name, "pope");
    assert_true(b.n_answers == 1 && strcmp(b.answers[0].s, "yes") == 0);
    assert_string_equal(b.question_id.s, "set/1000241");
    assert_true(!b.question.s && b.n_categories == 1);
    benchmark_free(&b);
    assert_true(read_json(&b, "{\"metric\":\"realworldqa\"}", NULL, &e));
    assert_true(b.question.n == strlen("Is it? A. Yes"));
    assert_memory_equal(b.question.s, "Is it? A. Yes", b.question.n);
    benchmark_free(&b);
    assert_true(read_json(&b, "{\"metric\":\"pope\"}", "anls", &e));
    assert_string_equal(b.metric->name, "anls");
    benchmark_free(&b);
    assert_true(read_json(&b, "{\"metric\":\"pope\"}", "plain", &e) && !b.metric);
}

static void test_refused(void **state)
{
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"{\"metric\":\"bleu\"}", "f:1:11: \"metric\" is \"bleu\"; allowed: plain, exact, ai2d"},
        {"{\"metric\":7}", "f:1:11: \"metric\" is 7; allowed"},
        {"{\"metric\":\"anls\",\"answers\":\"a\"}",
         "f:1:28: \"answers\" must be a list of strings"},
        {"{\"metric\":\"anls\",\"answers\":[\"a\",null]}", "f:1:33: \"answers\" must be a list"},
        {"{\"metric\":\"mmbench\",\"choices\":[\"a\",1]}", "or null where an option is missing"},
        {"{\"metric\":\"mmbench\"}", "metric \"mmbench\": the options of the question (choices)"},
        {"{\"metric\":\"mmbench\",\"choices\":[\"a\"],\"question_id\":\"x\"}",
         "must end in the row's index"},
        {"{\"metric\":\"mme\"}", "metric \"mme\": \"group\" is missing"},
        {"{\"metric\":\"pope\",\"answers\":[\"perhaps\"]}", "the reference must be yes or no"},
        {"{\"metric\":\"anls\",\"group\":[1]}", "\"group\" must be a string or a number"},
        {"{\"metric\":\"anls\",\"category\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "a list of up to 4"},
        {"{\"metric\":\"anls\",\"category\":[1]}", "\"category\" must be a list of strings"},
    };
    struct benchmark b;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (read_json(&b, cases[i].json, NULL, &e)) fail_msg("%s: is read", cases[i].json);
        if (!strstr(e.msg, cases[i].says)) fail_msg("%s: says %s", cases[i].json, e.msg);
    }
}

/* What answers.jsonl repeats reads back as the same, with the same score and item. */
static void test_written(void **state)
{
    static const char json[] =
        "{\"metric\":\"mmbench\",\"answers\":[\"B\"],\"choices\":[\"c\\u0000t\",\"dog\",null,"
        "\"fish\"],"
        "\"category\":[\"p\",\"q\"],\"group\":\"241\",\"question_id\":1000241}";
    struct benchmark b, again;
    struct metric_result r;
    struct metric_item one, two;
    struct err e;
    cJSON *object = cJSON_CreateObject();
    char *text;

    (void)state;
    assert_true(read_json(&b, json, NULL, &e));
    assert_true(benchmark_write(&b, object));
    text = jsonc_print(object, false, &e);
    assert_non_null(text);
    struct jsonc_rules rules = {.zeros = true};
    struct jsonc doc;
    assert_true(jsonc_parse_as(&doc, "again", text, strlen(text), &rules, &e));
    assert_true(benchmark_read(&again, &doc, doc.root, NULL, &e));
    jsonc_close(&doc);
    assert_true(again.n_choices == 4 && !again.choices[2].s && again.n_categories == 2);
    assert_string_equal(again.question_id.s, "1000241");
    assert_true(benchmark_score(&b, literal(""), literal(" a dog\n"), &r, &e) && r.score == 1);
    one = benchmark_item(&b, &r, literal("p.png"), literal("x"));
    two = benchmark_item(&again, &r, literal("q.png"), literal("y"));
    assert_true(one.index == 1000241 && one.cluster == two.cluster && two.index == one.index);
    assert_true(one.score == 1 && !one.undecided && strcmp(one.kind, "p") == 0);
    assert_true(benchmark_unit(&b) == benchmark_unit(&again) && benchmark_unit(&b));
    metric_result_free(&r);
    benchmark_free(&b);
    benchmark_free(&again);
    cJSON_Delete(object);
    free(text);
}

/* ---- files of answers ---- */

static bool open_text(void **state, struct answers *a, const char *text,
                      const struct answers_keys *keys, struct err *e)
{
    const char *path = tmpdir_path(state, "a.jsonl");

    spill(path, text, strlen(text));
    return answers_open(a, path, keys, NULL, e);
}

static void test_answers(void **state)
{
    struct answers a;
    struct err e;

    assert_true(open_text(state, &a,
                          "{\"id\":\"1\",\"answer\":\" x \",\"expected\":\"x\",\"image\":\"p\"}\n"
                          "{\"question_id\":2,\"text\":\"y\",\"expected\":\"x\",\"image\":\"p\"}\n"
                          "{\"prediction\":\"Yes\",\"metric\":\"pope\",\"answers\":[\"yes\"]}\n",
                          NULL, &e));
    assert_int_equal(a.n, 3);
    assert_true(a.v[0].item.score == 1 && a.v[1].item.score == 0 && a.v[2].item.score == 1);
    assert_true(a.v[0].item.cluster == a.v[1].item.cluster);
    assert_true(!a.v[0].metric && strcmp(a.v[2].metric->name, "pope") == 0);
    assert_string_equal(a.v[1].id, "2");
    assert_string_equal(a.v[2].id, "line 3");
    answers_close(&a);
}

static void test_answers_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"id\":\"1\"}\n", "a.jsonl:1:1: has no answer: \"answer\", \"text\""},
        {"{\"id\":\"1\",\"answer\":\"a\"}\n", "a.jsonl:1:1: has neither \"metric\" nor"},
        {"{\"answer\":\"a\",\"expected\":\"a\"}\n{\"answer\":\"a\",\"metric\":\"pope\"}\n",
         "a.jsonl:2:1: metric \"pope\": there is no reference"},
        {"{\"answer\":\"a\",\"text\":\"b\",\"expected\":\"a\"}\n",
         "a.jsonl:1:1: has \"answer\" and \"text\": which is the answer?"},
        {"{\"answer\":[1]}\n", "a.jsonl:1:11: \"answer\" must be a string"},
        {"{\"answer\":\"a\",\"metric\":\"bleu\"}", "a.jsonl:1:24: \"metric\" is \"bleu\"; allowed"},
        {"{\"answer\":\"a\"", "a.jsonl:1"},
        {"[]", "a.jsonl: is an empty list"},
        {"[1]", "is not an object"},
        {"", "a.jsonl"},
    };
    struct answers a;
    struct err e;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (open_text(state, &a, cases[i].text, NULL, &e)) fail_msg("%s: is read", cases[i].text);
        if (!strstr(e.msg, cases[i].says)) fail_msg("%s: says %s", cases[i].text, e.msg);
    }
}

/* Answers of another program, which repeat nothing of the questions. */
static void test_keys(void **state)
{
    static const char data[] =
        "[{\"id\":\"pope/r/1\",\"image\":\"p.jpg\",\"metric\":\"pope\",\"question_id\":\"1\","
        "\"category\":\"random\",\"conversations\":[{\"from\":\"human\",\"value\":\"<image>\\nIs "
        "it?\"},"
        "{\"from\":\"gpt\",\"value\":\"yes\"}]},"
        "{\"id\":\"pope/r/2\",\"image\":\"p.jpg\",\"metric\":\"pope\",\"question_id\":\"2\","
        "\"conversations\":[{\"from\":\"human\",\"value\":\"<image>\\nIs it?\"},"
        "{\"from\":\"gpt\",\"value\":\"no\"}]}]";
    struct answers_keys keys;
    struct answers a;
    struct err e;

    spill(tmpdir_path(state, "d.json"), data, sizeof data - 1);
    if (!answers_keys_open(&keys, tmpdir_path(state, "d.json"), NULL, &e)) fail_msg("%s", e.msg);
    assert_int_equal(keys.n, 2);
    assert_true(open_text(
        state, &a, "{\"question_id\":2,\"text\":\"No\"}\n{\"id\":\"pope/r/1\",\"text\":\"no\"}\n",
        &keys, &e));
    assert_true(a.n == 2 && a.v[0].item.score == 1 && a.v[1].item.score == 0);
    assert_true(a.v[0].item.cluster == a.v[1].item.cluster);
    assert_string_equal(a.v[1].item.kind, "random");
    answers_close(&a);
    assert_false(open_text(state, &a, "{\"id\":\"3\",\"text\":\"No\"}", &keys, &e));
    assert_non_null(strstr(e.msg, "a.jsonl:1:1: \"3\" is no question of the data set"));
    answers_keys_close(&keys);
    spill(tmpdir_path(state, "d.json"), "[{\"text\":\"x\"}]", 14);
    assert_false(answers_keys_open(&keys, tmpdir_path(state, "d.json"), NULL, &e));
    assert_non_null(strstr(e.msg, "d.json:1:2: has no answer to compare with"));
}

/* Samples without a metric are plain. What is answered twice, not at all, or by an id that two
 * questions have, is known. */
static void test_keys_plain(void **state)
{
#define PLAIN(id, question, answer)                                                                \
    "{\"id\":\"" id "\",\"question_id\":\"" question "\",\"conversations\":[{\"from\":\"human\","  \
    "\"value\":\"Q\"},{\"from\":\"gpt\",\"value\":\"" answer "\"}]}"
    static const char data[] =
        "[" PLAIN("a", "x", "red") "," PLAIN("b", "y", "blue") "," PLAIN("b", "z", "green") "]";
    struct answers_keys keys;
    struct answers a;
    struct err e;

    spill(tmpdir_path(state, "d.json"), data, sizeof data - 1);
    if (!answers_keys_open(&keys, tmpdir_path(state, "d.json"), NULL, &e)) fail_msg("%s", e.msg);
    assert_true(open_text(state, &a,
                          "{\"id\":\"a\",\"text\":\" red\"}\n{\"id\":\"a\",\"text\":\"blue\"}\n",
                          &keys, &e));
    assert_true(a.n == 2 && !a.v[0].metric && a.v[0].item.score == 1 && a.v[1].item.score == 0);
    assert_true(a.again == 1 && a.first_again == 1 && a.v[1].nth == 1);
    assert_true(a.unanswered == 2 && a.first_unanswered == 1);
    answers_close(&a);
    assert_false(open_text(state, &a, "{\"id\":\"b\",\"text\":\"blue\"}", &keys, &e));
    assert_non_null(strstr(e.msg, "\"b\" is the id of several questions of the data set"));
    answers_keys_close(&keys);
}

/* Of two answers with one id the first is compared with the first, the second with the second. */
static void test_pairs_again(void **state)
{
    struct answers a, b;
    struct answers_pairs p;
    struct err e;

    assert_true(open_text(state, &a,
                          "{\"id\":\"1\",\"answer\":\"x\",\"expected\":\"x\"}\n"
                          "{\"id\":\"1\",\"answer\":\"x\",\"expected\":\"y\"}\n",
                          NULL, &e));
    assert_true(open_text(state, &b,
                          "{\"id\":\"1\",\"answer\":\"z\",\"expected\":\"x\"}\n"
                          "{\"id\":\"1\",\"answer\":\"y\",\"expected\":\"y\"}\n"
                          "{\"id\":\"1\",\"answer\":\"y\",\"expected\":\"y\"}\n",
                          NULL, &e));
    assert_true(b.again == 2);
    assert_true(answers_pairs(&a, &b, NULL, &p, &e));
    assert_true(p.n == 2 && p.alone_a == 0 && p.alone_b == 1);
    assert_true(p.a[0].score == 1 && p.b[0].score == 0 && p.a[1].score == 0 && p.b[1].score == 1);
    answers_pairs_free(&p);
    answers_close(&a);
    answers_close(&b);
}

static void test_pairs(void **state)
{
    struct answers a, b;
    struct answers_pairs p;
    struct err e;

    assert_true(open_text(state, &a,
                          "{\"id\":\"1\",\"tokens\":\"1f\",\"answer\":\"x\",\"expected\":\"x\"}\n"
                          "{\"id\":\"2\",\"set\":\"s\",\"answer\":\"x\",\"expected\":\"x\"}\n"
                          "{\"id\":\"3\",\"answer\":\"x\",\"expected\":\"x\"}\n",
                          NULL, &e));
    assert_true(open_text(state, &b,
                          "{\"id\":\"3\",\"answer\":\"y\",\"expected\":\"x\"}\n"
                          "{\"id\":\"2\",\"answer\":\"x\",\"expected\":\"x\"}\n"
                          "{\"id\":\"1\",\"tokens\":\"1f\",\"answer\":\"x\",\"expected\":\"x\"}\n",
                          NULL, &e));
    assert_true(answers_pairs(&a, &b, NULL, &p, &e));
    assert_true(p.n == 2 && p.alone_a == 1 && p.alone_b == 1); /* "2" is of another set */
    assert_true(p.a[1].score == 1 && p.b[1].score == 0 && p.b[0].score == 1);
    answers_pairs_free(&p);
    assert_true(answers_pairs(&a, &b, "s", &p, &e) && p.n == 0 && p.alone_a == 1 && p.alone_b == 0);
    answers_pairs_free(&p);
    b.v[2].prompt++;
    assert_false(answers_pairs(&a, &b, NULL, &p, &e));
    assert_non_null(strstr(e.msg, "\"1\": the two models were given different prompts"));
    b.v[2].prompt--;
    b.v[2].reference++;
    assert_false(answers_pairs(&a, &b, NULL, &p, &e));
    assert_non_null(strstr(e.msg, "\"1\": the two files compare it with other answers or options"));
    b.v[2].reference--;
    b.v[2].metric = metric_find("anls");
    assert_false(answers_pairs(&a, &b, NULL, &p, &e));
    assert_non_null(strstr(e.msg, "\"1\": is scored by \"plain\" in one and by \"anls\""));
    answers_close(&a);
    answers_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_written),
        cmocka_unit_test_setup_teardown(test_answers, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_answers_refused, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_keys, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_keys_plain, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_pairs, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_pairs_again, tmpdir_make, tmpdir_remove),
    };

    return cmocka_run_group_tests_name("benchmark", tests, NULL, NULL);
}
