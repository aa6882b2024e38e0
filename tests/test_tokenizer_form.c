/* test_tokenizer_form.c - directories of tokenizer files, read as by transformers' AutoTokenizer,
 * as tokenizer.json alone, and as sentencepiece: golden values of
 * tests/data/tokenizer/fuzz_form.py. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json/jsonc.h"
#include "base/mem.h"
#include "data/tokenizer/tokenizer.h"

#include "tests/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN "tests/data/tokenizer/form.json"

static const cJSON *member(const cJSON *json, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(json, key);
}

static void put_file(void **state, const char *name, const char *text)
{
    spill(tmpdir_path(state, name), text, strlen(text));
}

static void put_json(void **state, const char *name, const cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);

    put_file(state, name, text);
    free(text);
}

static void remove_files(void **state)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json", "added_tokens.json"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(tmpdir_path(state, names[i]));
}

static enum tokenizer_form form_of(const char *name)
{
    static const char *const names[] = {TOKENIZER_FORM_NAMES};
    unsigned i = 0;

    while (strcmp(names[i], name) != 0)
        i++;
    return (enum tokenizer_form)i;
}

static void check_decoded(const struct tokenizer *tk, const struct tokens *t, const cJSON *want)
{
    struct err e = {0};
    int32_t *ids = mem_new(t->n, sizeof *ids, "ids", &e);

    assert_non_null(ids);
    for (size_t i = 0; i < t->n; i++)
        ids[i] = t->v[i].id;
    for (int skip = 0; want && skip < 2; skip++) {
        char *got = tokenizer_decode(tk, ids, t->n, skip, NULL, &e);

        if (!got) fail_msg("%s", e.msg);
        assert_string_equal(got, cJSON_GetArrayItem(want, skip)->valuestring);
        free(got);
    }
    free(ids);
}

static void check_text(const struct tokenizer *tk, const cJSON *text, const char *notes)
{
    const char *s = member(text, "text")->valuestring;
    const cJSON *ids = member(text, "ids"), *id = ids->child;
    struct tokens t = {0};
    struct err e = {0};

    if (!tokenizer_encode(tk, NULL, s, strlen(s), true, &t, &e)) fail_msg("\"%s\": %s", s, e.msg);
    if ((int)t.n != cJSON_GetArraySize(ids))
        fail_msg("%s\"%s\": %zu tokens, wanted %d", notes, s, t.n, cJSON_GetArraySize(ids));
    for (size_t i = 0; i < t.n; i++, id = id->next)
        if (t.v[i].id != id->valueint)
            fail_msg("%s\"%s\": token %zu is %d, wanted %d", notes, s, i, (int)t.v[i].id,
                     id->valueint);
    check_decoded(tk, &t, member(text, "decoded"));
    tokens_free(&t);
}

static void check_case(void **state, const cJSON *one, const cJSON *base)
{
    struct tokenizer_options o = {.form = form_of(member(one, "form")->valuestring),
                                  .model_type = member(one, "model_type")->valuestring};
    const cJSON *own = member(one, "tokenizer"), *item;
    const char *note = member(one, "note")->valuestring;
    struct tokenizer *tk;
    struct err e = {0};

    remove_files(state);
    put_json(state, "tokenizer.json", own ? own : base);
    cJSON_ArrayForEach(item, member(one, "files")) put_json(state, item->string, item);
    tk = tokenizer_open(tmpdir_path(state, "."), &o, &e);
    if (!tk) fail_msg("%s", e.msg);
    if (!strstr(tokenizer_notes(tk), note))
        fail_msg("wanted: %s\n  found: %s", note, tokenizer_notes(tk));
    cJSON_ArrayForEach(item, member(one, "texts")) check_text(tk, item, tokenizer_notes(tk));
    tokenizer_free(tk);
}

static void test_forms(void **state)
{
    static const struct jsonc_rules rules = {.plain = true};
    struct jsonc doc = {0};
    struct err e = {0};
    const cJSON *one;
    int n = 0;

    if (!jsonc_read_as(&doc, GOLDEN, (size_t)1 << 20, &rules, &e)) fail_msg("%s", e.msg);
    cJSON_ArrayForEach(one, member(doc.root, "cases"))
    {
        check_case(state, one, member(doc.root, "tokenizer"));
        n++;
    }
    assert_int_equal(n, 29);
    jsonc_close(&doc);
}

/* ---- small ones, written here ---- */

#define TOKENIZER                                                                                  \
    "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"▁\":2},\"merges\":[]},\"added_tokens\":["          \
    "{\"id\":3,\"content\":\"<s>\",\"special\":true}],\"truncation\":{\"max_length\":8}}"

static struct tokenizer *open_with(void **state, const char *config, struct tokenizer_options o,
                                   struct err *e)
{
    remove_files(state);
    put_file(state, "tokenizer.json", TOKENIZER);
    put_file(state, "tokenizer_config.json", config);
    return tokenizer_open(tmpdir_path(state, "."), &o, e);
}

/* A token that only tokenizer_config.json has gets the next id, if the model has a row for it. */
static void test_rows(void **state)
{
    static const char config[] = "{\"pad_token\": \"<pad>\"}";
    struct err e = {0};
    struct tokenizer *tk =
        open_with(state, config, (struct tokenizer_options){.vocab_size = 5}, &e);

    assert_non_null(tk);
    assert_int_equal(tokenizer_id(tk, "<pad>"), 4);
    assert_int_equal(tokenizer_size(tk), 5);
    assert_non_null(strstr(tokenizer_notes(tk),
                           "tokens that stand only beside tokenizer.json: 1; the "
                           "first: \"<pad>\", which is 4\n"));
    assert_non_null(strstr(tokenizer_notes(tk),
                           "members of tokenizer.json that are not used: 1; the "
                           "first: \"truncation\"\n"));
    tokenizer_free(tk);
    tk = open_with(state, config, (struct tokenizer_options){.vocab_size = 4}, &e);
    assert_non_null(tk);
    assert_int_equal(tokenizer_id(tk, "<pad>"), -1);
    assert_int_equal(tokenizer_size(tk), 4);
    assert_non_null(strstr(tokenizer_notes(tk), "left out for want of a row in the model: 1; "
                                                "the first: \"<pad>\", which would be 4\n"));
    tokenizer_free(tk);
}

/* A class that does not fit the vocabulary is refused. */
static void test_other_kind(void **state)
{
    struct err e = {0};
    struct tokenizer *tk =
        open_with(state, "{}", (struct tokenizer_options){.model_type = "qwen2"}, &e);

    assert_non_null(tk);
    assert_non_null(
        strstr(tokenizer_notes(tk),
               "tokenizer.json as it is (it is not a vocabulary for a Qwen2Tokenizer)"));
    tokenizer_free(tk);
    put_file(
        state, "tokenizer.json",
        "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"decoder\":{\"type\":\"ByteLevel\"}}");
    assert_null(tokenizer_open(tmpdir_path(state, "."),
                               &(struct tokenizer_options){.form = TOKENIZER_SENTENCEPIECE}, &e));
    assert_non_null(strstr(e.msg, "/tokenizer.json:1:1: is ByteLevel, which model.tokenizer_form"));
}

static void test_bad_config(void **state)
{
    static const struct {
        const char *config, *message;
    } cases[] = {
        {"[]", ":1:1: the whole must be an object"},
        {"{\"legacy\": 1,}", ":1:13: a trailing comma"},
        {"{\"legacy\": 1}", ":1:12: \"legacy\" must be true or false"},
        {"{\n \"tokenizer_class\": 7}", ":2:21: \"tokenizer_class\" must be a string"},
        {"{\"added_tokens_decoder\": []}", ":1:26: \"added_tokens_decoder\" must be an object"},
        {"{\"added_tokens_decoder\": {\"x\": {\"content\": \"y\"}}}",
         ":1:32: the key \"x\" is not a token's id"},
        {"{\"added_tokens_decoder\": {\"5\": {}}}", ":1:32: an added token needs a \"content\""},
        {"{\"pad_token\": 5}", ":1:15: an added token needs a \"content\""},
        {"{\"add_bos_token\": \"no\"}", ":1:19: \"add_bos_token\" must be true or false"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};

        assert_null(open_with(state, cases[i].config, (struct tokenizer_options){0}, &e));
        if (!strstr(e.msg, cases[i].message) || !strstr(e.msg, "/tokenizer_config.json:"))
            fail_msg("wanted: %s\n  found: %s", cases[i].message, e.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_forms),
        tmpdir_test(test_rows),
        tmpdir_test(test_other_kind),
        tmpdir_test(test_bad_config),
    };

    return cmocka_run_group_tests_name("tokenizer_form", tests, NULL, NULL);
}
