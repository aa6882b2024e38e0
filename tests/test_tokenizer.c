/* test_tokenizer.c - the tokenizer's interface, and files and texts that must be refused. The ids
 * of texts are in test_tokenizer_equal.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/utf8.h"

#include "tests/tokenizer_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIR "tests/data/tokenizer/"
#define SEED 20240607

/* ---- the interface ---- */

static void test_lookup(void **state)
{
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(DIR "metaspace.json", &e);
    struct tokens out = {0};
    int32_t image, unknown[] = {1, 900000, -5, 1};
    size_t len;
    char *text;

    (void)state;
    assert_non_null(tk);
    image = tokenizer_id(tk, "<image>");
    assert_true(image >= 0 && image < tokenizer_size(tk));
    assert_string_equal(tokenizer_piece(tk, image), "<image>");
    text = tokenizer_decode(tk, (int32_t[]){image, tokenizer_id(tk, "[W]")}, 2, true, &len, &e);
    assert_string_equal(text, "[W]"); /* an added token, but not a special one */
    free(text);
    assert_int_equal(tokenizer_id(tk, "<nothing>"), -1);
    assert_null(tokenizer_piece(tk, tokenizer_size(tk)));
    assert_null(tokenizer_piece(tk, -1));
    text =
        tokenizer_decode(tk, unknown, 4, false, &len, &e); /* ids that are not tokens are skipped */
    assert_string_equal(text, "<s><s>");
    assert_int_equal(len, 6);
    free(text);
    /* appends; BOS and EOS cover nothing */
    assert_true(tokenizer_encode(tk, NULL, "<image>", 7, false, &out, &e));
    assert_true(tokenizer_encode(tk, NULL, "<image>", 7, true, &out, &e));
    assert_int_equal(out.n, 4);
    assert_int_equal(out.v[0].id, image);
    assert_int_equal(out.v[1].id, 1);
    assert_int_equal(out.v[1].end, 0);
    assert_int_equal(out.v[2].end, 7);
    assert_int_equal(out.v[3].begin, 7);
    assert_int_equal(out.v[3].end, 7);
    tokens_free(&out);
    tokenizer_free(tk);
}

/* Every byte of the text is covered, in order, even if NFC joins characters. */
static void test_ranges_cover(void **state)
{
    const char *text = "e\xcc\x81 ca\xcc\xa3\xcc\x82 <image>  x\xf0\x9f\x98\x80y \xea\xb0\x80\n\n";
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(DIR "byte_level.json", &e);
    struct tokens out = {0};
    int64_t end = 0;

    (void)state;
    assert_non_null(tk);
    assert_true(tokenizer_encode(tk, NULL, text, strlen(text), false, &out, &e));
    for (size_t i = 0; i < out.n; i++) {
        assert_true(out.v[i].begin <= end && out.v[i].end >= end && out.v[i].begin < out.v[i].end);
        end = out.v[i].end;
    }
    assert_int_equal(end, strlen(text));
    tokens_free(&out);
    tokenizer_free(tk);
}

/* A file without a pre-tokenizer makes the whole text one word: merging it must not take
 * quadratic time, and loses nothing. (The golden texts are on both sides of the length from
 * which a heap is used.) */
static void test_long_word(void **state)
{
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(DIR "metaspace.json", &e);
    struct tokens out = {0};
    size_t n = 200000;
    char *text = mem_new(n, 1, "text", &e), *back;
    int32_t *ids;
    struct rng r;

    (void)state;
    assert_non_null(tk);
    assert_non_null(text);
    rng_seed(&r, SEED, 0);
    for (size_t i = 0; i < n; i++)
        text[i] = "the dogruns"[rng_below(&r, 11)];
    assert_true(tokenizer_encode(tk, NULL, text, n, false, &out, &e));
    assert_true(out.n < n);
    ids = mem_new(out.n, sizeof *ids, "ids", &e);
    for (size_t i = 0; i < out.n; i++)
        ids[i] = out.v[i].id;
    back = tokenizer_decode(tk, ids, out.n, false, &n, &e);
    assert_int_equal(n, 200000);
    assert_memory_equal(back, text, n);
    free(back);
    free(ids);
    free(text);
    tokens_free(&out);
    tokenizer_free(tk);
}

/* "yz" is merged first, so the pair "x y", of a lower rank than "p x", is gone when its turn
 * comes, and must not lend that rank to "x yz". Once with a short word (scanned), once with
 * a long one (heap). */
static void test_merge_order(void **state)
{
    static const char text[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"p\":0,\"x\":1,\"y\":2,"
                               "\"z\":3,\"yz\":4,\"xy\":5,\"px\":6,\"xyz\":7},\"merges\":["
                               "\"y z\",\"x y\",\"p x\",\"x yz\"]}}";
    struct err e = {0};
    struct tokenizer *tk = load_text(text, strlen(text), &e);
    char word[400];

    (void)state;
    assert_non_null(tk);
    for (size_t n = 1; n <= 100; n += 33) {
        struct tokens out = {0};

        for (size_t i = 0; i < n; i++)
            memcpy(word + 4 * i, "pxyz", 4);
        assert_true(tokenizer_encode(tk, NULL, word, 4 * n, false, &out, &e));
        assert_int_equal(out.n, 2 * n);
        for (size_t i = 0; i < out.n; i++)
            assert_int_equal(out.v[i].id, i % 2 ? 4 : 6);
        tokens_free(&out);
    }
    tokenizer_free(tk);
}

/* "▁" begins a word that is merged separately only if no merge joins it to the text before it. */
static void test_marks(void **state)
{
    static const struct {
        const char *merges;
        int32_t ids[2];
    } cases[] = {{"\"a ▁\",\"▁ b\"", {3, 1}}, {"\"▁ b\"", {0, 4}}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct err e = {0};
        struct tokens out = {0};
        char *text = mem_printf(&e,
                                "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"▁\":2,\"a▁\":3,"
                                "\"▁b\":4},\"merges\":[%s]}}",
                                cases[i].merges);
        struct tokenizer *tk = load_text(text, strlen(text), &e);

        if (!tk) fail_msg("%s", e.msg);
        assert_true(tokenizer_encode(tk, NULL, "a▁b", strlen("a▁b"), false, &out, &e));
        assert_int_equal(out.n, 2);
        assert_int_equal(out.v[0].id, cases[i].ids[0]);
        assert_int_equal(out.v[1].id, cases[i].ids[1]);
        tokens_free(&out);
        tokenizer_free(tk);
        free(text);
    }
}

/* Where UTF-8 ends, by its definition and not by the standard's table: a character must be
 * encoded exactly as an encoder writes it; bytes that decode to a number in another
 * encoding are invalid. */
static size_t first_bad(const unsigned char *s, size_t n)
{
    size_t i = 0;

    while (i < n) {
        size_t len = s[i] < 0x80 ? 1 : s[i] < 0xc0 ? 0 : s[i] < 0xe0 ? 2 : s[i] < 0xf0 ? 3 : 4;
        int32_t c = len == 1 ? s[i] : len ? s[i] & (0x7f >> len) : 0;
        char again[4];

        if (len == 0 || s[i] > 0xf7 || n - i < len) return i;
        for (size_t k = 1; k < len; k++) {
            if ((s[i + k] & 0xc0) != 0x80) return i;
            c = c << 6 | (s[i + k] & 0x3f);
        }
        if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return i;
        if (utf8_put(again, c) != len || memcmp(again, s + i, len) != 0) return i;
        i += len;
    }
    return n;
}

/* All texts of four bytes at the edges of UTF-8's ranges: overlong forms, surrogates, cut
 * characters, numbers that are too large. */
static void test_utf8(void **state)
{
    static const unsigned char edge[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                         0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
                                         0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
    size_t n = sizeof edge, valid = 0;

    (void)state;
    for (size_t i = 0; i < n * n * n * n; i++) {
        unsigned char s[] = {edge[i % n], edge[i / n % n], edge[i / n / n % n],
                             edge[i / n / n / n]};
        size_t bad = first_bad(s, sizeof s);

        if (utf8_check((const char *)s, sizeof s) != bad)
            fail_msg("%02x %02x %02x %02x: %zu", s[0], s[1], s[2], s[3], bad);
        valid += bad == sizeof s;
    }
    assert_in_range(valid, 100, n * n * n * n / 2);
}

static void test_bad_text(void **state)
{
    static const struct {
        const char *text;
        size_t at;
    } cases[] = {
        {"ab\xff", 2},
        {"\xc3", 0},                     /* cut */
        {"abc \xe2\x82", 4},             /* cut */
        {"abc \xf0\x9f\x98", 4},         /* cut */
        {"\xe2\x28\xa1", 0},             /* a letter in the middle */
        {"a\xed\xa0\x80", 1},            /* a surrogate */
        {"\xed\xa0\xbd\xed\xb8\x80", 0}, /* a pair of them (CESU-8) */
        {"\xc0\x80", 0},                 /* U+0000, overlong */
        {"\xc1\xbf", 0},                 /* overlong */
        {"\xe0\x9f\xbf", 0},             /* overlong */
        {"\xf0\x8f\xbf\xbf", 0},         /* overlong */
        {"12345678\x80", 8},             /* a continuation byte without a first byte */
        {"\xf4\x90\x80\x80", 0},         /* above U+10FFFF */
        {"\xf8\x88\x80\x80\x80", 0},     /* five bytes */
        {"\xc3\xa9\xe9", 2},             /* Latin-1 after UTF-8 */
    };
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(DIR "byte_level.json", &e);
    struct tokens out = {0};

    (void)state;
    assert_non_null(tk);
    assert_true(tokenizer_encode(tk, NULL, "a", 1, false, &out, &e));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text = cases[i].text;
        char want[64];

        assert_false(tokenizer_encode(tk, NULL, text, strlen(text), false, &out, &e));
        snprintf(want, sizeof want, "text is not UTF-8: byte 0x%02x at byte %zu",
                 (unsigned)(unsigned char)text[cases[i].at], cases[i].at);
        assert_string_equal(e.msg, want);
        assert_int_equal(out.n, 1); /* earlier content stays */
    }
    tokens_free(&out);
    tokenizer_free(tk);
}

/* Many marks in a row, which normalisation has to sort: in n log n time at most, and stably. */
static void test_many_marks(void **state)
{
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(DIR "byte_level.json", &e);
    struct tokens a = {0}, b = {0};
    size_t pairs = 100000;
    char *mixed = mem_new(4 * pairs + 1, 1, "text", &e),
         *ordered = mem_new(4 * pairs + 1, 1, "text", &e);

    (void)state;
    assert_non_null(tk);
    assert_non_null(mixed);
    assert_non_null(ordered);
    mixed[0] = ordered[0] = 'q';
    for (size_t i = 0; i < pairs; i++) { /* U+0301 of class 230 and U+0323 of class 220 */
        memcpy(mixed + 1 + 4 * i, "\xcc\x81\xcc\xa3", 4);
        memcpy(ordered + 1 + 2 * i, "\xcc\xa3", 2);
        memcpy(ordered + 1 + 2 * (pairs + i), "\xcc\x81", 2);
    }
    assert_true(tokenizer_encode(tk, NULL, mixed, 4 * pairs + 1, false, &a, &e));
    assert_true(tokenizer_encode(tk, NULL, ordered, 4 * pairs + 1, false, &b, &e));
    assert_int_equal(a.n, b.n);
    for (size_t i = 0; i < a.n; i++)
        assert_int_equal(a.v[i].id, b.v[i].id);
    free(mixed);
    free(ordered);
    tokens_free(&a);
    tokens_free(&b);
    tokenizer_free(tk);
}

/* ---- files that must be refused ---- */

#define MODEL(vocab, merges)                                                                       \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}"
#define GOOD MODEL("{\"a\":0,\"b\":1,\"ab\":2}", "[\"a b\"]")

static const struct {
    const char *text, *message;
} refused[] = {
    {"", "is empty"},
    {"[]", "must be an object"},
    {"{}", "\"model\" is missing"},
    {"{\"version\":\"2.0\"}", "\"version\" must be"},
    {"{\"model\":{\"type\":\"WordPiece\"}}", "model \"WordPiece\""},
    {"{\"model\":{\"type\":\"BPE\"}}", "\"vocab\""},
    {MODEL("{}", "[]") "}", "\"vocab\""},
    {MODEL("{\"a\":0}", "{}") "}", "\"merges\""},
    {MODEL("{\"a\":0}", "[\"a z\"]") "}", "lacks: z"},
    {MODEL("{\"a\":0,\"b\":1}", "[[\"a\",\"b\"]]") "}", "lacks: ab"},
    {MODEL("{\"a\":0}", "[\"a\"]") "}", "not two tokens"},
    {MODEL("{\"a\":0}", "[\"a a a\"]") "}", "not two tokens"},
    {MODEL("{\"a\":0,\"\":1}", "[\"a \"]") "}", "empty half"},
    {MODEL("{\"a\":0}", "[[\"a\"]]") "}", "a merge must be"},
    {MODEL("{\"a\":0}", "[7]") "}", "a merge must be"},
    {MODEL("{\"a\":0,\"b\":0}", "[]") "}", "same id 0"},
    {MODEL("{\"a\":0,\"a\":1}", "[]") "}", "\"a\""},
    {MODEL("{\"a\":0}", "[\"z a\"]") "}", "lacks: z"},
    {MODEL("{\"\\ud800\":0}", "[]") "}", "lone surrogate"},
    {MODEL("{\"\xff\":0}", "[]") "}", "not UTF-8"},
    {MODEL("{\"a\":-1}", "[]") "}", "an id must be"},
    {MODEL("{\"a\":1.5}", "[]") "}", "an id must be"},
    {MODEL("{\"a\":4294967296}", "[]") "}", "an id must be"},
    {MODEL("{\"a\":2147483647}", "[]") "}", "an id must be"},
    {MODEL("{\"a\":\"0\"}", "[]") "}", "an id must be"},
    {MODEL("{\"a\\u0000b\":0}", "[]") "}", "\\u0000 is not allowed"},
    {"{\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]}}", "dropout"},
    {"{\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{\"a\":0},\"merges\":[]}}",
     "unk_token"},
    {"{\"model\":{\"end_of_word_suffix\":\"_\",\"vocab\":{\"a\":0},\"merges\":[]}}",
     "end_of_word_suffix"},
    {GOOD ",\"normalizer\":{\"type\":\"BertNormalizer\"}}", "normalizer \"BertNormalizer\""},
    {GOOD ",\"normalizer\":{}}", "without \"type\""},
    {GOOD ",\"normalizer\":{\"type\":\"Sequence\"}}", "without a list"},
    {GOOD ",\"normalizer\":{\"type\":\"Replace\",\"content\":\"\"}}", "\"pattern\""},
    {GOOD ",\"normalizer\":{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"String\":\"\"}}}",
     "empty pattern"},
    {GOOD ",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}", "pre_tokenizer \"UnicodeScripts\""},
    {GOOD ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},\"behavior\":"
          "\"Isolated\"}}",
     "does not compile"},
    {GOOD ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a[b]]\"},\"behavior\":"
          "\"Isolated\"}}",
     "class inside a class"},
    {GOOD
     ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Gone\"}}",
     "\"Gone\""},
    {GOOD ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}}", "one character"},
    {GOOD ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},"
          "{\"type\":\"Digits\"}]}}",
     "must be the last"},
    {GOOD ",\"decoder\":{\"type\":\"CTC\"}}", "decoder \"CTC\""},
    {GOOD ",\"post_processor\":{\"type\":\"BertProcessing\"}}",
     "post_processor \"BertProcessing\""},
    {GOOD ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}}",
     "lacks sequence A"},
    {GOOD ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"
          "\"id\":\"x\"}}]}}",
     "no ids for"},
    {GOOD ",\"added_tokens\":{}}", "must be a list"},
    {GOOD ",\"added_tokens\":[{\"id\":3}]}", "needs a \"content\""},
    {GOOD ",\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]}",
     ":1:87: added token \"x\" has id 1 here, but added tokens are numbered on"},
    {GOOD ",\"added_tokens\":[{\"id\":1,\"content\":\"a\"}]}", "has id 1 here and 0"},
    {GOOD ",\"added_tokens\":[{\"id\":3,\"content\":\"x\"},{\"id\":4,\"content\":\"x\"}]}",
     "has id 4 here and 3"},
    {GOOD ",\"added_tokens\":[{\"id\":99999999,\"content\":\"x\"}]}", "an id must be"},
};

static void test_refused(void **state)
{
    struct err e;
    struct tokenizer *tk;

    (void)state;
    tk = load_text(GOOD "}", strlen(GOOD "}"), &e);
    assert_non_null(tk); /* the cases' unmodified file is fine */
    tokenizer_free(tk);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        e = (struct err){0};
        tk = load_text(refused[i].text, strlen(refused[i].text), &e);
        if (tk) fail_msg("accepted: %s", refused[i].text);
        if (!strstr(e.msg, refused[i].message)) fail_msg("%s\n gives: %s", refused[i].text, e.msg);
        assert_null(strchr(e.msg, '\n'));
        assert_non_null(strstr(e.msg, "/t.json:")); /* the file, then the line */
    }
}

/* Expressions that Oniguruma and PCRE2 read differently, or that only one of them accepts. */
static void test_refused_regex(void **state)
{
    static const struct {
        const char *regex, *message;
    } cases[] = {
        {"(a", "does not compile"},
        {"\\p{L}**", "does not compile"},
        {"a**", "does not compile"},
        {"[a", "does not compile"},
        {"a\\", "this escape"},
        {"[a[b]]", "a class inside a class"},
        {"[[:alpha:]]", "a class inside a class"},
        {"[]a]", "a class that begins with ']'"},
        {"[a-z&&[aeiou]]", "an intersection"},
        {"[\\w-x]", "a '-' after a class"},
        {"[^\\D]", "this escape in a class"},
        {"[\\P{L}]", "\\P in a class"},
        {"\\p{Alphabetic}", "this property"},
        {"\\p{^L}", "this property"},
        {"\\pL", "this property"},
        {"\\p{L", "this property"},
        {"\\bword\\b", "this escape"},
        {"a\\Z", "this escape"},
        {"(a)\\1", "this escape"},
        {"\\xe9", "a single byte"},
        {"\\x4", "this number"},
        {"\\x{41", "this number"},
        {"\\x{0000041}", "this number"},
        {"\\u12", "this number"},
        {"\\p{N}{1,3}+", "a sign after '}'"},
        {"a{2}?", "a sign after '}'"},
        {"a{,3}", "this '{'"},
        {"a{b", "this '{'"},
        {"a(?i)b|c", "this group"},
        {"(?m:.)", "this group"},
        {"(?<name>a)", "this group"},
        {"(?#note)", "this group"},
        {"(?:a|b*)+c", "a repeated group that may be empty"},
        {"(?=b)(?:(?=b)|a){2}", "a repeated group that may be empty"},
        {"a(*ACCEPT)b|b", "a verb"},
        {"(*CRLF)a.", "a verb"},
        {"a(*SKIP)x|(*COMMIT)b", "a verb"},
        {"(*LIMIT_MATCH=5)a", "a verb"},
        {"(*FAIL)", "a verb"},
        {"(?R)", "this group"},
        {"(a)(?1)", "this group"},
        {"(?C7)a", "this group"},
        {"(?|a|b)", "this group"},
        {"(?P<name>a)", "this group"},
        {"(a)?(?(1)b)", "this group"},
        {"a\\Kb", "this escape"},
        {"(a)\\g1", "this escape"},
        {"\\k<a>", "this escape"},
        {"\\Qa\\E", "this escape"},
        {"\\C", "this escape"},
        {"\\R", "this escape"},
        {"\\X", "this escape"},
        {"\\Ga", "this escape"},
    };
    struct strings out = {0};
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pattern p = {0};

        e = (struct err){0};
        if (pattern_regex(&p, cases[i].regex, &e)) fail_msg("accepted: %s", cases[i].regex);
        if (!strstr(e.msg, cases[i].message)) fail_msg("%s\n gives: %s", cases[i].regex, e.msg);
        assert_non_null(strstr(e.msg, cases[i].regex));
        pattern_free(&p);
    }
    /* whatever both read alike is unchanged */
    assert_true(regex_translate("(?i:'s|a+?)[^a-z.\\]]{2,}|\\n$\\x{1F600}+(b)", &out, &e));
    assert_string_equal(out.s, "(?i:'s|a+?)[^a-z.\\]]{2,}|\\n$\\x{1F600}+(?:b)");
    free(out.s);
}

/* Cut and damaged files are refused or read, but never crash; a cut file is always refused. */
static void test_damaged(void **state)
{
    struct err e = {0};
    char *text;
    size_t len;
    struct rng r;

    (void)state;
    rng_seed(&r, SEED, 1);
    assert_true(file_read(DIR "metaspace.json", (size_t)1 << 20, &text, &len, &e));
    for (size_t cut = 0; cut + 2 < len; cut += 211)
        assert_null(load_text(text, cut, &e));
    for (int i = 0; i < 300; i++) {
        size_t at = (size_t)rng_below(&r, len);
        char was = text[at];
        struct tokens out = {0};
        struct tokenizer *tk;

        text[at] = "0\"[]{},:x9"[rng_below(&r, 10)];
        tk = load_text(text, len, &e);
        if (tk && tokenizer_encode(tk, NULL, "A <image> dog", 13, true, &out, &e)) {
            char *back =
                tokenizer_decode(tk, out.n > 0 ? &out.v[0].id : NULL, out.n > 0, false, NULL, &e);

            free(back);
        }
        tokens_free(&out);
        tokenizer_free(tk);
        text[at] = was;
    }
    free(text);
}

static void test_no_file(void **state)
{
    struct err e = {0};

    (void)state;
    assert_null(tokenizer_load("tests/data/tokenizer/none.json", &e));
    assert_non_null(strstr(e.msg, "none.json"));
    tokenizer_free(NULL);
    tokenizer_scratch_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookup),     cmocka_unit_test(test_ranges_cover),
        cmocka_unit_test(test_long_word),  cmocka_unit_test(test_merge_order),
        cmocka_unit_test(test_marks),      cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_many_marks), cmocka_unit_test(test_refused_regex),
        cmocka_unit_test(test_bad_text),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_damaged),    cmocka_unit_test(test_no_file),
    };

    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
