/* test_text.c - untrusted text on one line, detecting a file's kind from its content, JSON's
 * strings and numbers without loss, and inputs that are not files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/filekind.h"
#include "base/json/jsonc.h"
#include "base/rng.h"
#include "base/text.h"
#include "tests/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void plain(const char *s, size_t n, const char *want)
{
    char *got = text_plain_new(s, n), *again;

    assert_string_equal(got, want);
    again = text_plain_new(got, strlen(got));
    assert_string_equal(again, want);
    free(got);
    free(again);
}

static void test_plain(void **state)
{
    struct err e = {0};

    (void)state;
    plain("a\nb\tc\r", 6, "a\\nb\\tc\\r");
    plain("\0\x1b[31m\x7f", 7, "\\x00\\x1b[31m\\x7f");
    plain("\xc2\x85\xe2\x80\xae\xe2\x80\xa8", 8, "\\u0085\\u202e\\u2028"); /* C1, direction, line */
    plain("\xff\xc3\xa9\xed\xa0\x80", 6, "\\xff\xc3\xa9\\xed\\xa0\\x80");
    plain("caf\xc3\xa9 \xf0\x9f\x98\x80", 10, "caf\xc3\xa9 \xf0\x9f\x98\x80");
    plain("", 0, "");
    err_set(&e, "%s: no", "a\nmha2mla-train: error: b\x1b[2J");
    assert_string_equal(e.msg, "a\\nmha2mla-train: error: b\\x1b[2J: no");
    err_context(&e, "%s", "x");
    assert_string_equal(e.msg, "x: a\\nmha2mla-train: error: b\\x1b[2J: no");
}

static void test_kinds(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *want;
    } cases[] = {
        {"", 0, "empty"},
        {"version https://git-lfs.github.com/spec/v1\noid", 46,
         "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"},
        {"  \n<!DOCTYPE html><html>", 24, "an HTML page: the download went wrong"},
        {"\xef\xbb\xbf<HTML>", 9, "an HTML page: the download went wrong"},
        {"RIFF\x10\0\0\0WEBPVP8 ", 16, "a WebP picture"},
        {"PK\x03\x04", 4, "a zip archive (or a PyTorch file, .bin or .pth)"},
        {"GGUF\3\0\0\0", 8,
         "a GGUF model, which llama.cpp reads: take the Hugging Face checkpoint"},
        {"{\0\"\0a\0", 6, "text in UTF-16: save it as UTF-8"},
        {"\0[\0\n\0{", 6, "text in UTF-16: save it as UTF-8"},
        {"\xff\xfe{\0", 4, "text in UTF-16: save it as UTF-8"},
        {"\xff\xfe\0\0{\0\0\0", 8, "text in UTF-32: save it as UTF-8"},
        {"\0\0\xfe\xff\0\0\0{", 8, "text in UTF-32: save it as UTF-8"},
        {"{\0\0\0\"\0\0\0", 8, "text in UTF-32: save it as UTF-8"},
        {"\0\0\0{\0\0\0\"", 8, "text in UTF-32: save it as UTF-8"},
        {"{\0", 2, NULL},
        {"{\0\0\0\0\0\0\0", 8, NULL},
        {"Entry not found\n", 16,
         "\"Entry not found\", a server's answer in place of the file: fetch it again"},
        {"Entry not found here", 20, NULL},
        {"\0\0\1\0\1\0 ", 7, "an icon (ICO)"},
        {"P6\n2 2\n255\n", 11, "a PBM, PGM, PPM or PFM picture"},
        {"P64 ", 4, NULL},
        {"\x0a\5\1\x08", 4, "a PCX picture"},
        {"\x0a\x0e\x0a\5<unk>", 9, NULL},
        {"\0\0\2\0\0\0\0\0\0\0\0\0\1\0\1\0 \0TRUEVISION-XFILE.", 36, "a TGA picture"},
        {"\0\0\2\0\0\0\0\0\0\0\0\0\1\0\1\0 \0", 18, NULL},
        {"\0\0\0", 3, "nothing but zero bytes: its copying or downloading did not end"},
        {"{\"a\": 1}", 8, NULL},
        {"\x08\0\0\0\0\0\0\0{}", 10, "a safetensors file"},
        {"\x08\0\0\0\0\0\0\0[]", 10, NULL},
        {"<", 1, NULL},
        {"GIF", 3, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *got = file_kind(cases[i].bytes, cases[i].n);
        if (cases[i].want)
            assert_string_equal(got, cases[i].want);
        else
            assert_null(got);
    }
}

/* The message about a file of another form than the expected one. */
static void test_kind_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } cases[] = {
#define CASE(bytes, says) {bytes, sizeof bytes - 1, says}
        CASE("Entry not found",
             "is \"Entry not found\", a server's answer in place of the file: fetch it again"),
        CASE("Entry not found!", "is text (\"Entry not found!\"), not a picture"),
        CASE("short", "is not a picture"),
        CASE("\x01\x02 and more", "is not a picture"),
        CASE("", "is empty"),
        CASE("GIF89a", "is a GIF picture"),
        CASE(
            "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
            "is a PyTorch file in the form before 1.6: in Python, torch.save(torch.load(OLD), NEW) "
            "renews it"),
        CASE("\x40\1\0\0\0\0\0\0{\"a\":", "is a safetensors file"),
        CASE("[1,2,\n [{\"a\":1}]]", "is not a picture"),
#undef CASE
    };
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(file_kind_refuse(cases[i].bytes, cases[i].n, "picture", &e));
        assert_string_equal(e.msg, cases[i].says);
    }
}

/* Zeros in strings, \u escapes and the places of errors, which cJSON loses; rules
 * beyond cJSON's own. */
static void test_json_whole(void **state)
{
    static const char text[] = "{\"s\": \"a\\u0000b\\n\\u00e9\\ud83d\\ude00\\\"/\", \"n\": 0.1}";
    static const char want[] = "a\0b\n\xc3\xa9\xf0\x9f\x98\x80\"/";
    struct jsonc_rules rules = {.plain = true, .zeros = true, .line = 7, .col = 3};
    struct jsonc doc;
    struct err e = {0};
    size_t len;
    char *s;

    (void)state;
    assert_true(jsonc_parse_as(&doc, "d", text, sizeof text - 1, &rules, &e));
    s = jsonc_string(&doc, jsonc_find(&doc, "s"), &len, &e);
    assert_int_equal(len, sizeof want - 1);
    assert_memory_equal(s, want, len + 1);
    free(s);
    jsonc_fail(&doc, jsonc_find(&doc, "n"), &e, "is %d", 5);
    assert_string_equal(e.msg, "d:7:49: is 5");
    jsonc_close(&doc);
    assert_false(jsonc_parse_as(&doc, "d", "{\"a\\u0000\": 1}", 14, &rules, &e));
    assert_string_equal(e.msg, "d:7:6: \\u0000 is not allowed here, near '\\u0000\": 1}'");
    assert_false(jsonc_parse_as(&doc, "d", "[\n// x\n]", 8, &rules, &e));
    assert_string_equal(e.msg, "d:8:1: a value is needed, near '// x'");
    rules.max_values = 3;
    assert_false(jsonc_parse_as(&doc, "d", "[1,2,3]", 7, &rules, &e));
    assert_string_equal(e.msg, "d:7:8: more than 3 values, near '3]'");
}

static void test_new_string(void **state)
{
    static const char bytes[] = "q\"\\\0\x01\xc3\xa9";
    struct jsonc_rules rules = {.zeros = true};
    cJSON *root = cJSON_CreateObject();
    struct jsonc doc;
    struct err e = {0};
    size_t len;
    char *text, *s;

    (void)state;
    cJSON_AddItemToObject(root, "s", jsonc_new_string(bytes, sizeof bytes - 1));
    text = jsonc_print(root, false, &e);
    assert_string_equal(text, "{\"s\":\"q\\\"\\\\\\u0000\\u0001\xc3\xa9\"}");
    assert_true(jsonc_parse_as(&doc, "d", text, strlen(text), &rules, &e));
    s = jsonc_string(&doc, jsonc_find(&doc, "s"), &len, &e);
    assert_int_equal(len, sizeof bytes - 1);
    assert_memory_equal(s, bytes, len);
    free(s);
    free(text);
    jsonc_close(&doc);
    cJSON_Delete(root);
}

/* Random doubles come back to the last bit; cJSON alone changes about one in a few hundred. */
static void test_numbers(void **state)
{
    struct rng rng = {0};
    struct err e = {0};

    (void)state;
    rng_seed(&rng, 5, 0);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_u64(&rng);
        double v, back;
        cJSON *item;
        char *text;

        memcpy(&v, &bits, sizeof v);
        if (v - v != 0) continue;
        item = cJSON_CreateNumber(v);
        text = jsonc_print(item, false, &e);
        back = strtod(text, NULL);
        assert_memory_equal(&back, &v, sizeof v);
        free(text);
        cJSON_Delete(item);
    }
    cJSON *item = cJSON_CreateNumber(0.1);
    char *text = jsonc_print(item, true, &e);
    assert_string_equal(text, "0.1");
    free(text);
    cJSON_Delete(item);
}

/* Neither reading nor mapping waits for a pipe's writer. */
static void test_no_file(void **state)
{
    char path[1100], want[1200], *text;
    struct file_map map;
    struct err e = {0};
    size_t len;

    snprintf(path, sizeof path, "%s", tmpdir_path(state, "fifo"));
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(want, sizeof want, "%s: is a named pipe, a file is needed", path);
    assert_false(file_read(path, 100, &text, &len, &e));
    assert_string_equal(e.msg, want);
    assert_false(file_map_open(&map, path, &e));
    assert_string_equal(e.msg, want);
    unlink(path);
    assert_int_equal(symlink("gone/blob", path), 0);
    snprintf(want, sizeof want, "%s: is a link to gone/blob, which is not there", path);
    assert_false(file_map_open(&map, path, &e));
    assert_string_equal(e.msg, want);
    unlink(path);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(want, sizeof want, "%s: is a directory, a file is needed", path);
    assert_false(file_map_open(&map, path, &e));
    assert_string_equal(e.msg, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_kind_refused), cmocka_unit_test(test_json_whole),
        cmocka_unit_test(test_new_string),   cmocka_unit_test(test_numbers),
        tmpdir_test(test_no_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
