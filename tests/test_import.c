/* test_import.c - mha2mla-data import: small made-up originals of every benchmark, in the forms that
 * are published, with what they have that goes wrong; and the readers below. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "data/answers.h"
#include "base/base64.h"
#include "datasets/import.h"
#include "datasets/tool.h"
#include "data/tsv.h"
#include "tests/tool_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LETTER "\nAnswer with the option's letter from the given choices directly."
#define WORD "\nAnswer the question using a single word or phrase."

static void put(void **state, const char *name, const char *text)
{
    spill(tmpdir_path(state, name), text, strlen(text));
}

/* Pictures are only looked for here, so that any bytes do. */
static void pictures(void **state, const char *const *names)
{
    mkdir(tmpdir_path(state, "p"), 0777);
    for (; *names; names++)
        spill(tmpdir_path(state, *names), "x", 1);
}

static void import_ok(void **state, const char *line)
{
    struct err e;

    if (!run_in(state, &tool_import, &e, line)) fail_msg("%s: %s", line, e.msg);
}

/* Sample i of o/TASK.jsonl; the caller deletes it. */
static cJSON *sample(void **state, const char *task, int i, int of)
{
    char name[64], *text, *at, *next;
    cJSON *found = NULL;
    int n = 0;

    snprintf(name, sizeof name, "o/%s.jsonl", task);
    text = at = slurp(tmpdir_path(state, name), NULL);
    for (; *at; at = next, n++) {
        next = at + strcspn(at, "\n") + 1;
        if (n == i) found = cJSON_ParseWithLength(at, (size_t)(next - at));
    }
    free(text);
    assert_int_equal(n, of);
    assert_non_null(found);
    return found;
}

static void has(const cJSON *o, const char *key, const char *want)
{
    const char *got = text_of(o, key);

    if (!want != !got || (want && strcmp(got, want) != 0))
        fail_msg("\"%s\" is \"%s\", not \"%s\"", key, got ? got : "-", want ? want : "-");
}

/* Everything of a sample that a plain task has. */
static void check(void **state, const char *task, const char *id, const char *prompt,
                  const char *answer, int of)
{
    cJSON *o = sample(state, task, 0, of);

    has(o, "id", id);
    assert_string_equal(said(o, 0), prompt);
    assert_string_equal(said(o, 1), answer);
    cJSON_Delete(o);
}

/* Whatever is written can be read as samples that can be scored. */
static void readable(void **state, const char *task, size_t n)
{
    struct answers_keys keys;
    struct err e;
    char name[64];

    snprintf(name, sizeof name, "o/%s.jsonl", task);
    if (!answers_keys_open(&keys, tmpdir_path(state, name), NULL, &e)) fail_msg("%s", e.msg);
    assert_int_equal(keys.n, n);
    answers_keys_close(&keys);
}

/* ---- JSON originals ---- */

static void test_ai2d(void **state)
{
    pictures(state, (const char *const[]){"p/0.png", NULL});
    put(state, "q.json",
        "{\"imageName\":\"0.png\",\"questions\":{\"What is A?\":{\"abcLabel\":true,\"answerTexts\":"
        "[\"leaf\",\"stem\",\"root\",\"bud\"],\"correctAnswer\":2,\"questionId\":\"0.png-1\"},"
        "\"Which?\":{\"abcLabel\":false,\"answerTexts\":[\"a\",\"b\"],\"correctAnswer\":0,"
        "\"questionId\":\"0.png-2\"}}}");
    import_ok(state, "ai2d|@/q.json|--images|@/p|--out|@/o");
    check(state, "ai2d", "ai2d/0.png-1",
          "<image>\nWhat is A?\nA. leaf\nB. stem\nC. root\nD. bud" LETTER, "C", 2);
    readable(state, "ai2d", 2);
    put(state, "r.jsonl",
        "{\"question\":\"Q?\",\"options\":[\"a\",\"b\"],\"answer\":\"1\",\"image\":"
        "\"0.png\"}\n");
    import_ok(state, "ai2d|@/r.jsonl|--images|@/p|--out|@/o");
    check(state, "ai2d", "ai2d/1", "<image>\nQ?\nA. a\nB. b" LETTER, "B", 1);
    struct err e;
    put(state, "r.jsonl",
        "{\"question\":\"Q?\",\"options\":[\"a\",\"b\"],\"answer\":\"2\",\"image\":"
        "\"0.png\"}\n");
    assert_false(run_in(state, &tool_import, &e, "ai2d|@/r.jsonl|--images|@/p|--out|@/o"));
    assert_error(&e, "r.jsonl:1:1: the answer is option 2, of 2 (the first is 0)");
}

static void test_gqa(void **state)
{
    pictures(state, (const char *const[]){"p/n1.jpg", NULL});
    put(state, "q.json",
        "{\"201\":{\"question\":\"Is it red?\",\"imageId\":\"n1\",\"answer\":\"no\"},"
        "\"202\":{\"question\":\"What?\",\"imageId\":\"n2\",\"answer\":\"x\"}}");
    import_ok(state, "gqa|@/q.json|--images|@/p|--out|@/o"); /* n2.jpg is not there: left out */
    check(state, "gqa", "gqa/201", "<image>\nIs it red?" WORD, "no", 1);
    cJSON *o = sample(state, "gqa", 0, 1);
    has(o, "image", "n1.jpg");
    has(o, "metric", "exact");
    cJSON_Delete(o);
    readable(state, "gqa", 1);
    /* A row of the hub's, whose picture's path is whole. */
    pictures(state, (const char *const[]){"p/1f", NULL});
    put(state, "r.jsonl",
        "{\"id\":\"3\",\"imageId\":\"n3\",\"question\":\"Q?\",\"answer\":\"a\",\"image\":"
        "\"1f\"}\n");
    import_ok(state, "gqa|@/r.jsonl|--images|@/p|--out|@/o");
    check(state, "gqa", "gqa/3", "<image>\nQ?" WORD, "a", 1);
}

/* question_ids repeat in the three files. */
static void test_pope(void **state)
{
    static const char line[] = "{\"question_id\":1,\"image\":\"c.jpg\",\"text\":\" Is there a dog? "
                               "\",\"label\":\"yes\"}\n";
    cJSON *o;

    pictures(state, (const char *const[]){"p/c.jpg", NULL});
    put(state, "coco_pope_random.json", line);
    put(state, "coco_pope_popular.json", line);
    import_ok(state,
              "pope|@/coco_pope_random.json|@/coco_pope_popular.json|--images|@/p|--out|@/o");
    check(state, "pope", "pope/random/1", "<image>\nIs there a dog?" WORD, "yes", 2);
    o = sample(state, "pope", 1, 2);
    has(o, "id", "pope/popular/1");
    has(o, "question_id", "popular/1");
    assert_string_equal(cJSON_GetArrayItem(cJSON_GetObjectItem(o, "category"), 0)->valuestring,
                        "popular");
    cJSON_Delete(o);
    readable(state, "pope", 2);
}

/* Videos are left out; pictures have no ending. */
static void test_seedbench(void **state)
{
    cJSON *o;

    pictures(state, (const char *const[]){"p/454529_316", NULL});
    put(state, "q.json",
        "{\"question_type\":{\"Scene\":1,\"Action\":12},\"questions\":["
        "{\"answer\":\"B\",\"choice_a\":\"1\",\"choice_b\":\"2\",\"choice_c\":\"3\",\"choice_d\":"
        "\"4\","
        "\"data_id\":\"454529_316\",\"data_type\":\"image\",\"question\":\"How many?\","
        "\"question_id\":\"101\",\"question_type_id\":1},"
        "{\"answer\":\"A\",\"choice_a\":\"1\",\"choice_b\":\"2\",\"choice_c\":\"3\",\"choice_d\":"
        "\"4\","
        "\"data_id\":\"v0\",\"data_type\":\"video\",\"question\":\"What?\","
        "\"question_id\":\"v1\",\"question_type_id\":12}]}");
    import_ok(state, "seedbench|@/q.json|--images|@/p|--out|@/o");
    check(state, "seedbench", "seedbench/101", "<image>\nHow many?\nA. 1\nB. 2\nC. 3\nD. 4" LETTER,
          "B", 1);
    o = sample(state, "seedbench", 0, 1);
    has(o, "image", "454529_316");
    assert_string_equal(cJSON_GetArrayItem(cJSON_GetObjectItem(o, "category"), 1)->valuestring,
                        "Scene");
    cJSON_Delete(o);
    readable(state, "seedbench", 1);
    struct err e;
    put(state, "r.json", "{\"data\":[]}");
    assert_false(run_in(state, &tool_import, &e, "seedbench|@/r.json|--images|@/p|--out|@/o"));
    assert_error(&e, "r.json:1:1: has no \"questions\": is this a file of seedbench?");
}

static void test_realworldqa(void **state)
{
    pictures(state, (const char *const[]){"p/0.webp", NULL});
    put(state, "q.json",
        "[{\"image\":\"0.webp\",\"question\":\"Which?\\n\\nA. Left\\nB. Right\\n\","
        "\"answer\":\"B\"}]");
    import_ok(state, "realworldqa|@/q.json|--images|@/p|--out|@/o");
    check(state, "realworldqa", "realworldqa/0.webp", "<image>\nWhich?\n\nA. Left\nB. Right", "B",
          1);
    readable(state, "realworldqa", 1);
}

static void test_chartqa(void **state)
{
    struct err e;
    cJSON *o;

    pictures(state, (const char *const[]){"p/1.png", NULL});
    put(state, "test_human.json",
        "[{\"imgname\":\"1.png\",\"query\":\"How much?\",\"label\":\"10%\"}]");
    put(state, "test_augmented.json", "[{\"imgname\":\"1.png\",\"query\":\"Q\",\"label\":\"3\"}]");
    import_ok(state, "chartqa|@/test_human.json|@/test_augmented.json|--images|@/p|--out|@/o");
    check(state, "chartqa", "chartqa/human_test/0",
          "<image>\nHow much?\nAnswer the question with a single word.", "10%", 2);
    o = sample(state, "chartqa", 1, 2);
    has(o, "id", "chartqa/augmented_test/1");
    cJSON_Delete(o);
    readable(state, "chartqa", 2);
    put(state, "q.json", "[{\"imgname\":\"1.png\",\"query\":\"Q\",\"label\":\"3\"}]");
    assert_false(run_in(state, &tool_import, &e, "chartqa|@/q.json|--images|@/p|--out|@/o"));
    assert_error(&e, "q.json:1:2: is the question human or augmented?");
}

/* Hidden answers are refused, and the earlier set stays. */
static void test_docvqa(void **state)
{
    struct err e;
    cJSON *o;

    pictures(state, (const char *const[]){"p/d.png", NULL});
    put(state, "q.json",
        "{\"dataset_name\":\"x\",\"data\":[{\"questionId\":7,\"question\":\"Who?\","
        "\"image\":\"d.png\",\"answers\":[\"Ann\",\"ann b\"]}]}");
    import_ok(state, "docvqa|@/q.json|--images|@/p|--out|@/o");
    check(state, "docvqa", "docvqa/7", "<image>\nWho?" WORD, "Ann", 1);
    o = sample(state, "docvqa", 0, 1);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(o, "answers")), 2);
    cJSON_Delete(o);
    readable(state, "docvqa", 1);
    put(state, "t.json",
        "{\"data\":[{\"questionId\":7,\"question\":\"Who?\",\"image\":\"d.png\"}]}");
    assert_false(run_in(state, &tool_import, &e, "docvqa|@/t.json|--images|@/p|--out|@/o"));
    assert_error(&e,
                 "t.json:1:10: question \"7\" has no answer: where the answers of a part are not "
                 "published");
    readable(state, "docvqa", 1);
}

static void test_textvqa(void **state)
{
    pictures(state, (const char *const[]){"p/ab.jpg", NULL});
    put(state, "q.json",
        "{\"data\":[{\"question_id\":3,\"image_id\":\"ab\",\"question\":\"what is THE "
        "\xc3\x89tat?\","
        "\"answers\":[\"a\",\"a\",\"b\"]}]}");
    import_ok(state, "textvqa|@/q.json|--images|@/p|--out|@/o");
    check(state, "textvqa", "textvqa/3", "<image>\nWhat is the \xc3\xa9tat?" WORD, "a", 1);
    readable(state, "textvqa", 1);
    put(state, "r.jsonl",
        "{\"question_id\":9,\"question\":\"Q?\",\"image\":\"ab.jpg\",\"answers\":"
        "[{\"answer\":\"x\",\"answer_id\":1},{\"answer\":\"y\"}]}\n");
    import_ok(state, "vqav2|@/r.jsonl|--images|@/p|--out|@/o");
    check(state, "vqav2", "vqav2/9", "<image>\nQ?", "x", 1);
    readable(state, "vqav2", 1);
}

static void test_mme(void **state)
{
    struct err e;
    cJSON *o;

    pictures(state, (const char *const[]){"p/1.jpg", NULL});
    put(state, "count.txt",
        "1.jpg\tIs it one? Please answer yes or no.\tYes\r\n"
        "1.jpg\tIs it two? Please answer yes or no.\tNo");
    import_ok(state, "mme|@/count.txt|--images|@/p|--out|@/o");
    check(state, "mme", "mme/count/1.jpg/1", "<image>\nIs it one?" WORD, "Yes", 2);
    o = sample(state, "mme", 1, 2);
    has(o, "group", "count/1.jpg");
    cJSON_Delete(o);
    readable(state, "mme", 2);
    put(state, "count.txt", "1.jpg\tIs it one?\n");
    assert_false(run_in(state, &tool_import, &e, "mme|@/count.txt|--images|@/p|--out|@/o"));
    assert_error(&e, "count.txt:1: a picture, a question and an answer with tabs between");
    put(state, "count.txt", "1.jpg\ta\tb\tc\n");
    assert_false(run_in(state, &tool_import, &e, "mme|@/count.txt|--images|@/p|--out|@/o"));
    assert_error(&e, "count.txt:1: a picture, a question");
}

static void test_scienceqa(void **state)
{
    pictures(state, (const char *const[]){NULL});
    mkdir(tmpdir_path(state, "p/5"), 0777);
    put(state, "p/5/image.png", "x");
    put(state, "q.json",
        "{\"5\":{\"question\":\"Which?\",\"choices\":[\"a\",\"b\"],\"answer\":1,\"hint\":\"Look.\","
        "\"image\":\"image.png\",\"split\":\"test\",\"subject\":\"natural science\"},"
        "\"6\":{\"question\":\"Who?\",\"choices\":[\"a\"],\"answer\":0,\"hint\":\"\",\"image\":"
        "null,"
        "\"split\":\"test\"},"
        "\"7\":{\"question\":\"?\",\"choices\":[\"a\"],\"answer\":0,\"split\":\"train\"}}");
    import_ok(state, "scienceqa|@/q.json|--images|@/p|--out|@/o");
    check(state, "scienceqa", "scienceqa/5", "<image>\nContext: Look.\nWhich?\nA. a\nB. b" LETTER,
          "B", 2);
    cJSON *o = sample(state, "scienceqa", 1, 2);
    assert_string_equal(said(o, 0), "Who?\nA. a" LETTER); /* no picture, no mark, no context */
    has(o, "image", NULL);
    cJSON_Delete(o);
    readable(state, "scienceqa", 2);
}

/* ---- MMBench ---- */

#define HEAD "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tl2-category\n"
/* 60 bytes that begin as a JPEG: more than 64 characters of base64. */
#define JPEG "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static void test_mmbench(void **state)
{
    cJSON *o, *p;

    /* A cell with line break and quotes; a row whose picture is another's that comes later, one
     * whose comes before; the same bytes once more. */
    put(state, "m.tsv",
        HEAD "1000241\t\"Which \"\"one\"\"\nis it?\"\tLook here.\tcat\tdog\t\tnan\tB\tc1\t241\tl1\n"
             "241\tWhich?\t\tdog\tcat\t\t\tA\tc1\t" JPEG "\tl1\n"
             "242\tWhat?\tnan\tx\ty\tz\tw\tD\tc2\t241\tl2\n"
             "243\tWhat?\t\tx\ty\tz\tw\tD\tc2\t" JPEG "\tl2\r\n");
    import_ok(state, "mmbench|@/m.tsv|--out|@/o");
    o = sample(state, "mmbench", 3, 4); /* it waited for its picture */
    has(o, "id", "mmbench/1000241");
    has(o, "group", "241");
    assert_string_equal(said(o, 0), "<image>\nLook here. Which \"one\"\nis it? There are several "
                                    "options:\nA. cat\nB. dog\n" LETTER);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(o, "choices")), 2);
    p = sample(state, "mmbench", 0, 4);
    assert_string_equal(said(p, 0),
                        "<image>\nWhich? There are several options:\nA. dog\nB. cat\n" LETTER);
    has(o, "image", text_of(p, "image"));
    cJSON_Delete(p);
    p = sample(state, "mmbench", 2, 4);
    has(o, "image", text_of(p, "image"));
    assert_non_null(strstr(text_of(p, "image"), ".jpg"));
    char path[200];
    snprintf(path, sizeof path, "o/%s", text_of(p, "image"));
    assert_true(is_there(tmpdir_path(state, path)));
    cJSON_Delete(p);
    cJSON_Delete(o);
    readable(state, "mmbench", 4);
}

static void test_mmbench_refused(void **state)
{
    static const struct {
        const char *row, *says;
    } cases[] = {
        {"1\tQ\t\ta\tb\t\t\tA\tc\t77\tl\n", "mmbench/1: its picture is that of row \"77\""},
        {"1\tQ\t\ta\tb\t\t\t\tc\t" JPEG "\tl\n", "m.tsv:2: question \"1\" has no answer"},
        {"1\tQ\t\ta\tb\t\t\tA\tc\t*" JPEG "\tl\n", "m.tsv:2: \"image\": base64 of 81 characters"},
        {"1\tQ\t\ta\tb\t\t\tA\tc\t***j" JPEG "\tl\n", "m.tsv:2: \"image\": character 1 is not"},
        {"1\tQ\t\ta\tb\t\t\tA\tc\tAAAA" JPEG "\tl\n", "m.tsv:2: \"image\": the picture is neither"},
        {"1\tQ\t\ta\n", "m.tsv:2: the row has 4 cells, the first row 11"},
        {"1\t\"Q\t\ta\n", "m.tsv:2: the row has a quote that is not closed"},
        {"", "m.tsv: no question is left"},
    };
    char text[2000];
    struct err e;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, HEAD "%s", cases[i].row);
        put(state, "m.tsv", text);
        if (run_in(state, &tool_import, &e, "mmbench|@/m.tsv|--out|@/o"))
            fail_msg("%s: is imported", cases[i].row);
        assert_error(&e, cases[i].says);
        assert_false(is_there(tmpdir_path(state, "o/mmbench.jsonl")));
        assert_false(is_there(tmpdir_path(state, "o/mmbench.jsonl.tmp")));
    }
}

/* ---- the readers ---- */

static void test_tsv(void **state)
{
    static const char text[] = "\xef\xbb\xbf"
                               "a\tb\r\n1\t\"x\t\"\"y\"\"\n\"z\n\n\"\"\t\"\"\"q\"\n\t";
    struct tsv t;
    struct err e;
    bool found;

    (void)state;
    assert_true(tsv_open(&t, text, sizeof text - 1, "t", &e) && t.columns == 2);
    assert_true(tsv_next(&t, &found, &e) && found);
    assert_string_equal(tsv_cell(&t, "b").s,
                        "x\t\"y\"\nz"); /* what follows a quoted part is kept */
    assert_true(tsv_next(&t, &found, &e) && found && t.row_line == 5);
    assert_string_equal(tsv_cell(&t, "a").s, "");
    assert_string_equal(tsv_cell(&t, "b").s, "\"q");
    assert_true(tsv_next(&t, &found, &e) && found && tsv_cell(&t, "b").n == 0);
    assert_true(tsv_next(&t, &found, &e) && !found);
    assert_null(tsv_cell(&t, "c").s);
    tsv_close(&t);
    assert_false(tsv_open(&t, "", 0, "t", &e));
    assert_error(&e, "t: is empty");
    assert_false(tsv_open(&t, "a\0b", 3, "t", &e));
    assert_error(&e, "t:1: the row has a zero byte");
}

static void test_base64(void **state)
{
    static const struct {
        const char *in, *out;
    } good[] = {{"", ""},        {"Zg==", "f"},          {"Zm8=", "fo"},
                {"Zm9v", "foo"}, {"Zm9vYmFy", "foobar"}, {"+/+/", "\xfb\xff\xbf"}};
    static const char *const bad[] = {
        "Z", "Zg=", "Zg==Zg==", "Z===", "====", "Zm 9v", "Zm9\n", "=Zg="};
    struct err e;
    uint8_t *out;
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(base64_decode(good[i].in, strlen(good[i].in), &out, &n, &e));
        assert_int_equal(n, strlen(good[i].out));
        assert_memory_equal(out, good[i].out, n);
        free(out);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (base64_decode(bad[i], strlen(bad[i]), &out, &n, &e)) fail_msg("%s is decoded", bad[i]);
}

static void test_command(void **state)
{
    struct err e;

    assert_true(run(&tool_import, &e, "--help"));
    assert_false(run(&tool_import, &e, "pope|x"));
    assert_error(&e, "--out DIR is needed");
    assert_false(run(&tool_import, &e, "pope|--out|o"));
    assert_error(&e, "a benchmark and its files are needed");
    assert_false(run(&tool_import, &e, "bleu|x|--out|o"));
    assert_error(&e, "no benchmark 'bleu'; there are: ai2d, gqa, pope");
    put(state, "q.json", "{\"1\":{\"question\":\"Q\",\"imageId\":\"n\",\"answer\":\"a\"}}");
    assert_false(run_in(state, &tool_import, &e, "gqa|@/q.json|--out|@/o"));
    assert_error(&e, "q.json: no question is left: no picture is there, such as n.jpg");
    put(state, "q.json", "{\"1\":{\"question\":[1],\"imageId\":\"n\",\"answer\":\"a\"}}");
    assert_false(run_in(state, &tool_import, &e, "gqa|@/q.json|--out|@/o"));
    assert_error(&e, "q.json:1:6: \"question\" must be a string or a number");
    put(state, "q.json", "{\"1\":7}");
    assert_false(run_in(state, &tool_import, &e, "gqa|@/q.json|--out|@/o"));
    assert_error(&e, "q.json:1:6: a question is an object");
    for (const struct import_task *t = import_tasks; t->name; t++)
        if (!metric_find(t->metric)) fail_msg("%s: no metric %s", t->name, t->metric);
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(test_ai2d),          IN_DIR(test_gqa),
        IN_DIR(test_pope),          IN_DIR(test_seedbench),
        IN_DIR(test_realworldqa),   IN_DIR(test_chartqa),
        IN_DIR(test_docvqa),        IN_DIR(test_textvqa),
        IN_DIR(test_mme),           IN_DIR(test_scienceqa),
        IN_DIR(test_mmbench),       IN_DIR(test_mmbench_refused),
        cmocka_unit_test(test_tsv), cmocka_unit_test(test_base64),
        IN_DIR(test_command),
    };

    return cmocka_run_group_tests_name("import", tests, NULL, NULL);
}
