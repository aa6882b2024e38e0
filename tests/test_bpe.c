/* test_bpe.c - mha2mla-data tokenizer: the merges that it finds, the files that it writes, and what
 * it refuses. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/tokenizer/tokenizer.h"
#include "datasets/bpe.h"
#include "datasets/tool.h"
#include "tests/tmpdir.h"
#include "tests/tool_run.h"

/* The textbook's words; ties go to the smaller left token, then the smaller right one. */
static void test_bpe_merges(void **state)
{
    static const struct {
        const char *word;
        int count;
    } words[] = {{"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}};
    static const struct bpe_merge want[] = {{'e', 's'}, {256, 't'}, {'l', 'o'}, {258, 'w'},
                                            {'e', 'w'}, {'n', 260}, {261, 257}, {'d', 257}};
    enum { MERGES = sizeof want / sizeof want[0] };
    struct bpe b = {0};
    int32_t id[256];
    struct err e;

    (void)state;
    for (int i = 0; i < 256; i++)
        id[i] = i;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        for (int k = 0; k < words[i].count; k++)
            assert_true(bpe_add(&b, words[i].word, strlen(words[i].word), &e));
    assert_int_equal(b.words, 4);
    assert_true(bpe_learn(&b, id, 256, MERGES, &e));
    assert_int_equal(b.merges, MERGES);
    assert_memory_equal(b.merge, want, sizeof want);
    bpe_free(&b);
}

/* What a token stands for, for tokens up to 600. */
static size_t spell(const struct bpe *b, int32_t token, char *to)
{
    if (token < 256) {
        *to = (char)token;
        return 1;
    }
    size_t n = spell(b, b->merge[token - 256].left, to);
    return n + spell(b, b->merge[token - 256].right, to + n);
}

/* Words of two letters, where pairs overlap: counts stay exact (merging an absent pair would spell
 * a text that no word has), and no two tokens are spelled alike. */
static void test_bpe_overlaps(void **state)
{
    enum { MERGES = 300, LONGEST = 40 };
    static char text[MERGES][LONGEST + 1];
    struct bpe b = {0};
    int32_t id[256];
    struct rng r;
    struct err e;

    (void)state;
    for (int i = 0; i < 256; i++)
        id[i] = i;
    rng_seed(&r, 5, 0);
    for (int i = 0; i < 300; i++) {
        char word[LONGEST];
        size_t len = 1 + (size_t)rng_below(&r, LONGEST);
        for (size_t k = 0; k < len; k++)
            word[k] = rng_below(&r, 4) ? 'a' : 'b';
        assert_true(bpe_add(&b, word, len, &e));
    }
    assert_true(bpe_learn(&b, id, 256, MERGES, &e));
    assert_int_equal(b.merges, MERGES);
    for (int i = 0; i < MERGES; i++) {
        bool found = false;
        size_t len = spell(&b, 256 + i, text[i]);
        for (size_t w = 0; w < b.words; w++)
            found = found || memmem(b.word[w].bytes, b.word[w].len, text[i], len);
        assert_true(found);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(text[i], text[k]);
    }
    bpe_free(&b);
}

static const char talk[] =
    "[{\"id\":\"0\",\"image\":\"a.png\",\"conversations\":["
    "{\"from\":\"human\",\"value\":\"<image>\\nWhere is the red star?\"},"
    "{\"from\":\"gpt\",\"value\":\"top left, dans l'\xc3\xa9t\xc3\xa9 </s> 2024\"},"
    "{\"from\":\"human\",\"value\":\"Where is the red ring?\"},"
    "{\"from\":\"gpt\",\"value\":\"top right\"}]}]";

/* The trainer's own reader reads the result, and every word is a single token. */
static void test_tokenizer_files(void **state)
{
    static const char text[] = "USER: <image>\nWhere is the red star? ASSISTANT: top left</s>";
    static const char *const want[] = {"<s>",
                                       "USER",
                                       ":",
                                       "\304\240",
                                       "<image>",
                                       "\304\212",
                                       "Where",
                                       "\304\240is",
                                       "\304\240the",
                                       "\304\240red",
                                       "\304\240star",
                                       "?",
                                       "\304\240ASSISTANT",
                                       ":",
                                       "\304\240top",
                                       "\304\240left",
                                       "</s>"};
    enum { N = sizeof want / sizeof want[0] };
    struct tokens out = {0};
    struct err e;

    spill(tmpdir_path(state, "talk.json"), talk, strlen(talk));
    assert_true(run_in(state, &tool_tokenizer, &e, "--out|@/tok|--vocab|512|@/talk.json"));
    struct tokenizer *tk = tokenizer_load(tmpdir_path(state, "tok/tokenizer.json"), &e);
    assert_non_null(tk);
    assert_true(tokenizer_size(tk) > 261 && tokenizer_size(tk) < 512);
    assert_int_equal(tokenizer_id(tk, "<s>"), 1);
    assert_int_equal(tokenizer_id(tk, "</s>"), 2);
    int32_t image = tokenizer_id(tk, "<image>");
    char *shown = tokenizer_decode(tk, &image, 1, true, NULL, &e);
    assert_string_equal(shown, ""); /* it is special */
    free(shown);
    assert_true(tokenizer_encode(tk, NULL, text, strlen(text), true, &out, &e));
    assert_int_equal(out.n, N);
    for (int i = 0; i < N; i++)
        assert_string_equal(tokenizer_piece(tk, out.v[i].id), want[i]);
    tokens_free(&out);
    tokenizer_free(tk);
    cJSON *map = read_json(tmpdir_path(state, "tok/special_tokens_map.json"));
    assert_string_equal(text_of(map, "eos_token"), "</s>");
    cJSON_Delete(map);
    cJSON *config = read_json(tmpdir_path(state, "tok/tokenizer_config.json"));
    assert_string_equal(text_of(config, "tokenizer_class"), "PreTrainedTokenizerFast");
    cJSON_Delete(config);
    /* a full vocabulary keeps to its size */
    assert_true(run_in(state, &tool_tokenizer, &e, "--out|@/tok|--vocab|270|@/talk.json"));
    tk = tokenizer_load(tmpdir_path(state, "tok/tokenizer.json"), &e);
    assert_non_null(tk);
    assert_int_equal(tokenizer_size(tk), 270);
    tokenizer_free(tk);
}

static void test_tokenizer_bad_input(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "1:1: the file is empty"},
        {"[{\"conversations\":[", "1:2: the file ends inside the value"},
        {"{}", "1:1: no turns under \"conversations\""},
        {"[5]", "1:2: a sample is an object"},
        {"[{\"text\":\"a\"},\n{\"conversations\":{\"a\":1}}]", "2:18: \"conversations\" is not a"},
        {"[{\"conversations\":[3]}]", "1:20: a turn needs \"from\""},
        {"[{\"conversations\":[{\"from\":\"dog\",\"value\":\"x\"}]}]", "1:28: \"from\" is \"dog\""},
        {"[{\"conversations\":[{\"from\":\"gpt\",\"value\":\"\xff\xfe\"}]}]",
         "1:43: a byte that is"},
        {"[{\"text\":\"\\ud800\"}]", "1:11: lone surrogate \\ud800"},
    };
    struct err e;

    assert_false(run_in(state, &tool_tokenizer, &e, "--out|@/tok|@/none.json"));
    assert_error(&e, "none.json");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spill(tmpdir_path(state, "bad.json"), cases[i].text, strlen(cases[i].text));
        assert_false(run_in(state, &tool_tokenizer, &e, "--out|@/tok|@/bad.json"));
        assert_error(&e, "bad.json:");
        assert_error(&e, cases[i].part);
    }
    assert_false(is_there(tmpdir_path(state, "tok/tokenizer.json")));
    /* an input that would be replaced */
    assert_int_equal(mkdir(tmpdir_path(state, "own"), 0700), 0);
    spill(tmpdir_path(state, "own/tokenizer.json"), talk, strlen(talk));
    assert_false(run_in(state, &tool_tokenizer, &e, "--out|@/own|@/own/tokenizer.json"));
    assert_error(&e, "own/tokenizer.json: would be replaced by what is made of it");
    /* without any words, the bytes are still there */
    spill(tmpdir_path(state, "bad.json"), "[]", 2);
    assert_true(run_in(state, &tool_tokenizer, &e, "--out|@/tok|@/bad.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpe_merges), cmocka_unit_test(test_bpe_overlaps),
        tmpdir_test(test_tokenizer_files), tmpdir_test(test_tokenizer_bad_input)};

    return cmocka_run_group_tests_name("bpe", tests, NULL, NULL);
}
