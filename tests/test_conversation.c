/* test_conversation.c - the spellings of data sets: which are equivalent, which cannot be used and
 * with what message, what is counted as unused, and ids as spelled. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/sample_set.h"

/* ---- equivalent spellings ---- */

#define SAID(role, text) "{\"role\":\"" role "\",\"content\":\"" text "\"}"

static void test_spellings(void **state)
{
    static const char plain[] = "<s> USER: one ASSISTANT:[ two</s>]</s>";
    static const char system[] = "<s> be good USER: one ASSISTANT:[ two</s>]</s>";
    static const char picture[] = "<s> USER: <image> \none ASSISTANT:[ two</s>]</s>";
    static const struct {
        const char *json, *want;
    } cases[] = {
        /* turns */
        {"{\"messages\":[" SAID("user", "one") "," SAID("assistant", "two") "]}", plain},
        {"{\"conversations\":[" SAID("user", "one") "," SAID("model", "two") "]}", plain},
        {"{\"messages\":[{\"from\":\"human\",\"content\":\"one\"},{\"role\":\"chatgpt\",\"value\":"
         "\"two\"}]}",
         plain},
        {"{\"conversations\":null,\"messages\":[" SAID("user", "one") "," SAID("bot", "two") "]}",
         plain},
        {"{\"conversations\":[" ASK("one", "two") "],\"messages\":[],\"text\":null}", plain},
        /* system texts */
        {"{\"system\":\"be good\",\"conversations\":[" ASK("one", "two") "]}", system},
        {"{\"conversations\":[" ASK("one", "two") "],\"system\":\"be good\"}", system},
        {"{\"messages\":[" SAID("developer", "be good") "," SAID("user", "one") "," SAID(
             "assistant", "two") "]}",
         system},
        {"{\"system\":\"be good\",\"messages\":[" SAID("system", "be good") "," SAID(
             "user", "one") "," SAID("assistant", "two") "]}",
         system},
        {"{\"system\":\"\",\"conversations\":[" ASK("one", "two") "]}", plain},
        {"{\"system\":null,\"conversations\":[" ASK("one", "two") "]}", plain},
        /* pictures */
        {"{\"images\":[\"a.png\"],\"conversations\":[" ASK("<image>one", "two") "]}", picture},
        {"{\"images\":\"a.png\",\"conversations\":[" ASK("<image>one", "two") "]}", picture},
        {"{\"image\":\"a.png\",\"images\":[\"a.png\"],\"conversations\":[" ASK("<image>one",
                                                                               "two") "]}",
         picture},
        {"{\"image\":\"\",\"images\":[],\"conversations\":[" ASK("one", "two") "]}", plain},
        {"{\"images\":[{\"path\":\"a.png\",\"bytes\":null}],\"conversations\":[" ASK("<image>one",
                                                                                     "two") "]}",
         picture},
        {"{\"video\":null,\"videos\":[],\"tools\":\"\",\"conversations\":[" ASK("one", "two") "]}",
         plain},
        /* parts */
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"image\":\"a.png\"},"
         "{\"type\":\"text\",\"text\":\"one\"}]}," SAID("assistant", "two") "]}",
         picture},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{"
         "\"url\":\"a.png\",\"detail\":\"low\"}},{\"type\":\"text\",\"text\":\"one\"}]}," SAID(
             "assistant", "two") "]}",
         picture},
        {"{\"images\":[\"a.png\"],\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
         "\"image\"},{\"type\":\"text\",\"text\":\"on\"},{\"type\":\"text\",\"text\":\"e\"}]},"
         "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"two\"}]}]}",
         picture},
        {"{\"images\":[\"a.png\"],\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
         "\"image\",\"path\":\"a.png\"},{\"type\":\"text\",\"text\":\"one\"}]}," SAID("assistant",
                                                                                      "two") "]}",
         picture},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"<image>one\",\"images\":[\"a.png\"]}"
         "," SAID("assistant", "two") "]}",
         picture},
        /* flags that ask for what happens anyway */
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"one\"},{\"role\":\"assistant\","
         "\"content\":\"two\",\"loss\":true,\"weight\":1}]}",
         plain},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"one\",\"loss\":false},"
         "{\"role\":\"assistant\",\"content\":\"two\"}]}",
         plain},
        /* plain text with an image */
        {"{\"text\":\"one <image> two\",\"image\":\"a.png\"}", "<s>[ one ]<image>[  two]</s>"},
    };
    char json[600];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(json, sizeof json, "[%s]", cases[i].json);
        expect_tokens(state, json, cases[i].want);
    }
}

/* Absolute paths, also as file:// addresses. */
static void test_file_address(void **state)
{
    char json[1000];

    snprintf(json, sizeof json,
             "[{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"image\":"
             "\"file://%s/a.png\"},{\"type\":\"text\",\"text\":\"one\"}]}," SAID("assistant",
                                                                                 "two") "]}]",
             (const char *)*state);
    expect_tokens(state, json, "<s> USER: <image> \none ASSISTANT:[ two</s>]</s>");
}

/* ---- dropped ---- */

#define WITH(key, value) "{\"" key "\":" value ",\"conversations\":[" ASK("one", "two") "]}"
#define BY(role) "{\"conversations\":[{\"from\":\"" role "\",\"value\":\"one\"}]}"
#define PARTS(parts)                                                                               \
    "{\"messages\":[{\"role\":\"user\",\"content\":[" parts "]}," SAID("assistant", "two") "]}"

static const struct {
    const char *json;
    enum drop_reason reason;
    const char *says; /* after "FILE:2" */
} refused[] = {
    /* unsupported content */
    {WITH("video", "\"a.mp4\""), DROP_UNREAD, ":10: \"video\" is not read"},
    {WITH("videos", "[\"a.mp4\"]"), DROP_UNREAD, ":11: \"videos\" is not read"},
    {WITH("audio", "{\"path\":\"a.wav\"}"), DROP_UNREAD, "\"audio\" is not read"},
    {WITH("tools", "\"[{}]\""), DROP_UNREAD, "\"tools\" is not read"},
    {TOLD(ASK("<video>\\nwhat", "two")), DROP_UNREAD, ":43: the mark \"<video>\" is not read"},
    {TOLD(ASK("a <|vision_start|><|video_pad|>", "two")), DROP_UNREAD, "<|vision_start|>"},
    {TOLD(ASK("one", "an <audio>")), DROP_UNREAD, "the mark \"<audio>\" is not read"},
    {BY("observation"), DROP_UNREAD, "\"from\" is \"observation\": calls of tools"},
    {BY("function_call"), DROP_UNREAD, "\"from\" is \"function_call\": calls of tools"},
    {"{\"messages\":[" SAID("tool", "7") "]}", DROP_UNREAD, "\"role\" is \"tool\": calls"},
    {"{\"messages\":[" SAID("user", "one") ",{\"role\":\"assistant\",\"content\":null,"
                                           "\"tool_calls\":[{}]}]}",
     DROP_UNREAD, "\"tool_calls\" is not read"},
    {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"loss\":false}]}", DROP_UNREAD,
     "\"loss\" is not read: every answer is learnt"},
    {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0}]}", DROP_UNREAD,
     "\"weight\" is not read"},
    {PARTS("{\"type\":\"video\",\"fps\":1}"), DROP_UNREAD, "a part of type \"video\" is not read"},
    {PARTS("{\"type\":\"input_audio\",\"input_audio\":{}}"), DROP_UNREAD, "\"input_audio\""},
    /* images that are not files */
    {WITH("image", "\"https://a.b/c.png\""), DROP_IMAGE, "is no file: pictures are read from"},
    {WITH("image", "\"s3://a/c.png\""), DROP_IMAGE, "is no file: pictures are read from"},
    {WITH("image", "\"~/c.png\""), DROP_IMAGE,
     "begins with ~, which only a shell knows: write out what it stands for"},
    {WITH("images", "[\"data:image/png;base64,AAAA\"]"), DROP_IMAGE, "is no file"},
    {WITH("image", "\"a.png\\u0000\""), DROP_IMAGE, "a zero character in a picture's path"},
    /* contradictions */
    {"{\"image\":\"a.png\",\"images\":[\"b.png\"],\"conversations\":[" ASK("<image>", "two") "]}",
     DROP_MISMATCH, ":27: names other pictures than"},
    {"{\"image\":\"b.png\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\","
     "\"path\":\"a.png\"}]}," SAID("assistant", "two") "]}",
     DROP_MISMATCH, "names other pictures than"},
    {"{\"images\":[\"a.png\"],\"conversations\":[" ASK("one", "two") "]}", DROP_MISMATCH,
     ": 0 <image> marks for 1 picture"},
    {"{\"system\":\"a\",\"messages\":[" SAID("system", "b") "," SAID("assistant", "two") "]}",
     DROP_BROKEN, "differs from the sample's \"system\""},
    {"{\"messages\":[" SAID("user", "one") "],\"conversations\":[" ASK("one", "two") "]}",
     DROP_BROKEN, "has both \"messages\" and \"conversations\""},
    {"{\"messages\":[{\"role\":\"user\",\"from\":\"gpt\",\"value\":\"one\"}]}", DROP_BROKEN,
     "has both \"role\" and \"from\""},
    {TOLD("{\"from\":\"gpt\",\"value\":\"a\",\"content\":\"b\"}"), DROP_BROKEN,
     "has both \"value\" and \"content\""},
    /* shapes */
    {"{\"instruction\":\"a\",\"input\":\"\",\"output\":\"b\",\"history\":[],\"x\":1}", DROP_BROKEN,
     ":1: no turns under \"conversations\" or \"messages\", and no \"text\"; it has "
     "\"instruction\", \"input\", \"output\", \"history\", ..."},
    {"[]", DROP_BROKEN, ":1: a sample is an object"},
    {WITH("system", "7"), DROP_BROKEN, "\"system\" must be a string"},
    {"{\"id\":5,\"text\":5}", DROP_BROKEN, ":16: \"text\" must be a string"},
    {PARTS("\"one\""), DROP_BROKEN, "a part of a turn needs a \"type\""},
    {PARTS("{\"type\":\"text\"}"), DROP_BROKEN, "\"text\" is missing"},
    {PARTS("{\"type\":\"image\",\"image\":{\"bytes\":\"AAAA\"}}"), DROP_BROKEN,
     "\"image\" must be a path or a list of paths"},
    {WITH("image", "{\"<image_00>\":\"a.png\"}"), DROP_BROKEN, "\"image\" must be a path"},
    {BY("human\\u0000x"), DROP_BROKEN, "\"from\" is \"human\""},
    /* JSON */
    {TOLD(ASK("one", "a \\ud83d star")), DROP_BROKEN, ":75: lone surrogate \\ud83d"},
    {TOLD(ASK("one", "a \\udc00 star")), DROP_BROKEN, "lone surrogate \\udc00"},
    {"{\"id\":007,\"text\":\"a\"}", DROP_BROKEN, ":7: a number must not begin with 0"},
    {"{\"score\":NaN,\"text\":\"a\"}", DROP_BROKEN, ":10: a value is needed, near 'NaN"},
    {"{\"text\":\"a\",\"text\":\"b\"}", DROP_BROKEN, "the key \"text\" is there twice"},
    {"{'text':'a'}", DROP_BROKEN, ":2: a key in double quotes is needed"},
    {"{\"text\":\"a\",}", DROP_BROKEN, "a trailing comma is not allowed"},
    {"{\"text\":\"a\" /* b */}", DROP_BROKEN, "a comma or } is needed"},
};

static void test_refused(void **state)
{
    char text[1000], where[700];
    struct set t;
    struct err e;

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const char *first;

        set_init(&t, state);
        snprintf(text, sizeof text, "[%s,\n%s]", TOLD(ASK("one", "two")), refused[i].json);
        must(set_open(&t, state, text, &e), &e);
        assert_int_equal(t.d.n, 1);
        for (int k = 0; k < DROPS; k++)
            if (t.d.dropped[k] != (k == (int)refused[i].reason))
                fail_msg("%s: left out as %d: %s", refused[i].json, k, t.d.left_out);
        first = t.d.first_dropped[refused[i].reason];
        snprintf(where, sizeof where, "%s:2:", tmpdir_path(state, "set.json"));
        if (strncmp(first, where, strlen(where)) != 0 || !strstr(first, refused[i].says))
            fail_msg("'%s' lacks '%s'", first, refused[i].says);
        set_close(&t);
    }
}

/* The model's own image mark is not an unsupported one. */
static void test_own_mark(void **state)
{
    char *text = slurp("tests/data/tokenizer/metaspace.json", NULL), *at;
    struct set t;
    struct err e;

    set_init(&t, state);
    tokenizer_free(t.tk);
    /* replaces "<image>" by "<bbox>" */
    for (; (at = strstr(text, "<image>")) != NULL; memmove(at + 6, at + 7, strlen(at + 7) + 1))
        memcpy(at, "<bbox>", 6);
    spill(tmpdir_path(state, "tok.json"), text, strlen(text));
    free(text);
    t.tk = tokenizer_load(tmpdir_path(state, "tok.json"), &e);
    must(t.tk, &e);
    t.o.tokenizer = t.tk;
    t.o.pictures.id = tokenizer_id(t.tk, "<bbox>");
    must(set_open(&t, state, "[" SEEN(ASK("<bbox>one", "two")) "]", &e), &e);
    assert_int_equal(t.d.n, 1);
    set_close(&t);
}

/* ---- unused ---- */

static void expect_unused(const struct unused *u, int i, enum unused_kind kind, const char *name,
                          int64_t count, const char *where)
{
    assert_true(i < u->n);
    assert_int_equal(u->names[i].kind, kind);
    assert_string_equal(u->names[i].name, name);
    assert_int_equal(u->names[i].count, count);
    if (!strstr(u->names[i].where, where)) fail_msg("%s is not %s", u->names[i].where, where);
}

static void test_unused(void **state)
{
    static const char json[] =
        "[{\"id\":1,\"source\":\"a\",\"width\":3,\"caption\":\"x\",\"answer\":null,"
        "\"conversations\":"
        "[" ASK("one",
                "two") "]},\n"
                       "{\"caption\":\"y\",\"text\":\"z\",\"messages\":[{\"role\":\"user\","
                       "\"content\":[{\"type\":"
                       "\"text\",\"text\":\"one\",\"min_pixels\":4}],\"name\":\"bob\"}," SAID(
                           "assistant",
                           "two") "]},\n"
                                  "{\"conversations\":[{\"from\":\"bard\",\"value\":\"a\",\"name\":"
                                  "\"x\"}]},\n"
                                  "{\"conversations\":[{\"from\":\"bard\",\"value\":\"a\"}]},\n"
                                  "{\"video\":\"a.mp4\",\"text\":\"a\"},\n" TOLD(
                                      ASK("<audio>", "two")) "]";
    const struct unused *u;
    struct set t;
    struct err e;

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    u = &t.d.unused;
    assert_int_equal(t.d.n, 2);
    assert_int_equal(u->n, 7);
    expect_unused(u, 0, UNUSED_SAMPLE_KEY, "caption", 2, "set.json:1:33");
    expect_unused(u, 1, UNUSED_SAMPLE_KEY, "text", 1, "set.json:2:16");
    expect_unused(u, 2, UNUSED_TURN_KEY, "name", 2, "set.json:2:");
    expect_unused(u, 3, UNUSED_PART_KEY, "min_pixels", 1, "set.json:2:");
    expect_unused(u, 4, UNUSED_ROLE, "bard", 2, "set.json:3:20");
    expect_unused(u, 5, UNUSED_SAMPLE_KEY, "video", 1, "set.json:5:2");
    expect_unused(u, 6, UNUSED_MARK, "<audio>", 1, "set.json:6:");
    set_close(&t);
}

/* A set with any number of keys costs a table with a fixed number of names. */
static void test_many_keys(void **state)
{
    char *json = malloc(200000), *to = json;
    struct set t;
    struct err e;

    assert_non_null(json);
    to += sprintf(to, "[{\"text\":\"one\"");
    for (int i = 0; i < 5000; i++)
        to += sprintf(to, ",\"k%d\":1", i);
    sprintf(to, "}]");
    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 1);
    assert_int_equal(t.d.unused.n, UNUSED_NAMES);
    assert_int_equal(t.d.unused.others, 5000 - UNUSED_NAMES);
    set_close(&t);
    free(json);
}

/* ---- ids ---- */

/* As a double, the first would have become 12345678901234567168; ids with quotes or
 * zeros are kept too. */
static void test_ids(void **state)
{
    static const char json[] =
        "[{\"id\":12345678901234567890,\"text\":\"a\"},"
        "{\"id\":1e3,\"text\":\"a\"},{\"id\":-1.50,\"text\":\"a\"},"
        "{\"id\":0,\"text\":\"a\"},{\"id\":\"a\\u0000\\\"b\",\"text\":\"a\"},"
        "{\"id\":null,\"text\":\"a\"},\n{\"text\":\"a\"},"
        "{\"id\":{\"a\":1},\"text\":\"a\"}]";
    static const struct {
        const char *id;
        size_t n;
    } want[] = {{"12345678901234567890", 20},
                {"1e3", 3},
                {"-1.50", 5},
                {"0", 1},
                {"a\0\"b", 4},
                {NULL, 0},
                {"line 2", 6},
                {NULL, 0}};
    char line[40];
    struct set t;
    struct sample s;
    struct err e;

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 8);
    for (int64_t i = 0; i < t.d.n; i++) {
        const char *id = want[i].id;
        must(dataset_sample(&t.d, i, &s, &e), &e);
        if (!id) { /* the place, with the column unless first on its line */
            snprintf(line, sizeof line, "line %lld:%lld", (long long)t.d.entries[i].line,
                     (long long)t.d.entries[i].col);
            id = line;
        }
        assert_int_equal(s.id.n, want[i].id ? want[i].n : strlen(id));
        assert_memory_equal(s.id.s, id, s.id.n);
        sample_free(&s);
    }
    expect_unused(&t.d.unused, 0, UNUSED_SAMPLE_KEY, "id", 1, "set.json:2:");
    set_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_spellings), tmpdir_test(test_file_address), tmpdir_test(test_refused),
        tmpdir_test(test_own_mark),  tmpdir_test(test_unused),       tmpdir_test(test_many_keys),
        tmpdir_test(test_ids),
    };

    return cmocka_run_group_tests_name("conversation", tests, NULL, NULL);
}
