/* test_dataset.c - LLaVA JSON to token samples: finding them, expanding images, what is trained on,
 * what is dropped and how that is reported. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/sample_set.h"
#include "train/run.h"

#include <malloc.h>

static void test_trained_tokens(void **state)
{
    expect_tokens(state, "[" TOLD(ASK("one", "two")) "]", "<s> USER: one ASSISTANT:[ two</s>]</s>");
    /* several turns */
    expect_tokens(
        state, "[" SEEN(ASK("<image>\\none", "two") "," ASK("three", "four")) "]",
        "<s> USER: <image> \none ASSISTANT:[ two</s>] USER: three ASSISTANT:[ four</s>]</s>");
    /* the assistant's words in a user's turn are not trained on; nor is a system text */
    expect_tokens(state, "[" TOLD(ASK("ASSISTANT: no", "yes")) "]",
                  "<s> USER: ASSISTANT: no ASSISTANT:[ yes</s>]</s>");
    expect_tokens(state,
                  "[" TOLD("{\"from\":\"system\",\"value\":\"be good\"}," ASK("one", "two")) "]",
                  "<s> be good USER: one ASSISTANT:[ two</s>]</s>");
    expect_tokens(state, "[" TOLD(ASK("one", "")) "]", "<s> USER: one ASSISTANT:[ </s>]</s>");
    /* a question after the last answer, as in some sets */
    expect_tokens(state,
                  "[" TOLD(ASK("one", "two") ",{\"from\":\"human\",\"value\":\"three\"}") "]",
                  "<s> USER: one ASSISTANT:[ two</s>] USER: three </s>");
    /* plain text: nothing is added around it, and all of it is trained on */
    expect_tokens(state, "[{\"text\":\"one\\ntwo\"}]", "<s>[ one\ntwo]</s>");
}

static void test_image_anywhere(void **state)
{
    static const struct {
        const char *json, *want;
    } cases[] = {
        {SEEN(ASK("<image>one", "two")), "<s> USER: <image> \none ASSISTANT:[ two</s>]</s>"},
        {SEEN(ASK("one <image> two", "four")),
         "<s> USER: <image> \none  two ASSISTANT:[ four</s>]</s>"},
        {SEEN(ASK("one\\n<image>", "two")), "<s> USER: <image> \none ASSISTANT:[ two</s>]</s>"},
        {SEEN(ASK("one", "two") "," ASK("three <image>", "four")),
         "<s> USER: one ASSISTANT:[ two</s>] USER: <image> \nthree ASSISTANT:[ four</s>]</s>"},
        {"{\"image\":[\"a.png\",\"a.png\"],\"conversations\":[" ASK("<image><image>one",
                                                                    "two") "]}",
         "<s> USER: <image> \n<image> \none ASSISTANT:[ two</s>]</s>"},
        {"{\"image\":null,\"conversations\":[" ASK("one", "two") "]}",
         "<s> USER: one ASSISTANT:[ two</s>]</s>"},
        /* an image's places in an answer are not trained on */
        {SEEN(ASK("one", "two <image> three")),
         "<s> USER: one ASSISTANT:[ two ]<image>[  three</s>]</s>"},
    };
    char json[500];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(json, sizeof json, "[%s]", cases[i].json);
        expect_tokens(state, json, cases[i].want);
    }
}

/* What scoring uses: where the last answer begins, its text, and the sample's name. */
static void test_prompt_and_names(void **state)
{
    static const char json[] = "[{\"id\":\"x#kind\",\"image\":\"a.png\",\"conversations\":[" ASK(
        "<image>one", "two") "," ASK("three",
                                     "four") "]},\n\n{\"id\":7,\"conversations\":"
                                             "[" ASK("one", "two") "]},\n" TOLD(ASK("one", "")) "]";
    static const char *const ids[] = {"x#kind", "7", "line 4"}, *const answers[] = {"four", "two",
                                                                                    ""};
    struct set t;
    struct sample s, cut;
    struct err e;
    char got[1000];

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 3);
    for (int i = 0; i < 3; i++) {
        must(dataset_sample(&t.d, i, &s, &e), &e);
        assert_string_equal(s.id.s, ids[i]);
        assert_int_equal(s.id.n, strlen(ids[i]));
        assert_string_equal(s.answer.s, answers[i]);
        assert_int_equal(s.answer.n, strlen(answers[i]));
        assert_int_equal(s.images, i == 0);
        if (i == 0) {
            cut = s;
            cut.n = s.prompt;
            show(&t, &cut, got);
            assert_string_equal(
                got, "<s> USER: <image> \none ASSISTANT:[ two</s>] USER: three ASSISTANT:");
        }
        sample_free(&s);
    }
    set_close(&t);
}

/* The same samples as a list and as JSON Lines; brackets and quotes in texts do not confuse it. */
static void test_byte_ranges(void **state)
{
    static const char b[] = SEEN(ASK("<image>one", "two"));
    static const char *const forms[] = {"[\n %s,\n\n  %s\n]\n", "[%s,%s]", "%s\n%s\n", "%s\n\n%s"};
    char a[] = "{ \"conversations\":[" ASK("]} \\\" [{", "two") "]}", text[1000];
    struct set t;
    struct err e;

    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        a[1] = f < 2 ? '\n' : ' '; /* in a list, samples may span several lines */
        set_init(&t, state);
        snprintf(text, sizeof text, forms[f], a, b);
        must(set_open(&t, state, text, &e), &e);
        assert_int_equal(t.d.n, 2);
        for (int i = 0; i < 2; i++) {
            const struct dataset_entry *entry = &t.d.entries[i];
            const char *want = i ? b : a;
            int64_t line = 1;

            assert_int_equal(entry->end - entry->begin, strlen(want));
            assert_memory_equal(text + entry->begin, want, strlen(want));
            for (int64_t k = 0; k < entry->begin; k++)
                line += text[k] == '\n';
            assert_int_equal(entry->line, line);
        }
        set_close(&t);
    }
}

/* 32 MiB between two samples: the file is not loaded into memory. */
static void test_not_loaded_whole(void **state)
{
    const size_t gap = (size_t)32 << 20;
    char *text = malloc(gap + 500);
    struct set t;
    struct err e;
    struct mallinfo2 before, after;

    assert_non_null(text);
    memset(text, ' ', gap + 500);
    memcpy(text, "[" TOLD(ASK("one", "two")) ",", strlen("[" TOLD(ASK("one", "two")) ","));
    strcpy(text + gap, TOLD(ASK("one", "two")) "]");
    set_init(&t, state);
    before = mallinfo2();
    must(set_open(&t, state, text, &e), &e);
    after = mallinfo2();
    assert_int_equal(t.d.n, 2);
    assert_true(after.uordblks + after.hblkhd < before.uordblks + before.hblkhd + gap / 8);
    set_close(&t);
    free(text);
}

static void test_left_out(void **state)
{
    static const struct {
        const char *json;
        enum drop_reason reason;
        const char *says;
    } cases[] = {
        {TOLD("{\"from\":\"human\",\"value\":\"one\"}"), DROP_NO_LABELS, "no answer to train on"},
        {TOLD(ASK("<image>one", "two")), DROP_MISMATCH, "1 <image> mark for 0 pictures"},
        {SEEN(ASK("one", "two")), DROP_MISMATCH, "0 <image> marks for 1 picture"},
        {SEEN(ASK("<image><image>one", "two")), DROP_MISMATCH, "2 <image> marks for 1 picture"},
        {"{\"image\":\"gone.png\",\"conversations\":[" ASK("<image>", "two") "]}", DROP_IMAGE,
         "gone.png: No such file"},
        {"{\"image\":[\"a.png\",\"gone.png\"],\"conversations\":[" ASK("<image><image>",
                                                                       "two") "]}",
         DROP_IMAGE, "gone.png: No such file"},
        {"{\"image\":\"set.json\",\"conversations\":[" ASK("<image>", "two") "]}", DROP_IMAGE,
         "set.json: is no picture of a format that is read: PNG"},
        {"{\"image\":\"cut.png\",\"conversations\":[" ASK("<image>", "two") "]}", DROP_IMAGE,
         "cut.png: PNG: the file is cut short"},
        {"{\"image\":3,\"conversations\":[" ASK("<image>", "two") "]}", DROP_BROKEN,
         "\"image\" must be a path"},
        {"{\"image\":[\"a.png\",3],\"conversations\":[" ASK("<image>", "two") "]}", DROP_BROKEN,
         "\"image\" must be a path"},
        {"{\"conversation\":[]}", DROP_BROKEN, "and no \"text\"; it has \"conversation\""},
        {"{\"text\":\"\xff\"}", DROP_BROKEN, "not UTF-8"},
        {"{\"text\":7}", DROP_BROKEN, "2:9: \"text\" must be a string"},
        {"{\"text\":\"\"}", DROP_NO_LABELS, "no answer to train on"},
        {TOLD(""), DROP_BROKEN, "2:18: \"conversations\" is an empty list"},
        {"{\"conversations\":7}", DROP_BROKEN, "2:18: \"conversations\" is not a list of turns"},
        {TOLD("{\"from\":\"human\"}"), DROP_BROKEN, "2:19: a turn needs \"value\""},
        {TOLD("{\"value\":\"one\"}"), DROP_BROKEN, "2:19: a turn needs \"from\""},
        {TOLD("{\"from\":\"bard\",\"value\":\"one\"}"), DROP_BROKEN,
         "2:27: \"from\" is \"bard\"; known are human, "},
        {TOLD(ASK("one", "two") ",{\"from\":\"system\",\"value\":\"x\"}"), DROP_BROKEN,
         "a system message may only be the first one"},
        {TOLD(ASK("one", "\xff")), DROP_BROKEN, "not UTF-8"},
        {"{\"conversations\":[x]}", DROP_BROKEN, "2:19: a value is needed"},
        {"7", DROP_BROKEN, "2:1: a sample is an object"},
    };
    char text[1000], *png;
    struct set t;
    struct err e;
    size_t len;

    png = slurp("tests/data/image/rgb8.png", &len);
    spill(tmpdir_path(state, "cut.png"), png, 30); /* inside the header */
    free(png);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_init(&t, state);
        snprintf(text, sizeof text, "[%s,\n%s,\n%s]", TOLD(ASK("one", "two")), cases[i].json,
                 SEEN(ASK("<image>one", "two")));
        must(set_open(&t, state, text, &e), &e);
        assert_int_equal(t.d.n, 2);
        assert_int_equal(t.d.n_refs, 1); /* only the good sample's */
        for (int k = 0; k < DROPS; k++)
            assert_int_equal(t.d.dropped[k], k == (int)cases[i].reason);
        if (!strstr(t.d.first_dropped[cases[i].reason], "set.json:2:") ||
            !strstr(t.d.first_dropped[cases[i].reason], cases[i].says))
            fail_msg("'%s' lacks '%s'", t.d.first_dropped[cases[i].reason], cases[i].says);
        set_close(&t);
    }
}

/* Dropped samples are listed with their column, and their id if it could be read. */
static void test_left_out_named(void **state)
{
    static const char json[] = "[" TOLD(ASK(
        "one", "two")) ",\n"
                       "  {\"id\":\"a\\n7\",\"image\":\"gone.png\",\"conversations\":[" ASK(
                           "<image>",
                           "two") "]},\n"
                                  "  {\"id\":12,\"image\":\"gone.png\",\"conversations\":[" ASK(
                                      "<image>", "two") "]},\n"
                                                        "  {\"id\":13,\"conversations\":[" ASK(
                                                            "<image>",
                                                            "two") "]},\n"
                                                                   "  "
                                                                   "{\"id\":14,\"conversations\":[{"
                                                                   "\"from\":\"x\"}]},\n"
                                                                   "  {\"conversations\":[" ASK(
                                                                       "<image>", "two") "]}]";
    static const char *const want[] = {"gone.png: No such file or directory (id a\\n7)\n",
                                       "gone.png: No such file or directory (id 12)\n",
                                       "set.json:4:3: 1 <image> mark for 0 pictures (id 13)\n",
                                       "set.json:5:37: \"from\" is \"x\"; known are ",
                                       " (id 14)\n",
                                       "set.json:6:3: 1 <image> mark for 0 pictures\n"};
    struct set t;
    struct err e;
    const char *at;

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    at = t.d.left_out;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        if (!strstr(at, want[i])) fail_msg("no '%s' in: %s", want[i], at);
        at = strstr(at, want[i]);
    }
    assert_non_null(strstr(t.d.left_out, "set.json:2:3: "));
    assert_null(strstr(t.d.first_dropped[DROP_IMAGE], "id "));
    set_close(&t);
}

/* Truncated pixels are only detected when the picture is decoded; its samples are dropped then. */
static void test_bad_when_decoded(void **state)
{
    static const char json[] = "[" TOLD(ASK(
        "one",
        "two")) ",\n"
                "{\"image\":\"b.png\",\"conversations\":[" ASK(
                    "<image>a long question",
                    "two") "]}," SEEN(ASK("<image>one",
                                          "two")) ",\n"
                                                  "{\"id\":\"007\",\"image\":[\"a.png\",\"b.png\"],"
                                                  "\"conversations\":[" ASK("<image><image>",
                                                                            "two") "]}]";
    struct set t;
    struct err e, why;
    size_t len;
    char *png = slurp("tests/data/image/gray1.png", &len);

    spill(tmpdir_path(state, "b.png"), png, len);
    free(png);
    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 4);
    assert_int_equal(t.d.n_images, 2); /* each picture once */
    assert_int_equal(t.d.longest_entry, 1);
    err_set(&why, "b.png: JPEG: it is cut");
    for (int i = 0; i < 2; i++)
        if (strstr(t.d.images[i].path, "b.png"))
            must(dataset_mark_bad(&t.d.images[i], &why, &e), &e);
    assert_true(dataset_drop_bad_images(&t.d, &e));
    assert_int_equal(t.d.n, 2);
    assert_int_equal(t.d.entries[0].line, 1);
    assert_int_equal(t.d.entries[1].line, 2);
    assert_int_equal(t.d.longest_entry, 1);
    assert_int_equal(t.d.tokens, t.d.entries[0].tokens + t.d.entries[1].tokens);
    assert_int_equal(t.d.dropped[DROP_IMAGE], 2);
    assert_non_null(strstr(t.d.first_dropped[DROP_IMAGE], "set.json:2:1: b.png: JPEG: it is cut"));
    char *second = strchr(t.d.left_out, '\n') + 1; /* both are listed, one per line */
    assert_non_null(strstr(second, "set.json:3:1: b.png: JPEG: it is cut (id 007)\n"));
    assert_ptr_equal(strchr(second, '\n') + 1, t.d.left_out + strlen(t.d.left_out));
    set_close(&t);
}

/* No sample is truncated: with its own length as the limit it is kept, with one less it is
 * dropped or an error. */
static void test_too_long(void **state)
{
    static const char json[] = "[" TOLD(ASK("one", "two")) ",\n" SEEN(ASK("<image>one", "two")) "]";
    struct set t;
    struct err e;
    int64_t most;

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    most = t.d.longest;
    assert_int_equal(t.d.longest_entry, 1);
    dataset_close(&t.d);
    t.o.max_length = most;
    t.o.too_long_is_error = true;
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 2);
    dataset_close(&t.d);
    t.o.max_length = most - 1;
    assert_false(set_open(&t, state, json, &e));
    assert_non_null(strstr(e.msg, "set.json:2:1: "));
    assert_non_null(strstr(e.msg, "data.max_length"));
    t.o.too_long_is_error = false;
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 1);
    assert_int_equal(t.d.dropped[DROP_TOO_LONG], 1);
    assert_non_null(strstr(t.d.first_dropped[DROP_TOO_LONG], "set.json:2:1: "));
    set_close(&t);
}

static void test_max_bad(void **state)
{
    struct run r = {0};
    struct set t;
    struct err e;

    set_init(&t, state);
    t.o.max_length = 30;
    must(set_open(
             &t, state,
             "[" TOLD(ASK("<image>", "two")) "," SEEN(ASK("one", "two")) "," TOLD(ASK(
                 "one",
                 "a very long answer, and longer than thirty tokens are")) "," TOLD(ASK("one",
                                                                                        "two")) "]",
             &e),
         &e);
    assert_int_equal(t.d.n, 1);
    assert_int_equal(t.d.dropped[DROP_TOO_LONG], 1); /* not counted */
    r.c.data.max_bad = 2;
    must(run_report_drops(&r, &t.d, "data.train", &e), &e);
    r.c.data.max_bad = 1;
    assert_false(run_report_drops(&r, &t.d, "data.train", &e));
    assert_non_null(
        strstr(e.msg, "data.train: samples that cannot be used: 2, data.max_bad allows 1"));
    assert_non_null(strstr(e.msg, "set.json:1:2: 1 <image> mark for 0 pictures"));
    set_close(&t);
}

/* A model without images: text as before, and samples that need images are dropped. */
static void test_text_only_model(void **state)
{
    struct set t;
    struct err e;

    set_init(&t, state);
    t.o.pictures.id = -1;
    must(set_open(&t, state,
                  "[" TOLD(ASK("one", "two")) "," SEEN(ASK("one", "two")) "," TOLD(
                      ASK("<image>one", "two")) "]",
                  &e),
         &e);
    assert_int_equal(t.d.n, 1);
    assert_int_equal(t.d.dropped[DROP_MISMATCH], 2);
    assert_non_null(strstr(t.d.first_dropped[DROP_MISMATCH], "text-only model"));
    set_close(&t);
}

/* A sample to be answered must ask something: a text does not, nor does a conversation that begins
 * with the answer, if roles have no marks. An image does. */
static void test_asked(void **state)
{
    static const char json[] =
        "[{\"text\":\"one\"},\n" TOLD("{\"from\":\"gpt\",\"value\":\"one\"}") ",\n" TOLD(
            ASK("", "two")) ",\n" TOLD(ASK("one", "two")) ",\n" SEEN(ASK("<image>", "two")) "]";
    struct set t;
    struct err e;

    set_init(&t, state);
    t.o.chat = template_find("plain", &e);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 5);
    dataset_close(&t.d);
    t.o.asked = true;
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 2);
    assert_int_equal(t.d.entries[0].line, 4);
    assert_int_equal(t.d.dropped[DROP_BROKEN], 3);
    assert_non_null(strstr(t.d.first_dropped[DROP_BROKEN], "set.json:1:2: asks nothing"));
    set_close(&t);
}

/* Truncated anywhere, a list is refused with file and line, and nothing stays open. */
static void test_broken_file(void **state)
{
    static const char json[] = "[" TOLD(ASK("one", "two")) ",\n" TOLD(ASK("one", "two")) "\n]";
    char text[sizeof json];
    struct set t;
    struct err e;

    set_init(&t, state);
    for (size_t len = 0; len + 1 < sizeof json; len++) {
        memcpy(text, json, len);
        text[len] = '\0';
        e.msg[0] = '\0';
        assert_false(set_open(&t, state, text, &e));
        if (!strstr(e.msg, "set.json:1:") && !strstr(e.msg, "set.json:2:") &&
            !strstr(e.msg, "set.json:3:"))
            fail_msg("cut to %zu bytes: '%s'", len, e.msg);
        assert_null(t.d.maps);
    }
    assert_false(set_open(&t, state, "[" TOLD(ASK("one", "two")) "\n{}]", &e));
    assert_non_null(strstr(e.msg, "set.json:2:1: found '{' where ',' or ']' is due"));
    assert_false(dataset_open(&t.d, &(struct dataset_source){.path = "no/such.json"}, 1, &t.o, &e));
    assert_non_null(strstr(e.msg, "no/such.json"));
    set_close(&t);
}

/* A limit counts usable samples, per file; pictures may be elsewhere. */
static void test_sources(void **state)
{
    struct dataset_source sources[2] = {{.limit = 2}, {.limit = 1}};
    struct set t;
    struct err e;
    static const char json[] = "[" TOLD(ASK("<image>", "two")) "," TOLD(ASK(
        "one", "two")) ",\n" SEEN(ASK("<image>one", "two")) ",\n" TOLD(ASK("three", "four")) "]";

    set_init(&t, state);
    assert_int_equal(mkdir(tmpdir_path(state, "elsewhere"), 0777), 0);
    sources[0].path = tmpdir_path(state, "set.json");
    sources[1].path = tmpdir_path(state, "elsewhere/other.json");
    sources[1].images = *state;
    spill(sources[0].path, json, strlen(json));
    spill(sources[1].path, json, strlen(json));
    must(dataset_open(&t.d, sources, 2, &t.o, &e), &e);
    assert_int_equal(t.d.n, 3);
    assert_int_equal(t.d.entries[1].source, 0);
    assert_int_equal(t.d.entries[2].source, 1);
    assert_int_equal(t.d.n_images, 1); /* the same file, from both */
    assert_int_equal(t.d.dropped[DROP_MISMATCH], 2);
    set_close(&t);
}

/* Modified in place, so that the mapping sees it: into something invalid, and into a sample
 * of another length. */
static void test_file_changes(void **state)
{
    static const char json[] = "[" TOLD(ASK("one", "two")) "]";
    const char *const changed[] = {"                                                          ",
                                   "[" TOLD(ASK("o e", "two")) "]"};
    const char *const why[] = {"set.json:1:2: was changed while it was in use: ",
                               "tokens and had "};
    struct set t;
    struct sample s;
    struct err e;

    for (int i = 0; i < 2; i++) {
        set_init(&t, state);
        must(set_open(&t, state, json, &e), &e);
        FILE *fp = fopen(tmpdir_path(state, "set.json"), "r+b");
        assert_non_null(fp);
        assert_int_equal(fwrite(changed[i], 1, strlen(changed[i]), fp), strlen(changed[i]));
        assert_int_equal(fclose(fp), 0);
        assert_false(dataset_sample(&t.d, 0, &s, &e));
        assert_non_null(strstr(e.msg, why[i]));
        set_close(&t);
    }
    watch_check(&e); /* it is found there too, and must not be reported again later */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_trained_tokens),
        tmpdir_test(test_image_anywhere),
        tmpdir_test(test_prompt_and_names),
        tmpdir_test(test_byte_ranges),
        tmpdir_test(test_not_loaded_whole),
        tmpdir_test(test_left_out),
        tmpdir_test(test_left_out_named),
        tmpdir_test(test_bad_when_decoded),
        tmpdir_test(test_too_long),
        tmpdir_test(test_max_bad),
        tmpdir_test(test_text_only_model),
        tmpdir_test(test_broken_file),
        tmpdir_test(test_sources),
        tmpdir_test(test_file_changes),
        tmpdir_test(test_asked),
    };

    return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
