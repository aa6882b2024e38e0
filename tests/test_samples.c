/* test_samples.c - from texts to tokens: zeros in texts, the places named by messages, lists of
 * dropped samples with one line each, and memory bounded by the input's size. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/sample_set.h"
#include "tests/program.h"
#include "tests/sanitized.h"

#include <sys/resource.h>

/* ---- texts with zeros ---- */

/* The ids are those of the `tokenizers` library 0.23 for the whole text. */
static void test_zeros(void **state)
{
    static const char json[] = "[" TOLD(ASK("one\\u0000", "\\u0000two")) "]";
    static const int32_t want[] = {1,   307, 87,  278, 71, 84,  270, 363, 287, 2,   436, 278, 278,
                                   277, 278, 279, 275, 80, 279, 270, 307, 2,   300, 350, 521, 521};
    struct set t;
    struct sample s;
    struct err e;

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 1);
    must(dataset_sample(&t.d, 0, &s, &e), &e);
    assert_int_equal(s.n, sizeof want / sizeof *want);
    for (int64_t i = 0; i < s.n; i++) {
        assert_int_equal(s.ids[i], want[i]);
        assert_int_equal(s.trained[i], i >= 20 && i < 25); /* " \0two</s>" */
    }
    assert_int_equal(s.prompt, 20);
    assert_int_equal(s.answer.n, 4);
    assert_memory_equal(s.answer.s, "\0two", 4);
    assert_int_equal(s.rendered.len, strlen("USER: one. ASSISTANT: .two</s>"));
    sample_free(&s);
    set_close(&t);
}

/* ---- places ---- */

/* A list on a single line: the column tells which sample it is, in characters of the line. */
static void test_one_line(void **state)
{
    static const char json[] = "[" TOLD(ASK("\xc3\xa9", "two")) "," TOLD(
        ASK("<image>", "two")) ","
                               "{\"text\":\"\\ud800\"}," TOLD(ASK("one", "two")) "]";
    struct set t;
    struct sample s;
    struct err e;
    char place[DATASET_PLACE];

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 2);
    assert_int_equal(t.d.entries[0].col, 2);
    assert_string_equal(dataset_place(&t.d.entries[0], place), "1");
    assert_int_equal(t.d.entries[1].col,
                     1 +
                         (strstr(json, "{\"conversations\":[{\"from\":\"human\","
                                       "\"value\":\"one\"") -
                          json) -
                         1); /* the é has two bytes */
    snprintf(place, sizeof place, "set.json:1:%d: 1 <image> mark for",
             (int)(strstr(json, "\"}]},{") + 5 - json));
    assert_non_null(strstr(t.d.first_dropped[DROP_MISMATCH], place));
    snprintf(place, sizeof place, "set.json:1:%d: lone surrogate",
             (int)(strstr(json, "\\ud800") - json));
    assert_non_null(strstr(t.d.first_dropped[DROP_BROKEN], place));
    must(dataset_sample(&t.d, 1, &s, &e), &e);
    snprintf(place, sizeof place, "line 1:%d", (int)t.d.entries[1].col);
    assert_string_equal(s.id.s, place);
    sample_free(&s);
    set_close(&t);
}

/* Whatever paths and roles contain: one line per sample, and nothing that controls a terminal. */
static void test_left_out_lines(void **state)
{
    static const char json[] = "[" TOLD(ASK(
        "one",
        "two")) ",\n"
                "{\"image\":\"a\\n\\u001b[31mb.png\",\"conversations\":[" ASK(
                    "<image>",
                    "two") "]},\n"
                           "{\"conversations\":[{\"from\":\"x\\r\\ny\\u202e\",\"value\":\"a\"}]},\n"
                           "{\"conversations\":[{\"from\":\"gpt\",\"value\":\"a\",\"vi\\u0007deo\":"
                           "1}]},\n"
                           "{\"te\\nxt\":1}]";
    static const char *const want[] = {"a\\n\\x1b[31mb.png", "x\\r\\ny\\u202e", "\"te\\nxt\""};
    struct set t;
    struct err e;
    char *line;

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 2);
    line = t.d.left_out;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        for (const char *p = line; *p; p++)
            assert_true((unsigned char)*p >= ' ');
        if (!strstr(line, want[i])) fail_msg("'%s' lacks '%s'", line, want[i]);
        line = end + 1;
    }
    assert_int_equal(*line, '\0');
    assert_string_equal(t.d.unused.names[0].name, "x\\r\\ny\\u202e");
    assert_string_equal(t.d.unused.names[1].name, "vi\\x07deo");
    set_close(&t);
}

/* Samples that are used as they are but may be unintended: counted once per kind and sample. */
static void test_unusual(void **state)
{
#define H(text) "{\"from\":\"human\",\"value\":\"" text "\"}"
#define G(text) "{\"from\":\"gpt\",\"value\":\"" text "\"}"
#define S(text) "{\"from\":\"system\",\"value\":\"" text "\"}"
    static const char json[] =
        "[" TOLD(ASK("one", "two")) ",\n" TOLD(S("s") "," ASK("one", "two")) ",\n"    /* 1, 2 */
        TOLD(G("a") "," ASK("one", "two")) ",\n" TOLD(S("s") "," G("a")) ",\n"        /* 3, 4 */
        TOLD(H("a") "," H("b") "," G("c") "," H("d") "," H("e") "," G("f")) ",\n"     /* 5 */
        TOLD(H("a") "," G("c") "," G("d")) ",\n" TOLD(ASK("a", "b") "," H("c")) ",\n" /* 6, 7 */
        TOLD(ASK("a", " \\n\\t") "," ASK("", "b")) ",\n"                              /* 8 */
        SEEN(ASK("a", "<image> b")) ",\n" TOLD(H("a")) "]";                           /* 9, 10 */
    static const struct {
        int64_t samples, line;
    } want[UNUSUAL_KINDS] = {[UNUSUAL_ANSWER_FIRST] = {2, 3}, [UNUSUAL_TWO_QUESTIONS] = {1, 5},
                             [UNUSUAL_TWO_ANSWERS] = {1, 6},  [UNUSUAL_LAST_QUESTION] = {1, 7},
                             [UNUSUAL_NO_TEXT] = {1, 8},      [UNUSUAL_PICTURE] = {1, 9}};
    struct set t;
    struct err e;
    char place[40];

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 9);
    for (int k = 0; k < UNUSUAL_KINDS; k++) {
        assert_int_equal(t.d.unusual.samples[k], want[k].samples);
        snprintf(place, sizeof place, "set.json:%d:1", (int)want[k].line);
        if (!strstr(t.d.unusual.where[k], place)) fail_msg("%d: %s", k, t.d.unusual.where[k]);
    }
    set_close(&t);
#undef H
#undef G
#undef S
}

/* The message names what sets the limit, which is not always data.max_length. */
static void test_limit_named(void **state)
{
    struct set t;
    struct err e;

    set_init(&t, state);
    t.o.max_length = 10;
    t.o.limited_by = "max_position_embeddings of m/config.json";
    must(set_open(&t, state, "[" TOLD(ASK("one two three", "four five six")) "]", &e), &e);
    assert_int_equal(t.d.dropped[DROP_TOO_LONG], 1);
    assert_non_null(strstr(t.d.first_dropped[DROP_TOO_LONG],
                           " tokens, max_position_embeddings of m/config.json is 10"));
    set_close(&t);
}

/* The same through the program: a model's own limit does not lead to advice to raise
 * data.max_length. */
static void test_limit_of_model(void **state)
{
#define LONG_RUN                                                                                   \
    "$B/mha2mla-train --config $C --dry-run --set data.too_long=error --set data.max_length=4096 " \
    "--set 'data.train=[{\"path\":\"'$T'/long.json\"}]' "

    must_run(state, "{ printf '[{\"text\":\"'; for i in $(seq 3000); do printf 'red '; done; "
                    "printf '\"}]'; } > $T/long.json");
    must_fail(state, LONG_RUN "--set model.path=configs/quickstart/model",
              "long.json:1:2: 3003 tokens, max_position_embeddings of "
              "configs/quickstart/model/config.json is 2048");
    must_fail(state, LONG_RUN "--set baseline.max_length=1000",
              " tokens, baseline.max_length is 1000");
    must_fail(state, LONG_RUN "--set baseline.max_length=5000 --set data.max_length=500",
              " tokens, data.max_length is 500");
}

/* ---- bounded ---- */

/* A text: `before`, n times `part`, `after`. */
static char *repeat(const char *before, const char *part, size_t n, const char *after)
{
    size_t a = strlen(before), p = strlen(part);
    char *text = malloc(a + n * p + strlen(after) + 1);

    assert_non_null(text);
    memcpy(text, before, a);
    for (size_t i = 0; i < n; i++)
        memcpy(text + a + i * p, part, p);
    strcpy(text + a + n * p, after);
    return text;
}

/* Opens the set in a child process and returns its peak memory in MiB; the only sample is dropped
 * for the reason, and the list says `says`. */
static long opened_mib(void *const *state, const char *json, enum drop_reason reason,
                       const char *says)
{
    struct rusage use;
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct set t;
        struct err e;
        set_init(&t, state);
        t.places = 576;
        t.o.max_length = 2048;
        bool good = set_open(&t, state, json, &e) && t.d.n == 0 && t.d.dropped[reason] == 1 &&
                    strstr(t.d.first_dropped[reason], says);
        if (!good) fprintf(stderr, "%s\n%s\n", e.msg, t.d.left_out ? t.d.left_out : "kept");
        _exit(!good);
    }
    assert_int_equal(wait4(pid, &status, 0, &use), pid);
    assert_int_equal(status, 0);
    return use.ru_maxrss / 1024;
}

#define HUMAN "{\"conversations\":[{\"from\":\"human\",\"value\":\""
#define GPT "\"},{\"from\":\"gpt\",\"value\":\"two\"}]}"

static void test_bounded(void **state)
{
    enum { MIB = 1 << 20 };
    const struct {
        const char *before, *part, *after;
        size_t n;
        enum drop_reason reason;
        const char *says;
        long most; /* MiB, beside the test's own 20 or so and twice the text */
    } cases[] = {
        /* took 1 GB: memory for the marks' places was taken before they were counted */
        {"[" HUMAN, "<image>", GPT "]", 300000, DROP_TOO_LONG, "bytes of text", 32},
        {"[" HUMAN, "<image>", GPT "]", 100000, DROP_MISMATCH, "100000 <image> marks for 0", 32},
        {"[" HUMAN, "a ", GPT "]", 6 * MIB, DROP_TOO_LONG, "bytes of text", 64},
        {"[{\"text\":\"", "a ", "\"}]", 500000, DROP_TOO_LONG, " tokens, data.max_length is 2048",
         110},
        /* a value costs about 100 bytes; so many are refused as a sample */
        {"[{\"conversations\":[", "{\"from\":\"gpt\",\"value\":\"a\"},",
         "{\"from\":\"gpt\",\"value\":\"a\"}]}]", 1000000, DROP_BROKEN, "more than 1048576 values",
         200},
        {"[[", "0,", "0]]", 4 * MIB, DROP_BROKEN, "more than 1048576 values", 150},
        {"[{\"id\":\"", "a", "\",\"text\":\"\"}]", 8 * MIB, DROP_NO_LABELS, "no answer", 48},
        {"[{\"x\":\"", "a", "\"}]", 65 * MIB, DROP_TOO_LONG, "at most 67108864 are read", 8},
    };

    if (SANITIZED) skip(); /* it does not reuse freed memory */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *json = repeat(cases[i].before, cases[i].part, cases[i].n, cases[i].after);
        long own = (long)(2 * strlen(json) / MIB) + 24;
        long took = opened_mib(state, json, cases[i].reason, cases[i].says);
        if (took > own + cases[i].most)
            fail_msg("case %zu took %ld MiB, at most %ld + %ld are expected", i, took, own,
                     cases[i].most);
        free(json);
    }
}

/* Deep nesting makes one broken sample, at any depth. */
static void test_nesting(void **state)
{
    static const size_t depths[] = {70, 300, 200000};
    struct set t;
    struct err e;

    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        char *open = repeat("[" TOLD(ASK("one", "two")) ",\n{\"x\":", "[", depths[i], ""), *json;
        json = repeat(open, "]", depths[i], "},\n" TOLD(ASK("one", "two")) "]");
        set_init(&t, state);
        must(set_open(&t, state, json, &e), &e);
        assert_int_equal(t.d.n, 2);
        assert_non_null(strstr(t.d.first_dropped[DROP_BROKEN],
                               "set.json:2:69: nested more than 64 levels deep"));
        set_close(&t);
        free(open);
        free(json);
    }
}

/* A picture many times in one sample is fine while it fits, and refused before it costs memory. */
static void test_many_pictures(void **state)
{
    char *images, *json;
    struct set t;
    struct err e;

    set_init(&t, state);
    images = repeat("[{\"images\":[\"a.png\"", ",\"a.png\"", 19,
                    "],\"conversations\":[{\"from\":\"human\",\"value\":\"");
    json = repeat(images, "<image>", 20, GPT "]");
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 1);
    assert_int_equal(t.d.entries[0].images, 20);
    assert_int_equal(t.d.n_images, 1);
    dataset_close(&t.d);
    t.places = INT32_MAX; /* 20 of them exceed 32 bits */
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.dropped[DROP_TOO_LONG], 1);
    set_close(&t);
    free(images);
    free(json);
}

/* A file of nothing but broken samples does not produce a list many times its own size. */
static void test_list_ends(void **state)
{
    const size_t n = 1000000;
    char *json = repeat("[7", ",7", n, "]"), *last;
    struct set t;
    struct err e;

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.dropped[DROP_BROKEN], n + 1);
    assert_true(t.d.left_out_len < ((size_t)64 << 20) + 5000);
    last = t.d.left_out + t.d.left_out_len - 1;
    assert_int_equal(*last, '\n');
    *last = '\0';
    assert_string_equal(strrchr(t.d.left_out, '\n') + 1,
                        "this list ends here: further samples are only counted");
    set_close(&t);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_zeros),          tmpdir_test(test_one_line),
        tmpdir_test(test_left_out_lines), tmpdir_test(test_unusual),
        tmpdir_test(test_limit_named),    program_test(test_limit_of_model),
        tmpdir_test(test_bounded),        tmpdir_test(test_nesting),
        tmpdir_test(test_many_pictures),  tmpdir_test(test_list_ends),
    };

    return cmocka_run_group_tests_name("samples", tests, NULL, NULL);
}
