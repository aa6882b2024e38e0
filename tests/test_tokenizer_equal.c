/* test_tokenizer_equal.c - ids, ranges and decoded text are those of the `tokenizers`
 * library: tiny tokenizers of every kind on fixed texts, random ones and every character;
 * and, if MHA2MLA_REAL_DATA names a directory with tokenizers/NAME/tokenizer.json and
 * corpus/SET.bin, published tokenizers on hundreds of thousands of lines. The script of the
 * golden values, which says what a hash covers, is beside them; compare.py there shows the
 * line behind a differing hash. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/utf8.h"

#include "tests/tokenizer_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define DIR "tests/data/tokenizer/"

static const cJSON *member(const cJSON *json, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(json, key);
}

static void read_json(struct jsonc *doc, const char *path)
{
    struct err e = {0};

    if (!jsonc_read(doc, path, (size_t)1 << 24, &e)) fail_msg("%s", e.msg);
}

/* ---- random texts and ids, as in fuzz.py ---- */

struct fuzz {
    struct jsonc doc;
    const cJSON **piece;
    uint32_t n_pieces;
};

static void fuzz_open(struct fuzz *f)
{
    struct err e = {0};
    const cJSON *item;

    read_json(&f->doc, DIR "fuzz.json");
    f->piece = mem_new((size_t)cJSON_GetArraySize(member(f->doc.root, "pieces")), sizeof *f->piece,
                       "pieces", &e);
    assert_non_null(f->piece);
    cJSON_ArrayForEach(item, member(f->doc.root, "pieces")) f->piece[f->n_pieces++] = item;
}

static void fuzz_close(struct fuzz *f)
{
    free(f->piece);
    jsonc_close(&f->doc);
}

static uint32_t below(uint64_t *state, uint32_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*state >> 33) % n);
}

struct line {
    char *s;
    size_t n, cap;
};

static void line_add(struct line *l, const char *s, size_t n)
{
    struct err e = {0};

    assert_true(mem_grow(&l->s, &l->cap, l->n + n + 1, 1, &e));
    memcpy(l->s + l->n, s, n);
    l->n += n;
}

static void line_char(struct line *l, uint32_t c)
{
    char s[4];

    line_add(l, s, utf8_put(s, (int32_t)c));
}

static void fuzz_text(const struct fuzz *f, size_t i, struct line *out)
{
    static const uint32_t limits[] = {0x80, 0x3000, 0x10000, 0x110000};
    uint64_t r = i;
    uint32_t parts;

    below(&r, 1);
    parts = 1 + below(&r, 12);
    for (uint32_t k = 0; k < parts; k++) {
        uint32_t kind = below(&r, 8), times, c;
        const char *s;

        if (kind == 0) {
            c = below(&r, limits[below(&r, 4)]);
            line_char(out, c >= 0xd800 && c < 0xe000 ? c - 0x800 : c);
            continue;
        }
        s = f->piece[below(&r, f->n_pieces)]->valuestring;
        times = kind == 1 ? 2 + below(&r, 6) : 1;
        for (uint32_t j = 0; j < times; j++)
            line_add(out, s, strlen(s));
    }
}

/* ---- hashes ---- */

/* Continues a hash: ids, the text they decode to, that text without special tokens. */
static uint32_t digest(const struct tokenizer *tk, const int32_t *ids, size_t n, uint32_t crc)
{
    struct err e = {0};

    crc = (uint32_t)crc32(crc, (const Bytef *)ids, (uInt)(n * sizeof *ids));
    for (int skip = 0; skip < 2; skip++) {
        size_t len;
        char *back = tokenizer_decode(tk, ids, n, skip, &len, &e);

        if (!back) fail_msg("%s", e.msg);
        crc = (uint32_t)crc32(crc, (const Bytef *)back, (uInt)len);
        free(back);
    }
    return crc;
}

/* A series of items to encode or to decode. */
struct source {
    const struct tokenizer *tk;
    struct tokenizer_scratch *scratch;
    const struct fuzz *fuzz;
    const cJSON *item; /* the next one of a list */
    uint32_t c;        /* the next character */
    struct file_map corpus;
    size_t at; /* offset in the corpus */
};

static uint32_t digest_text(struct source *s, const char *text, size_t len, size_t i, uint32_t crc)
{
    struct tokens out = {0};
    struct err e = {0};
    /* now and then without scratch memory */
    struct tokenizer_scratch *sc = i % 64 == 0 && len < 256 ? NULL : s->scratch;
    int32_t *ids;

    if (!tokenizer_encode(s->tk, sc, text, len, true, &out, &e)) fail_msg("%s", e.msg);
    ids = mem_new(out.n, sizeof *ids, "ids", &e);
    assert_non_null(ids);
    for (size_t k = 0; k < out.n; k++)
        ids[k] = out.v[k].id;
    crc = digest(s->tk, ids, out.n, crc);
    free(ids);
    tokens_free(&out);
    return crc;
}

static uint32_t of_list(struct source *s, size_t i, uint32_t crc)
{
    const char *text = s->item->valuestring;

    s->item = s->item->next;
    return digest_text(s, text, strlen(text), i, crc);
}

static uint32_t of_random_text(struct source *s, size_t i, uint32_t crc)
{
    struct line l = {0};

    fuzz_text(s->fuzz, i, &l);
    crc = digest_text(s, l.s ? l.s : "", l.n, i, crc);
    free(l.s);
    return crc;
}

static uint32_t of_random_ids(struct source *s, size_t i, uint32_t crc)
{
    uint32_t size = (uint32_t)tokenizer_size(s->tk), n;
    int32_t ids[24];
    uint64_t r = i;

    below(&r, 1);
    n = below(&r, 24);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t low = below(&r, 300), high = below(&r, 300);
        uint32_t id[4] = {low, high < size ? size - high : 0};

        id[2] = below(&r, size);
        id[3] = below(&r, size);
        ids[k] = (int32_t)id[below(&r, 4)];
    }
    return digest(s->tk, ids, n, crc);
}

/* 64 characters in a row, from the ranges that fuzz.json lists. */
static uint32_t of_characters(struct source *s, size_t i, uint32_t crc)
{
    struct line l = {0};

    if (s->c == (uint32_t)s->item->child->next->valueint) {
        s->item = s->item->next;
        s->c = (uint32_t)s->item->child->valueint;
    }
    for (int k = 0; k < 64; k++)
        line_char(&l, s->c++);
    crc = digest_text(s, l.s, l.n, i, crc);
    free(l.s);
    return crc;
}

static uint32_t of_corpus(struct source *s, size_t i, uint32_t crc)
{
    const char *line = (const char *)s->corpus.data + s->at + 4;
    uint32_t len;

    memcpy(&len, s->corpus.data + s->at, 4); /* the file's hash has been checked */
    s->at += 4 + len;
    return digest_text(s, line, len, i, crc);
}

/* Compares the items of a source with golden hashes {"n", "block", "crc"}. */
static void check(struct source *s, uint32_t (*next)(struct source *, size_t, uint32_t),
                  const cJSON *golden, const char *name, const char *what)
{
    size_t n = (size_t)member(golden, "n")->valuedouble;
    size_t block = (size_t)member(golden, "block")->valuedouble;
    const cJSON *hash = member(golden, "crc")->child;

    assert_true(n > 0);
    for (size_t i = 0; i < n; hash = hash->next) {
        size_t end = i + block < n ? i + block : n, begin = i;
        uint32_t crc = 0;

        for (; i < end; i++)
            crc = next(s, i, crc);
        assert_non_null(hash);
        if (crc != (uint32_t)hash->valuedouble)
            fail_msg("%s: %s, number %zu to %zu: not as the library has it", name, what, begin,
                     end - 1);
    }
    assert_null(hash);
}

static void source_open(struct source *s, const struct tokenizer *tk, const struct fuzz *fuzz)
{
    struct err e = {0};

    *s = (struct source){.tk = tk, .fuzz = fuzz, .scratch = tokenizer_scratch_new(tk, &e)};
    assert_non_null(s->scratch);
}

/* ---- tiny tokenizers ---- */

/* The ids of the first texts, one by one, and the bytes they cover. */
static void check_ids(const struct tokenizer *tk, const cJSON *one, const cJSON *texts)
{
    const cJSON *ids = member(one, "shown")->child, *ranges = member(one, "ranges");
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

/* The base tokenizer with the variant's members inserted. */
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

static void check_variant(const cJSON *one, const cJSON *texts, const struct fuzz *fuzz)
{
    const char *name = member(one, "name")->valuestring;
    struct tokenizer *tk = load_variant(one);
    struct source s;

    source_open(&s, tk, fuzz);
    s.item = texts->child;
    check(&s, of_list, member(one, "texts"), name, "texts of cases.json");
    check(&s, of_random_text, member(one, "random"), name, "random texts");
    check(&s, of_random_ids, member(one, "ids"), name, "random ids");
    if (cJSON_IsObject(member(one, "chars"))) {
        s.item = member(fuzz->doc.root, "chars")->child;
        s.c = (uint32_t)s.item->child->valueint;
        check(&s, of_characters, member(one, "chars"), name, "characters");
        assert_null(s.item->next);
    }
    if (member(one, "shown")) check_ids(tk, one, texts);
    tokenizer_scratch_free(s.scratch);
    tokenizer_free(tk);
}

static void test_variants(void **state)
{
    struct jsonc doc = {0};
    struct fuzz fuzz = {0};
    const cJSON *one;
    int n = 0;

    (void)state;
    fuzz_open(&fuzz);
    read_json(&doc, DIR "cases.json");
    cJSON_ArrayForEach(one, member(doc.root, "cases"))
    {
        check_variant(one, member(doc.root, "texts"), &fuzz);
        n++;
    }
    assert_true(n > 80);
    jsonc_close(&doc);
    fuzz_close(&fuzz);
}

/* ---- published tokenizers ---- */

/* A file below MHA2MLA_REAL_DATA, which the caller frees; NULL, with a message that names it,
 * if there is none. */
static char *real_path(const char *dir, const char *name, const char *end)
{
    const char *root = getenv("MHA2MLA_REAL_DATA");
    struct err e = {0};
    char *path = mem_printf(&e, "%s/%s/%s%s", root ? root : "", dir, name, end);

    assert_non_null(path);
    if (root && *root && access(path, F_OK) == 0) return path;
    if (root && *root) print_message("skipped: there is no %s\n", path);
    free(path);
    return NULL;
}

/* Golden values hold for this one file only. */
static void check_file(const char *path, const cJSON *sha256)
{
    struct file_map m;
    struct sha256 sum;
    struct err e = {0};
    char hex[65];

    if (!file_map_open(&m, path, &e)) fail_msg("%s", e.msg);
    sha256_init(&sum);
    sha256_add(&sum, m.data, m.size);
    sha256_hex(&sum, hex);
    file_map_close(&m);
    if (strcmp(hex, sha256->valuestring) != 0)
        fail_msg("%s is another file than the one the golden values were made from: its SHA-256 is "
                 "%s, not %s",
                 path, hex, sha256->valuestring);
}

/* All sets of the corpus; false if one is missing. */
static bool check_corpus(struct source *s, const char *name, const cJSON *golden,
                         const cJSON *hashes)
{
    const cJSON *set;
    bool all = true;

    cJSON_ArrayForEach(set, golden)
    {
        char *path = real_path("corpus", set->string, ".bin");
        struct err e = {0};

        if (!path) {
            all = false;
            continue;
        }
        check_file(path, member(hashes, set->string));
        if (!file_map_open(&s->corpus, path, &e)) fail_msg("%s", e.msg);
        s->at = 0;
        check(s, of_corpus, set, name, set->string);
        assert_int_equal(s->at, s->corpus.size);
        file_map_close(&s->corpus);
        free(path);
    }
    return all;
}

/* False if the tokenizer or a part of the corpus is missing. */
static bool check_real(const char *name, const cJSON *root, const struct fuzz *fuzz)
{
    const cJSON *golden = member(member(root, "tokenizers"), name);
    char *path = real_path("tokenizers", name, "/tokenizer.json");
    struct err e = {0};
    struct tokenizer *tk;
    struct source s;
    bool all;

    if (!path) return false;
    check_file(path, member(golden, "sha256"));
    tk = tokenizer_load(path, &e);
    if (!tk) fail_msg("%s", e.msg);
    source_open(&s, tk, fuzz);
    check(&s, of_random_text, member(golden, "random"), name, "random texts");
    check(&s, of_random_ids, member(golden, "ids"), name, "random ids");
    all = check_corpus(&s, name, member(golden, "corpus"), member(root, "corpus"));
    tokenizer_scratch_free(s.scratch);
    tokenizer_free(tk);
    free(path);
    return all;
}

static const char *const main_names[] = {"llama2", "llama3", "qwen2_5"};

static bool is_main(const char *name)
{
    for (size_t i = 0; i < sizeof main_names / sizeof *main_names; i++)
        if (strcmp(name, main_names[i]) == 0) return true;
    return false;
}

/* *state names a tokenizer; NULL: all others. */
static void test_real(void **state)
{
    struct jsonc doc = {0};
    struct fuzz fuzz = {0};
    bool all = true;
    const cJSON *one;
    int n = 0;

    fuzz_open(&fuzz);
    read_json(&doc, DIR "real.json");
    cJSON_ArrayForEach(one, member(doc.root, "tokenizers"))
    {
        if (*state ? strcmp(one->string, *state) != 0 : is_main(one->string)) continue;
        all = check_real(one->string, doc.root, &fuzz) && all;
        n++;
    }
    assert_true(n > 0);
    jsonc_close(&doc);
    fuzz_close(&fuzz);
    if (!all) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants),
        {"test_llama2", test_real, NULL, NULL, (void *)(uintptr_t)main_names[0]},
        {"test_llama3", test_real, NULL, NULL, (void *)(uintptr_t)main_names[1]},
        {"test_qwen2_5", test_real, NULL, NULL, (void *)(uintptr_t)main_names[2]},
        {"test_other_published", test_real, NULL, NULL, NULL},
    };

    return cmocka_run_group_tests_name("tokenizer_equal", tests, NULL, NULL);
}
