/* test_import.c - mha2mla-data import: small made-up originals of every benchmark, in the forms
 * that are published, with what they have that goes wrong, as one table; and the readers below. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "data/answers.h"
#include "base/base64.h"
#include "base/file.h"
#include "datasets/import.h"
#include "datasets/tool.h"
#include "data/tsv.h"
#include "tests/import_cases.h"
#include "tests/printed.h"
#include "tests/tool_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void put(void **state, const char *name, const char *text)
{
    spill(tmpdir_path(state, name), text, strlen(text));
}

static void put_picture(void **state, const char *name)
{
    char path[200], *slash;

    snprintf(path, sizeof path, "p/%s", name);
    slash = strrchr(path, '/');
    *slash = '\0';
    mkdir(tmpdir_path(state, path), 0777);
    *slash = '/';
    put(state, path, "x");
}

/* Runs a case: its files are f/..., pictures p/..., and it writes to o. */
static bool run_case(void **state, const struct import_case *k, struct err *e)
{
    static const char *const dirs[] = {"p", "f", "o"};
    char line[2000], path[200];
    size_t n = (size_t)snprintf(line, sizeof line, "%s", k->task);

    for (int i = 0; i < 3; i++) {
        file_remove_tree(tmpdir_path(state, dirs[i]));
        if (i < 2) mkdir(tmpdir_path(state, dirs[i]), 0777);
    }
    for (int i = 0; i < 4 && k->files[i][0]; i++) {
        snprintf(path, sizeof path, "f/%s", k->files[i][0]);
        put(state, path, k->files[i][1]);
        n += (size_t)snprintf(line + n, sizeof line - n, "|@/%s", path);
    }
    for (int i = 0; i < 4 && k->pictures[i]; i++)
        put_picture(state, k->pictures[i]);
    snprintf(line + n, sizeof line - n, "|--images|@/p|--out|@/o");
    return run_in(state, &tool_import, e, line);
}

/* "ask", "answer": of the turns; "KEY", or "KEY.N" of a list. NULL: there is none. */
static const char *value_of(const cJSON *sample, const char *key)
{
    const char *dot = strchr(key, '.');
    char name[40];

    if (strcmp(key, "ask") == 0) return said(sample, 0);
    if (strcmp(key, "answer") == 0) return said(sample, 1);
    if (!dot) return text_of(sample, key);
    snprintf(name, sizeof name, "%.*s", (int)(dot - key), key);
    return cJSON_GetStringValue(
        cJSON_GetArrayItem(cJSON_GetObjectItem(sample, name), atoi(dot + 1)));
}

/* The samples of o/TASK.jsonl, as a list. */
static cJSON *samples(void **state, const char *task)
{
    cJSON *list = cJSON_CreateArray();
    char name[64], *text, *at, *next;

    snprintf(name, sizeof name, "o/%s.jsonl", task);
    text = at = slurp(tmpdir_path(state, name), NULL);
    for (; *at; at = next) {
        next = at + strcspn(at, "\n") + 1;
        cJSON_AddItemToArray(list, cJSON_ParseWithLength(at, (size_t)(next - at)));
    }
    free(text);
    return list;
}

/* Whatever is written can be read as samples that can be scored. */
static void check_readable(void **state, const char *task, int n)
{
    struct answers_keys keys;
    struct err e;
    char name[64];

    snprintf(name, sizeof name, "o/%s.jsonl", task);
    if (!answers_keys_open(&keys, tmpdir_path(state, name), NULL, &e)) fail_msg("%s", e.msg);
    assert_int_equal(keys.n, n);
    answers_keys_close(&keys);
}

static void check_samples(void **state, const struct import_case *k, size_t number)
{
    cJSON *all = samples(state, k->task);

    if (cJSON_GetArraySize(all) != k->samples)
        fail_msg("case %zu, %s: %d samples", number, k->task, cJSON_GetArraySize(all));
    for (int i = 0; i < 9 && k->want[i].key; i++) {
        const char *want = k->want[i].want;
        const char *got = value_of(cJSON_GetArrayItem(all, k->want[i].sample), k->want[i].key);
        char path[200];
        if (want && strcmp(want, PICTURE) == 0) {
            snprintf(path, sizeof path, "o/%s", got ? got : "-");
            assert_true(got && strstr(got, ".jpg") && is_there(tmpdir_path(state, path)));
        } else if (!want != !got || (want && strcmp(got, want) != 0)) {
            fail_msg("case %zu, %s: %s is \"%s\", not \"%s\"", number, k->task, k->want[i].key,
                     got ? got : "-", want ? want : "-");
        }
    }
    cJSON_Delete(all);
    check_readable(state, k->task, k->samples);
}

static void test_cases(void **state)
{
    char name[64];
    struct err e;
    int failed = 0;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct import_case *k = &cases[i];
        const bool ok = run_case(state, k, &e);
        if (ok == !!k->says || (k->says && !strstr(e.msg, k->says))) {
            print_error("case %zu, %s: is %s: %s\n", i, k->task, ok ? "imported" : "refused",
                        e.msg);
            failed++;
            continue;
        }
        if (ok) {
            check_samples(state, k, i);
            continue;
        }
        snprintf(name, sizeof name, "o/%s.jsonl", k->task);
        assert_false(is_there(tmpdir_path(state, name)));
        strcat(name, ".tmp");
        assert_false(is_there(tmpdir_path(state, name)));
    }
    assert_int_equal(failed, 0);
}

/* Every benchmark is in the table. */
static void test_complete(void **state)
{
    (void)state;
    for (const struct import_task *t = import_tasks; t->name; t++) {
        bool good = false, refused = false;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            if (strcmp(cases[i].task, t->name) != 0) continue;
            good = good || !cases[i].says;
            refused = refused || cases[i].says;
        }
        if (!metric_find(t->metric)) fail_msg("%s: no metric %s", t->name, t->metric);
        if (!good ||
            (!refused && strcmp(t->name, "textvqa") != 0 && strcmp(t->name, "realworldqa") != 0))
            fail_msg("%s has no case", t->name);
    }
}

/* What is left out, and what keeps figures from being comparable, is told; names
 * control no terminal. */
static void test_told(void **state)
{
    static const struct import_case told[] = {
        {.task = "mmbench",
         .files = {{"m.tsv",
                    HEAD ROW("1", "A", JPEG) ROW("2", "A", JPEG) ROW("1000002", "B", "2")}}},
        {.task = "gqa",
         .files = {{"q.json",
                    "{\"1\":{\"question\":\"Q\",\"imageId\":\"n\",\"answer\":\"a\"},"
                    "\"2\":{\"question\":\"Q\",\"imageId\":\"\\u001b[2J\",\"answer\":\"a\"}}"}},
         .pictures = {"n.jpg"}},
        {.task = "mme", .files = {{"count.txt", "1\tQ\tYes\n1\tQ\tNo\n"}}, .pictures = {"1"}},
    };
    static const char *const says[] = {
        "note: 1 question has fewer rows than options",
        "left out: 1, for their picture is not there; the first: \\x1b[2J.jpg\nnote: the published "
        "set "
        "has 12578 questions\nin data.eval: ",
        "note: how many questions the published set has is not known here"};
    struct err e;

    for (size_t i = 0; i < 3; i++) {
        const int was = printed_begin(state);
        const bool ok = run_case(state, &told[i], &e);
        char *text = printed_end(state, was);
        if (!ok || !strstr(text, says[i])) fail_msg("%s: %s: %s", told[i].task, e.msg, text);
        free(text);
    }
}

/* A set that is refused leaves the earlier one. */
static void test_earlier(void **state)
{
    struct err e;

    assert_true(run_case(state, &cases[0], &e));
    put(state, "r.jsonl", "{}\n");
    assert_false(run_in(state, &tool_import, &e, "ai2d|@/r.jsonl|--out|@/o"));
    check_readable(state, "ai2d", cases[0].samples);
}

/* A part is taken where records name theirs; options without effect are told. */
static void test_parts(void **state)
{
    static const char row[] =
        "{\"ind\":%d,\"activity_label\":\"a\",\"ctx_a\":\"b\",\"ctx_b\":\"c\","
        "\"endings\":[\"d\",\"e\",\"f\",\"g\"],\"label\":1%s}\n";
    static const struct {
        const char *line, *says;
    } told[] = {
        {"hellaswag|@/h.jsonl|--split|val|--out|@/o1", "left out: 1, for they are of another part"},
        {"hellaswag|@/n.jsonl|--split|val|--out|@/o2",
         "note: --split val is not used: no record names its part"},
        {"hellaswag|@/n.jsonl|--images|@|--out|@/o3", "is not used: no question has a picture"},
    };
    char text[1000];
    struct err e;
    int n = snprintf(text, sizeof text, row, 1, ",\"split\":\"val\"");

    snprintf(text + n, sizeof text - (size_t)n, row, 2, ",\"split\":\"test\"");
    put(state, "h.jsonl", text);
    snprintf(text, sizeof text, row, 1, "");
    put(state, "n.jsonl", text);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        const int was = printed_begin(state);
        const bool ok = run_in(state, &tool_import, &e, told[i].line);
        char *out = printed_end(state, was);
        if (!ok || !strstr(out, told[i].says) || !strstr(out, "hellaswag.jsonl: 1 question\n"))
            fail_msg("%s: %s: %s", told[i].line, e.msg, out);
        free(out);
    }
}

static void test_other_part(void **state)
{
    struct err e;

    put(state, "h.jsonl", "{\"split\":\"train\"}\n");
    assert_false(run_in(state, &tool_import, &e, "hellaswag|@/h.jsonl|--split|val|--out|@/o"));
    assert_error(&e, "no question is left: they are of other parts than --split names, such as "
                     "train");
}

/* A file counts once, and one set does not take the place of another. */
static void test_once(void **state)
{
    static const char row[] = "{\"goal\":\"g\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":0}\n",
                      other[] = "{\"goal\":\"h\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":0}\n";
    struct err e;

    put(state, "r.jsonl", row);
    put(state, "s.jsonl", other);
    assert_false(run_in(state, &tool_import, &e, "piqa|@/r.jsonl|@/./r.jsonl|--out|@/o"));
    assert_error(&e, "/./r.jsonl: is named twice");
    assert_true(run_in(state, &tool_import, &e, "piqa|@/r.jsonl|--out|@/o"));
    assert_true(run_in(state, &tool_import, &e, "piqa|@/r.jsonl|--out|@/o"));
    assert_false(run_in(state, &tool_import, &e, "piqa|@/s.jsonl|--out|@/o"));
    assert_error(&e, "o/piqa.jsonl: another set is there, which would be replaced");
    check_readable(state, "piqa", 1);
    remove(tmpdir_path(state, "o/piqa.jsonl"));
    assert_true(run_in(state, &tool_import, &e, "piqa|@/s.jsonl|--out|@/o"));
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
        char *again = base64_encode(out, n, &e);
        assert_string_equal(again, good[i].in);
        free(again);
        free(out);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (base64_decode(bad[i], strlen(bad[i]), &out, &n, &e)) fail_msg("%s is decoded", bad[i]);
}

static void test_command(void **state)
{
    struct err e;

    (void)state;
    assert_true(run(&tool_import, &e, "--help"));
    assert_false(run(&tool_import, &e, "pope|x"));
    assert_error(&e, "--out DIR is needed");
    assert_false(run(&tool_import, &e, "pope|--out|o"));
    assert_error(&e, "a benchmark and its files are needed");
    assert_false(run(&tool_import, &e, "pope|x|--out|o|--out|p"));
    assert_error(&e, "import: --out is given twice");
    assert_false(run(&tool_import, &e, "bleu|x|--out|o"));
    assert_error(&e, "no benchmark 'bleu'; there are: ai2d, gqa, pope");
}

#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(test_cases),
        IN_DIR(test_earlier),
        IN_DIR(test_parts),
        IN_DIR(test_other_part),
        IN_DIR(test_once),
        IN_DIR(test_told),
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_tsv),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_command),
    };

    return cmocka_run_group_tests_name("import", tests, NULL, NULL);
}
