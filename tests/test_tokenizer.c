/* test_tokenizer.c - ids, ranges and decoded text against the `tokenizers` library (the golden
 * files' script is beside them), and files and texts that must be refused. Where MHA2MLA_REAL_DATA
 * names a directory with tokenizers/NAME/tokenizer.json, published tokenizers are compared too. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/jsonc.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIR "tests/data/tokenizer/"
#define SEED 20240607

static const cJSON *member(const cJSON *json, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(json, key);
}

static void read_json(struct jsonc *doc, const char *path)
{
    struct err e = {0};

    if (!jsonc_read(doc, path, (size_t)1 << 24, &e)) fail_msg("%s", e.msg);
}

/* Writes a tokenizer to a file of its own, loads it and removes the file. */
static struct tokenizer *load_text(const char *text, size_t len, struct err *e)
{
    char dir[] = "/tmp/test_tokenizer.XXXXXX", path[64];
    struct tokenizer *tk;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/t.json", dir);
    assert_true(file_write(path, text, len, e));
    tk = tokenizer_load(path, e);
    unlink(path);
    rmdir(dir);
    return tk;
}

static uint32_t fnv(uint32_t h, const void *data, size_t n)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x01000193u;
    return h;
}

/* The script's digest: ids, decoded text, decoded text without special tokens. */
static uint32_t digest(const struct tokenizer *tk, struct tokenizer_scratch *sc, const char *text)
{
    struct tokens out = {0};
    struct err e = {0};
    int32_t *ids;
    uint32_t h = 0x811c9dc5u;

    if (!tokenizer_encode(tk, sc, text, strlen(text), true, &out, &e)) fail_msg("%s", e.msg);
    ids = mem_new(out.n, sizeof *ids, "ids", &e);
    assert_non_null(ids);
    for (size_t i = 0; i < out.n; i++)
        ids[i] = out.v[i].id;
    h = fnv(h, ids, out.n * sizeof *ids);
    for (int skip = 0; skip < 2; skip++) {
        size_t len;
        char *back = tokenizer_decode(tk, ids, out.n, skip, &len, &e);

        assert_non_null(back);
        h = fnv(h, back, len);
        free(back);
    }
    free(ids);
    tokens_free(&out);
    return h;
}

/* Compares all texts; with a scratch and without one. */
static void check_hashes(const struct tokenizer *tk, const char *name, const cJSON *texts,
                         const cJSON *hashes)
{
    struct err e = {0};
    struct tokenizer_scratch *sc = tokenizer_scratch_new(tk, &e);
    const cJSON *text = texts->child, *hash = hashes->child;
    size_t i = 0;

    assert_non_null(sc);
    assert_int_equal(cJSON_GetArraySize(texts), cJSON_GetArraySize(hashes));
    for (; text; text = text->next, hash = hash->next, i++) {
        uint32_t want = (uint32_t)hash->valuedouble;

        if (digest(tk, sc, text->valuestring) != want)
            fail_msg("%s: text %zu: \"%s\"", name, i, text->valuestring);
        if (i % 16 == 0) assert_int_equal(digest(tk, NULL, text->valuestring), want);
    }
    tokenizer_scratch_free(sc);
}

/* The ids of the first texts one by one, and the bytes they cover. */
static void check_ids(const struct tokenizer *tk, const cJSON *one, const cJSON *texts)
{
    const cJSON *ids = member(one, "ids")->child, *ranges = member(one, "ranges");
    const cJSON *range = ranges ? ranges->child : NULL, *text = texts->child;
    struct err e = {0};

    for (; ids; ids = ids->next, text = text->next, range = range ? range->next : NULL) {
        struct tokens out = {0};
        const char *s = text->valuestring;
        const cJSON *r = range ? range->child : NULL, *id = ids->child;

        assert_true(tokenizer_encode(tk, NULL, s, strlen(s), true, &out, &e));
        assert_int_equal(out.n, cJSON_GetArraySize(ids));
        for (size_t i = 0; i < out.n; i++, id = id->next, r = r ? r->next : NULL) {
            assert_int_equal(out.v[i].id, id->valueint);
            if (!r || out.v[i].begin == out.v[i].end) continue;
            assert_int_equal(out.v[i].begin, r->child->valueint);
            assert_int_equal(out.v[i].end, r->child->next->valueint);
        }
        tokens_free(&out);
    }
}

/* The base tokenizer with the variant's members put in. */
static struct tokenizer *load_variant(const cJSON *one)
{
    struct jsonc doc = {0};
    struct err e = {0};
    char *path = mem_printf(&e, DIR "%s", member(one, "base")->valuestring), *text;
    struct tokenizer *tk;
    const cJSON *item;

    read_json(&doc, path);
    cJSON_ArrayForEach(item, member(one, "patch"))
    {
        cJSON_DeleteItemFromObjectCaseSensitive(doc.root, item->string);
        cJSON_AddItemToObject(doc.root, item->string, cJSON_Duplicate(item, 1));
    }
    cJSON_ArrayForEach(item, member(one, "model"))
    {
        cJSON *model = cJSON_GetObjectItem(doc.root, "model");

        cJSON_DeleteItemFromObjectCaseSensitive(model, item->string);
        cJSON_AddItemToObject(model, item->string, cJSON_Duplicate(item, 1));
    }
    text = cJSON_PrintUnformatted(doc.root);
    tk = load_text(text, strlen(text), &e);
    if (!tk) fail_msg("%s", e.msg);
    free(text);
    free(path);
    jsonc_close(&doc);
    return tk;
}

static void test_variants(void **state)
{
    struct jsonc doc = {0};
    const cJSON *one;
    int n = 0;

    (void)state;
    read_json(&doc, DIR "cases.json");
    cJSON_ArrayForEach(one, member(doc.root, "cases"))
    {
        struct tokenizer *tk = load_variant(one);
        const cJSON *texts = member(doc.root, "texts");

        check_hashes(tk, member(one, "name")->valuestring, texts, member(one, "hashes"));
        if (member(one, "ids")) check_ids(tk, one, texts);
        tokenizer_free(tk);
        n++;
    }
    assert_true(n > 30);
    jsonc_close(&doc);
}

/* The path of a published tokenizer, which the caller frees; skips the test where there is none. */
static char *real_path(const char *name)
{
    const char *root = getenv("MHA2MLA_REAL_DATA");
    struct err e = {0};
    char *path = mem_printf(&e, "%s/tokenizers/%s/tokenizer.json", root ? root : "", name);
    bool there = root && *root && file_exists(path);

    if (there) return path;
    free(path);
    skip();
    return NULL;
}

static void check_real(const char *name)
{
    struct err e = {0};
    struct jsonc doc = {0};
    char *path = real_path(name);
    struct tokenizer *tk = tokenizer_load(path, &e);

    if (!tk) fail_msg("%s", e.msg);
    read_json(&doc, DIR "real.json");
    check_hashes(tk, name, member(doc.root, "texts"), member(member(doc.root, "hashes"), name));
    jsonc_close(&doc);
    tokenizer_free(tk);
    free(path);
}

static void test_llama2(void **state)
{
    (void)state;
    check_real("llama2");
}

static void test_llama3(void **state)
{
    (void)state;
    check_real("llama3");
}

static void test_qwen2_5(void **state)
{
    (void)state;
    check_real("qwen2_5");
}

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
    assert_true(tokenizer_is_special(tk, image));
    assert_false(tokenizer_is_special(tk, tokenizer_id(tk, "[W]")));
    assert_int_equal(tokenizer_id(tk, "<nothing>"), -1);
    assert_null(tokenizer_piece(tk, tokenizer_size(tk)));
    assert_null(tokenizer_piece(tk, -1));
    text =
        tokenizer_decode(tk, unknown, 4, false, &len, &e); /* ids that are no token are skipped */
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

/* Every byte of the text is covered, in order, also where NFC joins characters. */
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

/* A file without pre-tokenizer makes the whole text one word: merging it must not take quadratic
 * time, and loses nothing. (The golden texts are on both sides of the length where the heap
 * begins.) */
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

/* "yz" is made first, so the pair "x y", of a lower rank than "p x", is gone when its turn comes,
 * and must not lend that rank to "x yz". Once the word is short (scanned), once long (heap). */
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

static void test_bad_text(void **state)
{
    static const struct {
        const char *text;
        size_t at;
    } cases[] = {{"ab\xff", 2},   {"\xc3", 0},         {"a\xed\xa0\x80", 1},
                 {"\xc0\x80", 0}, {"12345678\x80", 8}, {"\xf4\x90\x80\x80", 0},
                 {"\xe2\x82", 0}};
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(DIR "byte_level.json", &e);
    struct tokens out = {0};

    (void)state;
    assert_non_null(tk);
    assert_true(tokenizer_encode(tk, NULL, "a", 1, false, &out, &e));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char want[32];

        assert_false(
            tokenizer_encode(tk, NULL, cases[i].text, strlen(cases[i].text), false, &out, &e));
        snprintf(want, sizeof want, "at byte %zu", cases[i].at);
        assert_non_null(strstr(e.msg, want));
        assert_int_equal(out.n, 1); /* what was there stays */
    }
    tokens_free(&out);
    tokenizer_free(tk);
}

/* ---- files that must be refused ---- */

#define MODEL(vocab, merges)                                                                       \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}"
#define GOOD MODEL("{\"a\":0,\"b\":1,\"ab\":2}", "[\"a b\"]")

static const struct {
    const char *text, *message;
} refused[] = {
    {"", "a value is needed"},
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
    {GOOD ",\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]}", "same id 1"},
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
    assert_non_null(tk); /* what the cases start from is fine */
    tokenizer_free(tk);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        e = (struct err){0};
        tk = load_text(refused[i].text, strlen(refused[i].text), &e);
        if (tk) fail_msg("accepted: %s", refused[i].text);
        if (!strstr(e.msg, refused[i].message)) fail_msg("%s\n gives: %s", refused[i].text, e.msg);
        assert_null(strchr(e.msg, '\n'));
    }
}

/* Cut and damaged files: refused or read, but never a crash; a cut file is always refused. */
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
            char *back = tokenizer_decode(tk, &out.v[0].id, out.n > 0, false, NULL, &e);

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
        cmocka_unit_test(test_variants),     cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_ranges_cover), cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_merge_order),  cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_no_file),      cmocka_unit_test(test_llama2),
        cmocka_unit_test(test_llama3),       cmocka_unit_test(test_qwen2_5),
    };

    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
