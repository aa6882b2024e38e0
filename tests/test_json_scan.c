/* test_json_scan.c - elements of lists and lines, errors by line, column and byte, and that the
 * scan finds what a parser sees, on random and damaged text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "data/json_scan.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEED 20240607

/* Writes the elements, each in angle brackets, to `out`; false with *e if the scan fails. */
static bool scan_all(const char *text, size_t len, char *out, size_t size, struct err *e)
{
    struct json_scan s;
    size_t begin, end, n = 0;
    bool found;
    uint8_t *copy = malloc(len > 0 ? len : 1); /* exact size, to expose reads beyond it */
    bool ok;

    assert_non_null(copy);
    memcpy(copy, text, len);
    ok = json_scan_open(&s, copy, len, "f.json", e);
    while (ok && (ok = json_scan_next(&s, &begin, &end, &found, e)) && found) {
        assert_true(begin < end && end <= len);
        n += (size_t)snprintf(out + n, size - n, "<%.*s>", (int)(end - begin), text + begin);
        assert_true(n < size);
    }
    if (ok) { /* the end stays the end */
        assert_true(json_scan_next(&s, &begin, &end, &found, e));
        assert_false(found);
    }
    free(copy);
    return ok;
}

static const struct {
    const char *text, *elements;
} good[] = {
    {"[]", ""},
    {" [ ] \n", ""},
    {"[1]", "<1>"},
    {"\xef\xbb\xbf[1, \"a\" ,null]", "<1><\"a\"><null>"},
    {"[{\"a\": [1, {\"b\": \"]}\"}]}, [\"[\", 2]]", "<{\"a\": [1, {\"b\": \"]}\"}]}><[\"[\", 2]>"},
    {"[\"\\\"\", \"\\\\\", \"\\\\\\\"\", \"\"]", "<\"\\\"\"><\"\\\\\"><\"\\\\\\\"\"><\"\">"},
    {"[\n{\n\"a\":1\n}\n,\n2\n]\n", "<{\n\"a\":1\n}><2>"},
    {"{\"a\":1}", "<{\"a\":1}>"},
    {"{\"a\":1}\n\n{\"b\":\"}\"} \r\n", "<{\"a\":1}><{\"b\":\"}\"}>"},
    {"\xef\xbb\xbf\n{}\n{}", "<{}><{}>"},
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char out[256] = "";
        struct err e = {0};

        if (!scan_all(good[i].text, strlen(good[i].text), out, sizeof out, &e))
            fail_msg("%s: %s", good[i].text, e.msg);
        assert_string_equal(out, good[i].elements);
    }
}

static const struct {
    const char *text, *message;
} bad[] = {
    {"", "f.json:1:1: the file is empty; a JSON list is expected (byte 0)"},
    {"\xef\xbb\xbf \n", "f.json:2:1: the file is empty; a JSON list is expected (byte 5)"},
    {"\n 7", "f.json:2:2: found '7'; a JSON list begins with '[', a line of JSON Lines with '{' "
             "(byte 2)"},
    {"[", "f.json:1:2: the file ends inside the list (byte 1)"},
    {"[1", "f.json:1:3: the file ends inside the list (byte 2)"},
    {"[1,", "f.json:1:4: the file ends where a value is due (byte 3)"},
    {"[1,]", "f.json:1:4: found ']' where a value is due (byte 3)"},
    {"[,1]", "f.json:1:2: found ',' where a value is due (byte 1)"},
    {"[1,\n2 3]", "f.json:2:3: found '3' where ',' or ']' is due (byte 6)"},
    {"[\"a\"\"b\"]", "f.json:1:5: found '\"' where ',' or ']' is due (byte 4)"},
    {"[1}", "f.json:1:3: found '}' where ',' or ']' is due (byte 2)"},
    {"[{\"a\":1]", "f.json:1:8: found ']' where '}' is due (byte 7)"},
    {"[{\"a\":1},\n{\"b\":",
     "f.json:2:1: the file ends inside the value that begins here (byte 10)"},
    {"[\n\"abc]", "f.json:2:1: a string that does not end (byte 2)"},
    {"[\"a\\\"]", "f.json:1:2: a string that does not end (byte 1)"},
    {"[{\"a\": \"x},\n{\"a\": 1}]", "f.json:1:8: a string that does not end on its line (byte 7)"},
    {"[ // a\n1]", "f.json:1:3: found '/' where a value is due; comments are not read here (byte "
                   "2)"},
    {"[1]\n]", "f.json:2:1: found ']' after the end of the list (byte 4)"},
    {"[1] [2]", "f.json:1:5: found '[' after the end of the list (byte 4)"},
    {"{\"a\":1}{\"b\":2}", "f.json:1:8: found '{' after a line's value (byte 7)"},
    {"{\"a\":1},\n{\"b\":2}", "f.json:1:8: found ',' after a line's value (byte 7)"},
    {"{\"a\":1}\n[2]", "f.json:2:1: found '['; a line of JSON Lines begins with '{' (byte 8)"},
    {"{\n\"a\":1}", "f.json:1:2: the line ends inside a value; JSON Lines has one a line (byte 1)"},
    {"{\"a\":1}\n{\"b\"", "f.json:2:1: the file ends inside the value that begins here (byte 8)"},
    {"[1]\x01", "f.json:1:4: found 0x01 after the end of the list (byte 3)"},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char out[256];
        struct err e = {0};

        if (scan_all(bad[i].text, strlen(bad[i].text), out, sizeof out, &e))
            fail_msg("accepted: %s", bad[i].text);
        assert_string_equal(e.msg, bad[i].message);
    }
}

static void test_depth(void **state)
{
    char text[2 * JSON_SCAN_DEPTH + 8], out[2 * JSON_SCAN_DEPTH + 16];
    struct err e = {0};
    size_t n = JSON_SCAN_DEPTH;

    (void)state;
    memset(text, '[', n + 1);
    memset(text + n + 1, ']', n + 1);
    assert_true(scan_all(text, 2 * n + 2, out, sizeof out, &e));
    /* deeper ones are only counted, so that one such sample is dropped and not the whole file */
    memset(text, '[', n + 3);
    memset(text + n + 3, ']', n + 3);
    text[n + 3] = '}';
    assert_true(scan_all(text, 2 * n + 6, out, sizeof out, &e));
    text[n + 4] = text[n + 5] = '}';
    assert_false(scan_all(text, 2 * n + 6, out, sizeof out, &e));
    assert_string_equal(e.msg, "f.json:1:262: found '}' where ']' is due (byte 261)");
    assert_false(scan_all(text, n + 3, out, sizeof out, &e));
    assert_string_equal(e.msg,
                        "f.json:1:2: the file ends inside the value that begins here (byte 1)");
}

/* Appends a random value; `depth` limits nesting. */
static size_t random_value(struct rng *r, char *out, size_t size, int depth)
{
    static const char *const atoms[] = {
        "1",     "-2.5e3",   "true",          "null",
        "\"a\"", "\"\\\\\"", "\"[{,}]\\\"\"", "\"\\u0041 \xc3\xa9\""};
    uint64_t kind = rng_below(r, depth > 0 ? 4 : 2);
    bool object = kind == 3;
    size_t n = 0, count;

    if (kind < 2) return (size_t)snprintf(out, size, "%s", atoms[rng_below(r, 8)]);
    count = (size_t)rng_below(r, 4);
    n += (size_t)snprintf(out, size, object ? "{" : "[ ");
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(out + n, size - n, "%s", i > 0 ? " ,\n" : "");
        if (object) n += (size_t)snprintf(out + n, size - n, "\"k%zu}\" : ", i);
        n += random_value(r, out + n, size - n, depth - 1);
    }
    return n + (size_t)snprintf(out + n, size - n, object ? " }" : "]");
}

/* The elements of random lists are, one by one, those that cJSON sees; then the same text
 * damaged: whatever cJSON accepts as a list, the scan accepts too (it may accept more),
 * and nothing crashes. */
static void test_random(void **state)
{
    static char text[1 << 16], out[1 << 17];
    struct rng r;
    int read = 0;

    (void)state;
    rng_seed(&r, SEED, 0);
    for (int round = 0; round < 400; round++) {
        size_t n = 1, count = (size_t)rng_below(&r, 5), begin, end, i = 0;
        struct json_scan s;
        struct err e = {0};
        cJSON *whole, *one;
        bool found;

        text[0] = '[';
        for (size_t k = 0; k < count; k++) {
            if (k > 0) text[n++] = ',';
            n += random_value(&r, text + n, sizeof text - n, 4);
        }
        n += (size_t)snprintf(text + n, sizeof text - n, "]\n");
        whole = cJSON_ParseWithLength(text, n);
        assert_true(json_scan_open(&s, (const uint8_t *)text, n, "f.json", &e));
        while (json_scan_next(&s, &begin, &end, &found, &e) && found) {
            one = cJSON_ParseWithLength(text + begin, end - begin);
            assert_true(cJSON_Compare(one, cJSON_GetArrayItem(whole, (int)i++), true));
            cJSON_Delete(one);
        }
        assert_true(s.done);
        assert_int_equal(i, count);
        cJSON_Delete(whole);
        text[rng_below(&r, n)] = "[]{}\",:\\ \n1"[rng_below(&r, 11)];
        whole = cJSON_ParseWithOpts(text, NULL, true);
        read += cJSON_IsArray(whole);
        if (!scan_all(text, n, out, sizeof out, &e) && cJSON_IsArray(whole))
            assert_non_null(strstr(e.msg, "on its line")); /* cJSON allows line breaks in strings */
        cJSON_Delete(whole);
    }
    assert_true(read > 20);
}

/* Columns count characters; an element knows whether it is the first to begin on its line. */
static void test_places(void **state)
{
    static const char text[] = "\xef\xbb\xbf[\"\xc3\xa9\", 1,\n  2, 3\n,\n4]";
    static const struct {
        int64_t line, col;
        bool first;
    } want[] = {{1, 2, true}, {1, 7, false}, {2, 3, true}, {2, 6, false}, {4, 1, true}};
    struct json_scan s;
    struct err e = {0};
    size_t begin, end;
    bool found;

    (void)state;
    assert_true(json_scan_open(&s, (const uint8_t *)text, strlen(text), "f.json", &e));
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(json_scan_next(&s, &begin, &end, &found, &e) && found);
        assert_int_equal(s.place.byte, begin);
        assert_int_equal(s.place.line, want[i].line);
        assert_int_equal(s.place.col, want[i].col);
        assert_int_equal(s.first_of_line, want[i].first);
    }
    assert_true(json_scan_next(&s, &begin, &end, &found, &e) && !found);
}

/* For a file that is not text, the message says what it is. */
static void test_other_files(void **state)
{
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\n";
    struct json_scan s;
    struct err e = {0};

    (void)state;
    assert_false(json_scan_open(&s, (const uint8_t *)pointer, strlen(pointer), "f.json", &e));
    assert_non_null(strstr(e.msg, "f.json: is a Git LFS pointer"));
    assert_false(json_scan_open(&s, (const uint8_t *)"PAR1\x15", 5, "f.json", &e));
    assert_non_null(strstr(e.msg, "f.json: is a Parquet table"));
}

/* A list inside of an object, with the places of the whole file. */
static void test_member(void **state)
{
    static const char text[] =
        "{\"a\": {\"list\": [1]},\n \"b\": \"list\",\n\"list\" :\n [{\"x\":1}, 2 ] , ";
    static const struct {
        const char *text, *says; /* says NULL: no such member */
    } cases[] = {
        {"{\"a\":1}", NULL},
        {"[1]", NULL},
        {"{\"a\":\"list\"}\n{\"list\":[]}", NULL}, /* lines of objects */
        {"{}", "t:1:2: a key is due"},
        {"{\"list\" 1}", "t:1:9: ':' is due"},
        {"{\"list\":{}}", "t:1:9: \"list\" must be a list"},
        {"{\"list\":[", "the file ends inside the value"},
        {"{\"a\":[}", "found '}' where ']' is due"},
        {"{\"a", "a string that does not end"},
    };
    struct json_scan s;
    struct err e;
    size_t begin, end;
    bool found;

    (void)state;
    assert_true(
        json_scan_open_member(&s, (const uint8_t *)text, sizeof text - 1, "t", "list", &found, &e));
    assert_true(found && json_scan_next(&s, &begin, &end, &found, &e) && found);
    assert_true(s.place.line == 4 && s.place.col == 3 && end - begin == 7);
    assert_true(json_scan_next(&s, &begin, &end, &found, &e) && found && text[begin] == '2');
    assert_true(json_scan_next(&s, &begin, &end, &found, &e) && !found);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bool ok = json_scan_open_member(&s, (const uint8_t *)cases[i].text,
                                              strlen(cases[i].text), "t", "list", &found, &e);
        if (ok != !cases[i].says || found) fail_msg("%s: %d, %d", cases[i].text, ok, found);
        if (!ok && !strstr(e.msg, cases[i].says)) fail_msg("%s: %s", cases[i].text, e.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_member),      cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),         cmocka_unit_test(test_depth),
        cmocka_unit_test(test_random),      cmocka_unit_test(test_places),
        cmocka_unit_test(test_other_files),
    };

    return cmocka_run_group_tests_name("json_scan", tests, NULL, NULL);
}
