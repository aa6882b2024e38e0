/* test_jsonc.c - JSON with comments: exact messages, positions, limits, and hostile text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/text.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool parse(struct jsonc *doc, const char *text, struct err *e)
{
    return jsonc_parse(doc, "c.json", text, strlen(text), e);
}

struct bad_case {
    const char *text, *message;
};

static const struct bad_case bad_cases[] = {
    {"", "c.json:1:1: a value is needed, near the end of the text"},
    {"// nothing\n", "c.json:2:1: a value is needed, near the end of the text"},
    {"{\"a\": 1,}", "c.json:1:8: a trailing comma is not allowed before }, near ',}'"},
    {"{\n  \"a\": [1,\n  ]\n}", "c.json:2:10: a trailing comma is not allowed before ], near ','"},
    {"{\"a\" 1}", "c.json:1:6: a colon is needed after the key, near '1}'"},
    {"{\"a\": 1 \"b\": 2}", "c.json:1:9: a comma or } is needed, near '\"b\": 2}'"},
    {"[1 2]", "c.json:1:4: a comma or ] is needed, near '2]'"},
    {"{a: 1}", "c.json:1:2: a key in double quotes is needed, near 'a: 1}'"},
    {"{\"a\": }", "c.json:1:7: a value is needed, near '}'"},
    {"{\"a\": NaN}", "c.json:1:7: a value is needed, near 'NaN}'"},
    {"[,]", "c.json:1:2: a value is needed, near ',]'"},
    {"{\"a\": 1", "c.json:1:8: a comma or } is needed, near the end of the text"},
    {"{\"a\":\n\n", "c.json:3:1: a value is needed, near the end of the text"},
    {"1 2", "c.json:1:3: there is more text after the value, near '2'"},
    {"[01]", "c.json:1:2: a number must not begin with 0, near '01]'"},
    {"[1.]", "c.json:1:2: not a number in JSON's spelling, near '1.]'"},
    {"[-]", "c.json:1:2: not a number in JSON's spelling, near '-]'"},
    {"[2e+]", "c.json:1:2: not a number in JSON's spelling, near '2e+]'"},
    {"[\"a", "c.json:1:2: a string is not closed on its line, near '\"a'"},
    {"[\"a // b\n\"]", "c.json:1:2: a string is not closed on its line, near '\"a // b'"},
    {"[\"a\tb\"]", "c.json:1:4: a control character in a string (write \\u0009), near '\\tb\"]'"},
    {"[\"\\q\"]", "c.json:1:3: an unknown escape in a string, near '\\q\"]'"},
    {"[\"\\", "c.json:1:3: an unknown escape in a string, near '\\'"},
    {"[\"\\u12g4\"]", "c.json:1:3: \\u needs four hexadecimal digits, near '\\u12g4\"]'"},
    {"[\"\\u0000\"]", "c.json:1:3: \\u0000 is not allowed here, near '\\u0000\"]'"},
    {"[\"\\ud800x\"]", "c.json:1:3: lone surrogate \\ud800, near '\\ud800x\"]'"},
    {"[\"\\udc00\"]", "c.json:1:3: lone surrogate \\udc00, near '\\udc00\"]'"},
    {"[\"\xc3\xa9\xc3\xa9\", \"\xff\"]",
     "c.json:1:9: a byte that is not UTF-8 in a string, near '\\xff\"]'"},
    {"[\"\xc0\xaf\"]", "c.json:1:3: a byte that is not UTF-8 in a string, near '\\xc0\\xaf\"]'"},
    {"[1, /* two\n]", "c.json:1:5: a /* comment is not closed, near '/* two'"},
    {"[1] /", "c.json:1:5: there is more text after the value, near '/'"},
    {"{\"a\": 0123456789012345678901234567890}",
     "c.json:1:7: a number must not begin with 0, near '0123456789012345678901234567890}'"},
    {"{\"a\": 1,\n\n \"b\": 2, \"a\": 3}",
     "c.json:3:10: the key \"a\" is there twice in one object, first in line 1"},
    {"[{\"x\": {\"a\": 1,\n\"\\u0061\": 2}}]",
     "c.json:2:1: the key \"a\" is there twice in one object, first in line 1"},
};

static void test_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_cases / sizeof bad_cases[0]; i++) {
        struct jsonc doc;
        struct err e = {0};
        assert_false(parse(&doc, bad_cases[i].text, &e));
        assert_string_equal(e.msg, bad_cases[i].message);
        assert_null(doc.root);
        assert_null(doc.text);
        assert_int_equal(doc.npos, 0);
    }
}

static void test_comments(void **state)
{
    static const char text[] = "// head \"quote\n"
                               "{\"url\": \"http://x/*y*/\", /* one\n"
                               "   two */ \"b\\\"//\": [1, // three ] \n"
                               "   /**/ 2] } // end";
    struct jsonc doc;
    struct err e = {0};

    (void)state;
    assert_true(parse(&doc, text, &e));
    assert_string_equal(jsonc_find(&doc, "url")->valuestring, "http://x/*y*/");
    assert_int_equal(strlen(doc.text), strlen(text));
    assert_int_equal(jsonc_line(&doc, "url"), 2);
    assert_int_equal(jsonc_line(&doc, "b\"//"), 3);
    assert_int_equal(jsonc_line(&doc, "b\"//[0]"), 3);
    assert_int_equal(jsonc_line(&doc, "b\"//[1]"), 4);
    jsonc_close(&doc);
    jsonc_close(&doc); /* fine twice */
}

static void test_paths(void **state)
{
    static const char text[] = "{\"svd\": {\n\"low_rank\":\n 4},\n\"data\": {\"train\": [\n{},\n"
                               "{\"path\":\n\"x\"}]}, \"m\": [[1],\n[2,\n3]]}";
    static const struct {
        const char *path;
        int line;
    } cases[] = {
        {"", 1},
        {"svd", 1},
        {"svd.low_rank", 2},
        {"data.train", 4},
        {"data.train[0]", 5},
        {"data.train[1]", 6},
        {"data.train[1].path", 6},
        {"m[0][0]", 7},
        {"m[1][1]", 9},
        {"m[1][2]", 0},
        {"m[-1]", 0},
        {"m[x]", 0},
        {"m[0", 0},
        {"m.x", 0},
        {"svd[0]", 0},
        {"svd.low", 0},
        {"svd.low_rank.x", 0},
        {"svd.low_rankx", 0},
        {"m[99999999999999999999]", 0},
    };
    struct jsonc doc;
    struct err e = {0};
    cJSON foreign = {0};

    (void)state;
    assert_true(parse(&doc, text, &e));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(jsonc_line(&doc, cases[i].path), cases[i].line);
    assert_memory_equal(jsonc_item_text(&doc, jsonc_find(&doc, "m[1][1]")), "3]]}", 4);
    assert_null(jsonc_item_text(&doc, &foreign));
    assert_int_equal(jsonc_item_line(&doc, &foreign), 0);
    jsonc_close(&doc);
}

/* From editors on other systems: a byte order mark, CRLF. Neither shifts a line or a column. */
static void test_bom_crlf(void **state)
{
    struct jsonc doc;
    struct err e = {0};

    (void)state;
    assert_true(parse(&doc, "\xef\xbb\xbf{\r\n\"a\": 1, // x\r\n\"b\": \"\xc3\xa9\"}\r\n", &e));
    assert_int_equal(jsonc_line(&doc, "b"), 3);
    assert_string_equal(jsonc_find(&doc, "b")->valuestring, "\xc3\xa9");
    jsonc_close(&doc);
    assert_false(parse(&doc, "\xef\xbb\xbf{x", &e));
    assert_string_equal(e.msg, "c.json:1:2: a key in double quotes is needed, near 'x'");
    assert_false(parse(&doc, "{\"a\":\r\n \"x\r\n}", &e));
    assert_string_equal(
        e.msg,
        "c.json:2:4: a control character in a string (write \\u000d), near the end of the line");
}

/* n nested lists. */
static char *nested(size_t n)
{
    char *text = malloc(2 * n + 1);

    assert_non_null(text);
    memset(text, '[', n);
    memset(text + n, ']', n);
    text[2 * n] = '\0';
    return text;
}

static void test_depth(void **state)
{
    struct jsonc doc;
    struct err e = {0};
    char *text = nested(JSONC_DEPTH);

    (void)state;
    assert_true(parse(&doc, text, &e));
    jsonc_close(&doc);
    free(text);
    text = nested(JSONC_DEPTH + 1);
    assert_false(parse(&doc, text, &e));
    assert_string_equal(e.msg, "c.json:1:65: nested more than 64 levels deep, near "
                               "'[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]...'");
    free(text);
    text = nested(500000);
    assert_false(parse(&doc, text, &e));
    free(text);
    text = nested(4); /* a lower limit */
    assert_true(jsonc_parse_as(&doc, "c", text, 8, &(struct jsonc_rules){.max_depth = 4}, &e));
    jsonc_close(&doc);
    assert_false(jsonc_parse_as(&doc, "c", text, 8, &(struct jsonc_rules){.max_depth = 3}, &e));
    assert_memory_equal(e.msg, "c:1:4: nested more than 3 levels deep", 37);
    free(text);
}

static void test_number_length(void **state)
{
    char text[80] = {0};
    struct jsonc doc;
    struct err e = {0};

    (void)state;
    memset(text, '7', 63);
    assert_true(parse(&doc, text, &e));
    assert_true(cJSON_IsNumber(doc.root));
    jsonc_close(&doc);
    text[63] = '7';
    assert_false(parse(&doc, text, &e));
    assert_string_equal(e.msg, "c.json:1:1: a number of more than 63 characters, near "
                               "'7777777777777777777777777777777777...'");
}

static void test_files(void **state)
{
    const char *tmp = getenv("TMPDIR");
    struct jsonc doc;
    struct err e = {0};
    char *dir, *path, want[1024];

    (void)state;
    dir = mem_printf(&e, "%s/jsoncXXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    path = file_join(dir, "a.json", &e);
    assert_false(jsonc_read(&doc, path, 100, &e));
    snprintf(want, sizeof want, "%s: No such file or directory", path);
    assert_string_equal(e.msg, want);
    assert_true(file_write(path, "{\"a\": [1]}", 10, &e));
    assert_true(jsonc_read(&doc, path, 10, &e));
    assert_int_equal(jsonc_line(&doc, "a[0]"), 1);
    assert_string_equal(doc.path, path);
    jsonc_close(&doc);
    assert_false(jsonc_read(&doc, path, 9, &e));
    snprintf(want, sizeof want, "%s: 10 bytes, at most 9 are allowed", path);
    assert_string_equal(e.msg, want);
    assert_true(file_write(path, "[1]\0 2", 6, &e));
    assert_false(jsonc_read(&doc, path, 100, &e));
    snprintf(want, sizeof want, "%s:1:4: there is more text after the value, near '\\x00 2'", path);
    assert_string_equal(e.msg, want);
    unlink(path);
    rmdir(dir);
    free(path);
    free(dir);
}

static void test_snippet(void **state)
{
    char out[8];

    (void)state;
    assert_string_equal(text_plain(out, sizeof out, "abcdefg", 7), "abcdefg");
    assert_string_equal(text_plain(out, sizeof out, "abcdefgh", 8), "abcd...");
    assert_string_equal(text_plain(out, sizeof out, "a\n\x7f", 3), "a\\n\\x7f");
    /* a three-byte character is kept whole or dropped whole */
    assert_string_equal(text_plain(out, sizeof out, "abc\xe2\x82\xac\xe2\x82\xac", 9), "abc...");
    assert_string_equal(text_plain(out, sizeof out, "abcd\xe2\x82\xac", 7), "abcd\xe2\x82\xac");
    assert_string_equal(text_plain(out, sizeof out, "\xed\xa0", 2), "\\xed..."); /* a surrogate */
}

/* Half a million values and as many keys: positions and the search for duplicates stay fast. */
static void test_large(void **state)
{
    size_t cap = 4 << 20, n = 1;
    char *text = malloc(cap);
    struct jsonc doc;
    struct err e = {0};

    (void)state;
    assert_non_null(text);
    text[0] = '{';
    for (int i = 0; i < 200000; i++)
        n += (size_t)snprintf(text + n, cap - n, "\"k%d\":%d,\n", i, i);
    n += (size_t)snprintf(text + n, cap - n, "\"k7\":0}");
    assert_false(jsonc_parse(&doc, "c.json", text, n, &e));
    assert_string_equal(
        e.msg, "c.json:200001:1: the key \"k7\" is there twice in one object, first in line 8");
    text[n - 5] = 'x';
    assert_true(jsonc_parse(&doc, "c.json", text, n, &e));
    assert_int_equal(doc.npos, 200002);
    assert_int_equal(jsonc_line(&doc, "k199999"), 200000);
    jsonc_close(&doc);
    free(text);
}

/* A number that was read is printed as the same kind: Python's readers of config.json tell 1.0 from
 * 1, and some refuse the latter. */
static void test_fractions(void **state)
{
    static const char text[] =
        "{\"a\":[1,1.0,-2.0,1e5,1E2,0.5,1e-05,1e300,0.0,0],\"b\":{\"c\":3.0}}";
    struct jsonc doc;
    struct err e = {0};

    (void)state;
    assert_true(jsonc_parse(&doc, "c.json", text, sizeof text - 1, &e));
    cJSON *copy = cJSON_Duplicate(doc.root, true);
    char *printed = jsonc_print(copy, false, &e);
    assert_string_equal(printed, "{\"a\":[1,1.0,-2.0,100000.0,100.0,0.5,1e-05,1e+300,0.0,0],"
                                 "\"b\":{\"c\":3.0}}");
    assert_true(cJSON_IsNumber(cJSON_GetArrayItem(cJSON_GetObjectItem(copy, "a"), 1)));
    free(printed);
    cJSON_Delete(copy);
    jsonc_close(&doc);
    assert_true(jsonc_parse(&doc, "c.json", "1", 1, &e));
    printed = jsonc_print(doc.root, false, &e);
    assert_string_equal(printed, "1");
    free(printed);
    jsonc_close(&doc);
}

/* Every message is one line that fits, and failure leaves nothing behind. */
static void check_hostile(const char *text, size_t len)
{
    struct jsonc doc;
    struct err e = {0};

    if (jsonc_parse(&doc, "c.json", text, len, &e)) {
        jsonc_line(&doc, "a.b[1].c");
        jsonc_close(&doc);
        return;
    }
    assert_null(doc.root);
    assert_true(strncmp(e.msg, "c.json:", 7) == 0);
    assert_null(strchr(e.msg, '\n'));
}

static void test_garbage(void **state)
{
    static const char json_like[] = "{}[]\",:/*\\ \n01-.eEtrufalsn";
    size_t len = 1 << 20;
    char *text = malloc(len);
    struct rng r;

    (void)state;
    assert_non_null(text);
    rng_seed(&r, 20, 1);
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < len; i++)
            text[i] = round % 2 ? json_like[rng_below(&r, sizeof json_like - 1)]
                                : (char)rng_below(&r, 256);
        check_hostile(text, len);
    }
    memset(text, '"', len);
    check_hostile(text, len);
    memset(text, '/', len);
    check_hostile(text, len);
    free(text);
}

static void test_fuzz(void **state)
{
    static const char valid[] = "// c\n{\"a\": {\"b\": [1, {\"c\": \"x\\u00e9\\n\"}, -2.5e3]},\n"
                                " /* d */ \"e\": [true, false, null], \"f\": \"\xc3\xa9\"}\n";
    static const char bits[] = "{}[]\",:/*\\u0 \n\xc3\xff";
    struct rng r;

    (void)state;
    print_message("seed 21\n");
    rng_seed(&r, 21, 1);
    for (int round = 0; round < 20000; round++) {
        char text[sizeof valid];
        size_t len = sizeof valid - 1;
        memcpy(text, valid, sizeof text);
        for (uint64_t k = 1 + rng_below(&r, 4); k > 0; k--)
            text[rng_below(&r, len)] =
                rng_below(&r, 2) ? bits[rng_below(&r, sizeof bits - 1)] : (char)rng_below(&r, 256);
        if (rng_below(&r, 4) == 0) len = rng_below(&r, len + 1);
        check_hostile(text, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages), cmocka_unit_test(test_comments),
        cmocka_unit_test(test_paths),    cmocka_unit_test(test_bom_crlf),
        cmocka_unit_test(test_depth),    cmocka_unit_test(test_number_length),
        cmocka_unit_test(test_files),    cmocka_unit_test(test_snippet),
        cmocka_unit_test(test_large),    cmocka_unit_test(test_fractions),
        cmocka_unit_test(test_garbage),  cmocka_unit_test(test_fuzz),
    };

    return cmocka_run_group_tests_name("jsonc", tests, NULL, NULL);
}
