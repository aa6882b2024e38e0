/* test_tokenizer_small.c - many small tokenizers with all kinds of added tokens, normalizers,
 * pre-tokenizers and decoders, whose golden values are the `tokenizers` library's:
 * tests/data/tokenizer/fuzz_small.py draws them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json/jsonc.h"
#include "base/mem.h"

#include "tests/tokenizer_text.h"

#include <string.h>

#define GOLDEN "tests/data/tokenizer/small.json"

static const cJSON *member(const cJSON *json, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(json, key);
}

/* A string of the golden file, which may hold zeros. */
static char *string_of(const struct jsonc *doc, const cJSON *item, size_t *n)
{
    struct err e = {0};
    char *s = jsonc_string(doc, item, n, &e);

    if (!s) fail_msg("%s", e.msg);
    return s;
}

static void check_decoded(const struct jsonc *doc, const struct tokenizer *tk, const cJSON *text,
                          const struct tokens *t)
{
    int32_t *ids;
    struct err e = {0};

    ids = mem_new(t->n, sizeof *ids, "ids", &e);
    assert_non_null(ids);
    for (size_t i = 0; i < t->n; i++)
        ids[i] = t->v[i].id;
    for (int skip = 0; skip < 2; skip++) {
        size_t n, len;
        char *want = string_of(doc, cJSON_GetArrayItem(member(text, "decoded"), skip), &n);
        char *got = tokenizer_decode(tk, ids, t->n, skip, &len, &e);

        if (!got) fail_msg("%s", e.msg);
        if (n != len || memcmp(want, got, n) != 0)
            fail_msg("decoded \"%s\", wanted \"%s\"", got, want);
        free(want);
        free(got);
    }
    free(ids);
}

static void check_text(const struct jsonc *doc, const struct tokenizer *tk, const cJSON *text)
{
    const cJSON *ids = member(text, "ids"), *ranges = member(text, "ranges");
    const cJSON *id = ids->child, *r = ranges ? ranges->child : NULL;
    struct tokens t = {0};
    struct err e = {0};
    size_t n;
    char *s = string_of(doc, member(text, "text"), &n);

    if (!tokenizer_encode(tk, NULL, s, n, true, &t, &e)) fail_msg("\"%s\": %s", s, e.msg);
    if ((int)t.n != cJSON_GetArraySize(ids))
        fail_msg("\"%s\": %zu tokens, wanted %d", s, t.n, cJSON_GetArraySize(ids));
    for (size_t i = 0; i < t.n; i++, id = id->next) {
        if (t.v[i].id != id->valueint)
            fail_msg("\"%s\": token %zu is %d, wanted %d", s, i, (int)t.v[i].id, id->valueint);
        if (r && t.v[i].begin < t.v[i].end &&
            (t.v[i].begin != r->valueint || t.v[i].end != r->next->valueint))
            fail_msg("\"%s\": token %zu is at %d, wanted %d", s, i, (int)t.v[i].begin, r->valueint);
        r = r ? r->next->next : NULL;
    }
    check_decoded(doc, tk, text, &t);
    tokens_free(&t);
    free(s);
}

static void test_small(void **state)
{
    static const struct jsonc_rules rules = {.plain = true, .zeros = true};
    struct jsonc doc = {0};
    struct err e = {0};
    const cJSON *one, *text;
    int n = 0;

    (void)state;
    if (!jsonc_read_as(&doc, GOLDEN, (size_t)1 << 20, &rules, &e)) fail_msg("%s", e.msg);
    cJSON_ArrayForEach(one, member(doc.root, "cases"))
    {
        char *file = cJSON_PrintUnformatted(member(one, "tokenizer"));
        struct tokenizer *tk = load_text(file, strlen(file), &e);

        if (!tk) fail_msg("%s", e.msg);
        cJSON_ArrayForEach(text, member(one, "texts"))
        {
            check_text(&doc, tk, text);
            n++;
        }
        tokenizer_free(tk);
        free(file);
    }
    assert_true(n > 500);
    jsonc_close(&doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small)};

    return cmocka_run_group_tests_name("tokenizer_small", tests, NULL, NULL);
}
