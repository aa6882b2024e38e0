/* test_tokenizer_limits.c - tokenizers that would need more time or memory than their texts
 * justify, and what messages about a tokenizer show. Nothing here reads a clock: the sizes are such
 * that anything but linear time would not end. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "data/tokenizer/tokenizer.h"

#include "tests/tokenizer_text.h"

#include <string.h>

#define AB "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"x\":2,\" \":3},\"merges\":[]}"
#define SPLIT(regex)                                                                               \
    AB ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"             \
       "{\"Regex\":\"" regex "\"}}}"

static struct tokenizer *must_load(const char *text)
{
    struct err e = {0};
    struct tokenizer *tk = load_text(text, strlen(text), &e);

    if (!tk) fail_msg("%s\n gives: %s", text, e.msg);
    return tk;
}

/* n times `unit`, then `end`. */
static char *repeated(const char *unit, size_t n, const char *end)
{
    struct err e = {0};
    size_t len = strlen(unit);
    char *s = mem_new(n * len + strlen(end) + 1, 1, "text", &e);

    assert_non_null(s);
    for (size_t i = 0; i < n; i++)
        memcpy(s + i * len, unit, len);
    strcpy(s + n * len, end);
    return s;
}

static void check_count(const struct tokenizer *tk, const char *text, size_t want)
{
    struct tokens t = {0};
    struct err e = {0};

    if (!tokenizer_encode(tk, NULL, text, strlen(text), false, &t, &e)) fail_msg("%s", e.msg);
    assert_int_equal(t.n, want);
    tokens_free(&t);
}

static void check_fails(const struct tokenizer *tk, const char *text, const char *message)
{
    struct tokens t = {0};
    struct err e = {0};

    if (tokenizer_encode(tk, NULL, text, strlen(text), false, &t, &e))
        fail_msg("no error, wanted: %s", message);
    if (!strstr(e.msg, message)) fail_msg("wanted: %s\n  found: %s", message, e.msg);
    assert_int_equal(t.n, 0);
    tokens_free(&t);
}

/* ---- regular expressions ---- */

/* Exponential expressions, and ones that scan the whole text from each place: fine on short texts,
 * an error that names the expression's place on long ones. */
static void test_runaway(void **state)
{
    static const char *const cases[] = {
        SPLIT("(?:a+)+[bc]"),     SPLIT("(?:a|a)*[bc]"), SPLIT("a*a*a*a*a*a*a*[bc]"),
        SPLIT("a*?x|a"),          SPLIT("a(?=a*x)|a"),   SPLIT("(?=a*a*a*a*[bc])a"),
        SPLIT("(?:a+?a*?)+[bc]"),
    };
    char *text = repeated("a", 300000, "");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *tk = must_load(cases[i]);

        check_count(tk, "aaaaaaaa", 8);
        check_fails(tk, text, "/t.json:1:74: pre_tokenizer Split: the regular expression \"");
        check_fails(tk, text, "needs too many steps for a text of 300000 bytes");
        tokenizer_free(tk);
    }
    free(text);
}

/* Long words, long gaps, and groups that take a step and a stack entry for each byte. */
static void test_long_matches(void **state)
{
    static const struct {
        const char *json, *unit;
        size_t units, unit_tokens;
    } cases[] = {
        {SPLIT("\\\\s+(?!\\\\S)|\\\\s+|\\\\p{L}+"), " ", 300000, 1},
        {SPLIT("\\\\p{L}+| ?\\\\S+"), "ab", 300000, 2},
        {SPLIT("x"), "ab", 300000, 2},
        {SPLIT("a(?:b|x)?"), "ab", 300000, 2},
        {SPLIT("[^b]"), "ba", 300000, 2},
        {SPLIT("(?:a|b)+"), "ab", 3000, 2},
        {SPLIT("(?:a|b| )*x"), "a b", 2000, 3},
        {SPLIT("[ab]*[bx]+|."), "ab", 3000, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *tk = must_load(cases[i].json);
        char *text = repeated(cases[i].unit, cases[i].units, "x");

        check_count(tk, text, cases[i].units * cases[i].unit_tokens + 1);
        free(text);
        tokenizer_free(tk);
    }
}

/* ---- added tokens ---- */

/* A long token that matches from every place but for its last byte, and long white space beside
 * tokens that strip it. */
static void test_added(void **state)
{
    struct err e = {0};
    char *run = repeated("a", 100000, ""), *blanks = repeated(" ", 100000, "");
    char *json = mem_printf(&e,
                            AB ",\"added_tokens\":[{\"id\":4,\"content\":\"%sb\"},"
                               "{\"id\":3,\"content\":\" \",\"rstrip\":true},"
                               "{\"id\":5,\"content\":\"x\",\"rstrip\":true}]}",
                            run);
    struct tokenizer *tk;
    char *text = repeated("a", 300000, "b"), *gap = mem_printf(&e, "x%sa", blanks);

    (void)state;
    assert_true(json && gap);
    memcpy(strstr(json, "\"id\":5"), "\"id\":2", 6);
    tk = must_load(json);
    check_count(tk, text, 200001);
    text[300000] = '\0';
    check_count(tk, text, 300000);
    check_count(tk, gap, 100002);
    tokenizer_free(tk);
    free(run);
    free(blanks);
    free(json);
    free(text);
    free(gap);
}

/* ---- growth ---- */

#define DOUBLE(from)                                                                               \
    "{\"type\":\"Replace\",\"content\":\"" from from "\",\"pattern\":{\"String\":\"" from "\"}}"
#define DOUBLES DOUBLE("a") "," DOUBLE("a") "," DOUBLE("a") "," DOUBLE("a") "," DOUBLE("a")

static void test_growth(void **state)
{
    struct tokenizer *tk =
        must_load(AB ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[" DOUBLES "," DOUBLES
                     "," DOUBLES "]}}");
    int32_t ids[100] = {0};
    struct err e = {0};
    char *text = repeated("a", 100, "");

    (void)state;
    check_count(tk, "b", 1);
    check_fails(tk, text, "/t.json:1:");
    check_fails(tk, text, "normalizer Replace: makes more than 6656 bytes of a text");
    tokenizer_free(tk);
    tk = must_load(AB ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" DOUBLES "," DOUBLES
                      "," DOUBLES "]}}");
    assert_null(tokenizer_decode(tk, ids, 100, false, NULL, &e));
    assert_non_null(strstr(e.msg, "decoder Replace: makes more than"));
    tokenizer_free(tk);
    free(text);
}

/* A template with many members, each of which stands for many ids. */
static void test_template(void **state)
{
    static const char post[] = ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[";
    struct err e = {0};
    char *members = repeated("{\"SpecialToken\":{\"id\":\"x\"}},", 300, ""),
         *ids = repeated("0,", 300, "0");
    char *json = mem_printf(&e,
                            AB "%s%s{\"Sequence\":{\"id\":\"A\"}}],"
                               "\"special_tokens\":{\"x\":{\"ids\":[%s]}}}}",
                            post, members, ids);

    (void)state;
    assert_non_null(json);
    assert_null(load_text(json, strlen(json), &e));
    assert_non_null(strstr(e.msg, "post_processor puts more than 1024 tokens around a text"));
    free(json);
    json = mem_printf(&e,
                      AB "%s%s{\"Sequence\":{\"id\":\"A\"}}],"
                         "\"special_tokens\":{\"x\":{\"ids\":[0]}}}}",
                      post, members);
    tokenizer_free(must_load(json)); /* 300 are fine */
    free(json);
    free(members);
    free(ids);
}

static void test_steps(void **state)
{
    struct err e = {0};
    char *steps = repeated("{\"type\":\"Digits\"},", 64, "{\"type\":\"Digits\"}");
    char *json = mem_printf(&e,
                            AB ",\"pre_tokenizer\":{\"type\":\"Sequence\","
                               "\"pretokenizers\":[%s]}}",
                            steps);

    (void)state;
    assert_null(load_text(json, strlen(json), &e));
    assert_non_null(strstr(e.msg, "pre_tokenizer has more than 64 parts"));
    free(json);
    free(steps);
}

/* ---- messages ---- */

#define MODEL(vocab, merges) "{\"model\":{\"vocab\":" vocab ",\"merges\":[" merges "]}}"

/* Each message names line and column, stays on one line, and shows tokens that are neither cut to
 * nothing nor control a terminal. */
static void test_messages(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {MODEL("{\"a\":0}", "\n [\"zz\\nINFO: all is well\",\"a\"]"),
         ":2:2: merge \"zz\\nINFO: all is wella\" names a token that \"vocab\" lacks: zz\\nINFO"},
        {MODEL("{\"a\":0,\n\"\\u001b[31m\":0}", ""), ":2:14: tokens \"a\" and \"\\x1b[31m\""},
        {MODEL("{\"a\":0,\"a\\u0000b\":1}", ""), ":1:28: \\u0000 is not allowed"},
        {MODEL("{\"a\":0}", "\"a\\u0000 a\""), ":1:39: \\u0000 is not allowed"},
        {AB ",\"added_tokens\":[{\"id\":4,\"content\":\"a\\u0000\"}]}", "\\u0000 is not allowed"},
        {AB ",\"pre_tokenizer\":\n{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\u0000\"}}}",
         ":2:37: \\u0000 is not allowed"},
        {AB ",\"pre_tokenizer\":\n{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a(*F)\"}}}",
         ":2:27: \"a(*F)\": a verb, at byte 1, is not known to this reader"},
        {MODEL("{\"a\":0} // no comments", ""), ":1:27: "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};

        assert_null(load_text(cases[i].text, strlen(cases[i].text), &e));
        if (!strstr(e.msg, cases[i].message))
            fail_msg("wanted: %s\n  found: %s", cases[i].message, e.msg);
        assert_null(strpbrk(e.msg, "\n\x1b"));
    }
}

static void test_long_name(void **state)
{
    struct err e = {0};
    char *name = repeated("q", 129, "");
    char *json = mem_printf(&e, MODEL("{\"a\":0,\"%s\":1}", "[\"%s\",\"a\"]"), name, name);

    (void)state;
    name[80] = '\0';
    assert_null(load_text(json, strlen(json), &e));
    assert_non_null(strstr(e.msg, name));
    free(name);
    free(json);
}

/* An entirely unknown word has no tokens, also if it occurs again. */
static void test_word_without_tokens(void **state)
{
    struct tokenizer *tk = must_load(MODEL("{\"a\":0}", ""));
    struct err e = {0};
    struct tokenizer_scratch *sc = tokenizer_scratch_new(tk, &e);
    struct tokens t = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_true(tokenizer_encode(tk, sc, "zz", 2, true, &t, &e));
        assert_int_equal(t.n, 0);
    }
    tokens_free(&t);
    tokenizer_scratch_free(sc);
    tokenizer_free(tk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runaway),
        cmocka_unit_test(test_long_matches),
        cmocka_unit_test(test_added),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_template),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_long_name),
        cmocka_unit_test(test_word_without_tokens),
    };

    return cmocka_run_group_tests_name("tokenizer_limits", tests, NULL, NULL);
}
