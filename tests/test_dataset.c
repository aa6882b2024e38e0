/* test_dataset.c - LLaVA JSON to token samples: where they are found, how images take their places,
 * what is trained, what is left out and how that is said, and in which order they come. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/dataset.h"
#include "tests/tmpdir.h"
#include "train/run.h"

#include <malloc.h>

#define PLACES 4 /* of an image, here */

/* A turn pair, and samples with a good picture and without one. */
#define ASK(q, a) "{\"from\":\"human\",\"value\":\"" q "\"},{\"from\":\"gpt\",\"value\":\"" a "\"}"
#define SEEN(turns) "{\"image\":\"a.png\",\"conversations\":[" turns "]}"
#define TOLD(turns) "{\"conversations\":[" turns "]}"

struct set {
    struct dataset d;
    struct dataset_options o;
    struct tokenizer *tk;
};

static void must(bool ok, const struct err *e)
{
    if (!ok) fail_msg("%s", e->msg);
}

/* The options of a model that sees pictures; and a.png, which is one. */
static void set_init(struct set *t, void *const *state)
{
    struct err e;
    size_t len;
    char *png = slurp("tests/data/image/gray1.png", &len);

    spill(tmpdir_path(state, "a.png"), png, len);
    free(png);
    memset(t, 0, sizeof *t);
    t->tk = tokenizer_load("tests/data/tokenizer/metaspace.json", &e);
    must(t->tk, &e);
    t->o = (struct dataset_options){.tokenizer = t->tk,
                                    .chat = template_find("vicuna", &e),
                                    .image_id = tokenizer_id(t->tk, "<image>"),
                                    .image_tokens = PLACES,
                                    .max_length = 200};
    assert_true(t->o.chat && t->o.image_id > 0);
}

static bool set_open(struct set *t, void *const *state, const char *json, struct err *e)
{
    struct dataset_source source = {.path = tmpdir_path(state, "set.json")};

    spill(source.path, json, strlen(json));
    return dataset_open(&t->d, &source, 1, &t->o, e);
}

static void set_close(struct set *t)
{
    dataset_close(&t->d);
    tokenizer_free(t->tk);
}

/* The tokens of a sample as one text, for people: a blank for the tokenizer's mark of one,
 * "<image>" once for its places, and brackets around what is trained. */
static void show(const struct set *t, const struct sample *s, char *out)
{
    for (int64_t i = 0; i < s->n; i++) {
        const char *piece = tokenizer_piece(t->tk, s->ids[i]);
        unsigned byte;
        int places = 0;

        assert_int_equal(s->modality[i], s->ids[i] == t->o.image_id ? IMAGE : TEXT);
        if (s->trained[i] && (i == 0 || !s->trained[i - 1])) *out++ = '[';
        for (const char *p = piece; *p; p++) {
            if (sscanf(p, "<0x%02X>", &byte) == 1) {
                *out++ = (char)byte;
                break;
            }
            *out++ = strncmp(p, "▁", 3) == 0 ? ' ' : *p;
            if (out[-1] == ' ') p += 2;
        }
        while (s->ids[i] == t->o.image_id && ++places < PLACES)
            assert_int_equal(s->ids[++i], t->o.image_id);
        if (s->trained[i] && (i + 1 == s->n || !s->trained[i + 1])) *out++ = ']';
    }
    *out = '\0';
}

/* Opens one sample and compares its tokens with `want`. As with Llama 2's file, this tokenizer puts
 * a blank before the text and behind each special token in it; its own </s>, which the file asks
 * for, comes last and is not trained. */
static void expect_tokens(void *const *state, const char *json, const char *want)
{
    struct set t;
    struct sample s;
    struct err e = {""};
    char got[1000];

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    if (t.d.n != 1) fail_msg("%s: left out", json);
    must(dataset_sample(&t.d, 0, &s, &e), &e);
    show(&t, &s, got);
    assert_string_equal(got, want);
    assert_int_equal(s.n, t.d.entries[0].tokens);
    sample_free(&s);
    set_close(&t);
}

static void test_trained_tokens(void **state)
{
    expect_tokens(state, "[" TOLD(ASK("one", "two")) "]", "<s> USER: one ASSISTANT:[ two</s>]</s>");
    /* several turns */
    expect_tokens(
        state, "[" SEEN(ASK("<image>\\none", "two") "," ASK("three", "four")) "]",
        "<s> USER: <image> \none ASSISTANT:[ two</s>] USER: three ASSISTANT:[ four</s>]</s>");
    /* what the user says in the assistant's words is not trained; nor is a system text */
    expect_tokens(state, "[" TOLD(ASK("ASSISTANT: no", "yes")) "]",
                  "<s> USER: ASSISTANT: no ASSISTANT:[ yes</s>]</s>");
    expect_tokens(state,
                  "[" TOLD("{\"from\":\"system\",\"value\":\"be good\"}," ASK("one", "two")) "]",
                  "<s> be good USER: one ASSISTANT:[ two</s>]</s>");
    expect_tokens(state, "[" TOLD(ASK("one", "")) "]", "<s> USER: one ASSISTANT:[ </s>]</s>");
    /* a question behind the last answer, as some sets have it */
    expect_tokens(state,
                  "[" TOLD(ASK("one", "two") ",{\"from\":\"human\",\"value\":\"three\"}") "]",
                  "<s> USER: one ASSISTANT:[ two</s>] USER: three </s>");
    /* plain text: nothing is put around it, and all of it is trained */
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
        /* an image's places in an answer are nothing to learn */
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
        assert_string_equal(s.id, ids[i]);
        assert_string_equal(s.answer, answers[i]);
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

/* The same samples as a list and one a line; brackets and quotes in texts do not confuse it. */
static void test_byte_ranges(void **state)
{
    static const char b[] = SEEN(ASK("<image>one", "two"));
    static const char *const forms[] = {"[\n %s,\n\n  %s\n]\n", "[%s,%s]", "%s\n%s\n", "%s\n\n%s"};
    char a[] = "{ \"conversations\":[" ASK("]} \\\" [{", "two") "]}", text[1000];
    struct set t;
    struct err e;

    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        a[1] = f < 2 ? '\n' : ' '; /* in a list, samples may take several lines */
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

/* 32 MiB between two samples: the file is not taken into memory. */
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
        {TOLD(ASK("<image>one", "two")), DROP_MISMATCH, "1 <image> marks for 0 pictures"},
        {SEEN(ASK("one", "two")), DROP_MISMATCH, "0 <image> marks for 1 pictures"},
        {SEEN(ASK("<image><image>one", "two")), DROP_MISMATCH, "2 <image> marks for 1 pictures"},
        {"{\"image\":\"gone.png\",\"conversations\":[" ASK("<image>", "two") "]}", DROP_IMAGE,
         "gone.png: No such file"},
        {"{\"image\":[\"a.png\",\"gone.png\"],\"conversations\":[" ASK("<image><image>",
                                                                       "two") "]}",
         DROP_IMAGE, "gone.png: No such file"},
        {"{\"image\":\"set.json\",\"conversations\":[" ASK("<image>", "two") "]}", DROP_IMAGE,
         "set.json: neither PNG nor JPEG"},
        {"{\"image\":\"cut.png\",\"conversations\":[" ASK("<image>", "two") "]}", DROP_IMAGE,
         "cut.png: PNG: the file is cut short"},
        {"{\"image\":3,\"conversations\":[" ASK("<image>", "two") "]}", DROP_BROKEN,
         "\"image\" must be a path"},
        {"{\"image\":[\"a.png\",3],\"conversations\":[" ASK("<image>", "two") "]}", DROP_BROKEN,
         "\"image\" must be a path"},
        {"{\"conversation\":[]}", DROP_BROKEN, "neither \"conversations\" nor \"text\""},
        {"{\"text\":\"\xff\"}", DROP_BROKEN, "not UTF-8"},
        {"{\"text\":7}", DROP_BROKEN, "neither \"conversations\" nor \"text\""},
        {"{\"text\":\"\"}", DROP_NO_LABELS, "no answer to train on"},
        {TOLD(""), DROP_BROKEN, "\"conversations\" is not a list of turns or is empty"},
        {TOLD("{\"from\":\"human\"}"), DROP_BROKEN, "\"from\" and \"value\""},
        {TOLD("{\"from\":\"bard\",\"value\":\"one\"}"), DROP_BROKEN, "\"from\" is \"bard\""},
        {TOLD(ASK("one", "two") ",{\"from\":\"system\",\"value\":\"x\"}"), DROP_BROKEN,
         "a system message may only be the first one"},
        {TOLD(ASK("one", "\xff")), DROP_BROKEN, "not UTF-8"},
        {"{\"conversations\":[x]}", DROP_BROKEN, "is not JSON"},
        {"7", DROP_BROKEN, "neither \"conversations\" nor \"text\""},
    };
    char text[1000], where[100], *png;
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
        assert_int_equal(t.d.n_refs, 1); /* of the good sample alone */
        for (int k = 0; k < DROPS; k++)
            assert_int_equal(t.d.dropped[k], k == (int)cases[i].reason);
        snprintf(where, sizeof where, "set.json:2: ");
        if (!strstr(t.d.first_dropped[cases[i].reason], where) ||
            !strstr(t.d.first_dropped[cases[i].reason], cases[i].says))
            fail_msg("'%s' lacks '%s'", t.d.first_dropped[cases[i].reason], cases[i].says);
        set_close(&t);
    }
}

/* A picture whose pixels are cut is known when it is decoded. Its samples go then. */
static void test_bad_when_decoded(void **state)
{
    static const char json[] = "[" TOLD(
        ASK("one", "two")) ",\n"
                           "{\"image\":\"b.png\",\"conversations\":[" ASK(
                               "<image>a long question",
                               "two") "]}," SEEN(ASK("<image>one",
                                                     "two")) ",\n"
                                                             "{\"image\":[\"a.png\",\"b.png\"],"
                                                             "\"conversations\":[" ASK(
                                                                 "<image><image>", "two") "]}]";
    struct set t;
    struct err e;
    size_t len;
    char *png = slurp("tests/data/image/gray1.png", &len);

    spill(tmpdir_path(state, "b.png"), png, len);
    free(png);
    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 4);
    assert_int_equal(t.d.n_images, 2); /* each picture once */
    assert_int_equal(t.d.longest_entry, 1);
    for (int i = 0; i < 2; i++)
        t.d.images[i].bad = strstr(t.d.images[i].path, "b.png");
    assert_true(dataset_drop_bad_images(&t.d, &e));
    assert_int_equal(t.d.n, 2);
    assert_int_equal(t.d.entries[0].line, 1);
    assert_int_equal(t.d.entries[1].line, 2);
    assert_int_equal(t.d.longest_entry, 1);
    assert_int_equal(t.d.tokens, t.d.entries[0].tokens + t.d.entries[1].tokens);
    assert_int_equal(t.d.dropped[DROP_IMAGE], 2);
    assert_non_null(strstr(t.d.first_dropped[DROP_IMAGE], "set.json:2: "));
    assert_non_null(strstr(t.d.first_dropped[DROP_IMAGE], "b.png"));
    char *second = strchr(t.d.left_out, '\n') + 1; /* both are named, a line each */
    assert_non_null(strstr(second, "set.json:3: "));
    assert_ptr_equal(strchr(second, '\n') + 1, t.d.left_out + strlen(t.d.left_out));
    set_close(&t);
}

/* No sample is cut: at its own length it is kept, at one less it is left out or an error. */
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
    assert_non_null(strstr(e.msg, "set.json:2: "));
    assert_non_null(strstr(e.msg, "data.max_length"));
    t.o.too_long_is_error = false;
    must(set_open(&t, state, json, &e), &e);
    assert_int_equal(t.d.n, 1);
    assert_int_equal(t.d.dropped[DROP_TOO_LONG], 1);
    assert_non_null(strstr(t.d.first_dropped[DROP_TOO_LONG], "set.json:2: "));
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
    assert_int_equal(t.d.dropped[DROP_TOO_LONG], 1); /* which does not count against it */
    r.c.data.max_bad = 2;
    must(run_report_drops(&r, &t.d, "data.train", &e), &e);
    r.c.data.max_bad = 1;
    assert_false(run_report_drops(&r, &t.d, "data.train", &e));
    assert_non_null(strstr(e.msg, "data.train: 2 samples cannot be used, data.max_bad allows 1"));
    assert_non_null(strstr(e.msg, "set.json:1: 1 <image> marks for 0 pictures"));
    set_close(&t);
}

/* A model without pictures: text as before, and what needs one is left out. */
static void test_text_only_model(void **state)
{
    struct set t;
    struct err e;

    set_init(&t, state);
    t.o.image_id = -1;
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

/* What is to be answered must ask: a text does not, nor does a conversation that begins with the
 * answer, where roles have no marks. An image does. */
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
    assert_non_null(strstr(t.d.first_dropped[DROP_BROKEN], "set.json:1: asks nothing"));
    set_close(&t);
}

/* Cut anywhere, a list is refused with the file and the line, and leaves nothing open. */
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
        if (!strstr(e.msg, "set.json:1: ") && !strstr(e.msg, "set.json:2: ") &&
            !strstr(e.msg, "set.json:3: "))
            fail_msg("cut to %zu bytes: '%s'", len, e.msg);
        assert_null(t.d.maps);
    }
    assert_false(set_open(&t, state, "[" TOLD(ASK("one", "two")) "\n{}]", &e));
    assert_non_null(strstr(e.msg, "set.json:2: found '{' where ',' or ']' is due"));
    assert_false(dataset_open(&t.d, &(struct dataset_source){.path = "no/such.json"}, 1, &t.o, &e));
    assert_non_null(strstr(e.msg, "no/such.json"));
    set_close(&t);
}

/* A limit counts what can be used, in each file of its own; pictures may lie elsewhere. */
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

/* In place, so that the map sees it: to what is no sample, and to one of another length. */
static void test_file_changes(void **state)
{
    static const char json[] = "[" TOLD(ASK("one", "two")) "]";
    const char *const changed[] = {"                                                          ",
                                   "[" TOLD(ASK("o e", "two")) "]"};
    const char *const why[] = {"set.json:1: was changed while it was in use: ", "tokens and had "};
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
    watch_check(&e); /* found there, too: not to be met by who asks next */
}

/* ---- batches ---- */

/* Two samples in one stream: rows, spans that end with their sample, and each trained token as the
 * label of the row before it. */
static void test_batch(void **state)
{
    static const char json[] =
        "[" SEEN(ASK("<image>one", "two") "," ASK("three", "four")) "," TOLD(ASK("one", "two")) "]";
    struct batch_buffer b = {0};
    struct sample s[2];
    struct set t;
    struct err e;

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    for (int i = 0; i < 2; i++)
        must(dataset_sample(&t.d, i, &s[i], &e), &e);
    for (int prompts = 0; prompts < 2; prompts++) {
        int64_t row = 0, label = 0, images = 0;
        must(batch_fill(&b, s, 2, prompts, &e), &e);
        assert_int_equal(b.batch.samples, 2);
        for (int i = 0; i < 2; i++) {
            int64_t n = prompts ? s[i].prompt : s[i].n;
            assert_int_equal(b.batch.begin[i], row);
            for (int64_t k = 0; k < n; k++, row++) {
                assert_int_equal(b.batch.ids[row], s[i].ids[k]);
                assert_int_equal(b.batch.positions[row], k);
                images += s[i].modality[k] == IMAGE;
                if (prompts || k + 1 == n || !s[i].trained[k + 1]) continue;
                assert_int_equal(b.batch.label_rows[label], row);
                assert_int_equal(b.batch.label_ids[label++], s[i].ids[k + 1]);
            }
        }
        assert_int_equal(b.batch.begin[2], row);
        assert_int_equal(b.batch.tokens, row);
        assert_int_equal(b.batch.labels, label);
        assert_int_equal(b.batch.labels, prompts ? 0 : t.d.labels);
        assert_int_equal(b.batch.image_tokens, PLACES);
        assert_int_equal(images, PLACES);
        assert_int_equal(b.batch.images, 1);
        assert_int_equal(b.image[0], 0);
        /* text, image, text of the first sample; text of the second */
        assert_int_equal(b.batch.n_spans, 4);
        assert_int_equal(b.batch.spans[1].modality, IMAGE);
        assert_int_equal(b.batch.spans[1].end - b.batch.spans[1].begin, PLACES);
        assert_int_equal(b.batch.spans[2].end, b.batch.begin[1]);
        assert_int_equal(b.batch.spans[3].begin, b.batch.begin[1]);
        assert_int_equal(b.batch.spans[3].end, row);
    }
    for (int i = 0; i < 2; i++)
        sample_free(&s[i]);
    batch_free(&b);
    set_close(&t);
}

/* ---- order ---- */

enum { N = 37 };

static void test_order(void **state)
{
    struct order o, other;
    struct err e;
    int64_t first[2 * N], moved = 0, same = 0;

    (void)state;
    must(order_init(&o, 5, N, &e), &e);
    for (int64_t at = 0; at < (int64_t)2 * N; at++)
        first[at] = order_at(&o, at);
    for (int epoch = 0; epoch < 2; epoch++) { /* every sample once an epoch */
        bool seen[N] = {false};
        for (int i = 0; i < N; i++) {
            int64_t v = first[epoch * N + i];
            assert_true(v >= 0 && v < N && !seen[v]);
            seen[v] = true;
            moved += v != i;
        }
    }
    for (int i = 0; i < N; i++)
        same += first[i] == first[N + i];
    /* A shuffle leaves about one of N in its place, N of N only where there is none. */
    assert_true(moved > 2 * N - 16 && same < 8);
    order_free(&o);
    /* A place says everything: whoever resumes there goes on in the same way. */
    for (int64_t at = 2 * N - 1; at >= 0; at -= 5) {
        must(order_init(&other, 5, N, &e), &e);
        assert_int_equal(order_at(&other, at), first[at]);
        if (at + 1 < 2 * N) assert_int_equal(order_at(&other, at + 1), first[at + 1]);
        assert_int_equal(order_at(&other, at / 3), first[at / 3]); /* back, too */
        order_free(&other);
    }
    must(order_init(&other, 6, N, &e), &e);
    same = 0;
    for (int64_t at = 0; at < N; at++)
        same += order_at(&other, at) == first[at];
    assert_true(same < 8);
    order_free(&other);
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
        tmpdir_test(test_bad_when_decoded),
        tmpdir_test(test_too_long),
        tmpdir_test(test_max_bad),
        tmpdir_test(test_text_only_model),
        tmpdir_test(test_broken_file),
        tmpdir_test(test_sources),
        tmpdir_test(test_file_changes),
        tmpdir_test(test_batch),
        tmpdir_test(test_asked),
        cmocka_unit_test(test_order),
    };

    return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
