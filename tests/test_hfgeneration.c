/* test_hfgeneration.c - generation_config.json: its end tokens, and which parts are
 * reported as unused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/config/hfgeneration.h"
#include "tests/tmpdir.h"

#define LLAMA(rest) "{\"model_type\":\"llama\"," rest "}"

static void parse(struct hf_config *c, const char *text)
{
    struct err e = {0};

    if (!hf_config_parse(c, text, strlen(text), "c.json", &e)) fail_msg("%s: %s", text, e.msg);
}

static void write_generation(const char *dir, const char *text)
{
    char path[600];

    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    spill(path, text, strlen(text));
}

static void test_generation(void **state)
{
    static const struct {
        const char *json;
        int n;
        int64_t id;
        const char *unused;
    } cases[] = {
        {"{\"eos_token_id\":7,\"transformers_version\":\"5.24.0\"}", 1, 7, NULL},
        {"{\"eos_token_id\":[7,-1,9],\"_from_model_config\":true,\"bos_token_id\":1}", 2, 7, NULL},
        {"{\"eos_token_id\":null}", 0, 0, NULL},
        {"{\"eos_token_id\":-1}", 0, 0, "eos_token_id -1"},
        {"{}", 0, 0, NULL},
        /* a published one, whose penalty transformers applies to greedy answers too */
        {"{\"bos_token_id\":1,\"pad_token_id\":1,\"do_sample\":true,\"eos_token_id\":[7,1],"
         "\"repetition_penalty\":1.05,\"temperature\":0.7,\"top_p\":0.8,\"top_k\":20}",
         2, 7, "do_sample true, repetition_penalty 1.05"},
        {"{\"repetition_penalty\":1.0,\"num_beams\":1,\"no_repeat_ngram_size\":0,\"min_length\":0,"
         "\"do_sample\":false,\"max_length\":4096,\"suppress_tokens\":[]}",
         0, 0, NULL},
        {"{\"num_beams\":4,\"no_repeat_ngram_size\":3,\"bad_words_ids\":[[5]],\"suppress_tokens\":["
         "1],"
         "\"forced_eos_token_id\":2,\"min_new_tokens\":5,\"stop_strings\":\"x\"}",
         0, 0,
         "num_beams 4, no_repeat_ngram_size 3, bad_words_ids, suppress_tokens, forced_eos_token_id "
         "2, "
         "min_new_tokens 5, stop_strings \"x\""},
    };
    struct hf_generation g;
    struct hf_config c;
    struct err e;

    parse(&c, LLAMA("\"vocab_size\":10"));
    assert_true(hf_generation_read(&g, *state, &c, &e)); /* no file */
    assert_null(g.path);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_generation(*state, cases[i].json);
        if (!hf_generation_read(&g, *state, &c, &e)) fail_msg("%s: %s", cases[i].json, e.msg);
        assert_int_equal(g.eos_count, cases[i].n);
        if (cases[i].n) assert_int_equal(g.eos_token_id[0], cases[i].id);
        if (!cases[i].unused != !g.unused || (g.unused && strcmp(g.unused, cases[i].unused) != 0))
            fail_msg("%s: %s", cases[i].json, g.unused ? g.unused : "nothing");
        hf_generation_free(&g);
    }
    hf_config_free(&c);
}

static void test_generation_refused(void **state)
{
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"{\"eos_token_id\":10}",
         "generation_config.json:1:17: eos_token_id is 10; allowed: a token"},
        {"{\n \"eos_token_id\": [1, \"2\"]}",
         "generation_config.json:2:18: eos_token_id is [1,\"2\"]"},
        {"{\"eos_token_id\":1,}", "generation_config.json:1:18: a trailing comma"},
        {"[1]", "generation_config.json:1:1: is not a JSON object"},
        {"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"},
    };
    struct hf_generation g;
    struct hf_config c;
    struct err e;

    parse(&c, LLAMA("\"vocab_size\":10"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_generation(*state, cases[i].json);
        assert_false(hf_generation_read(&g, *state, &c, &e));
        if (!strstr(e.msg, cases[i].says)) fail_msg("%s: %s", cases[i].json, e.msg);
        assert_null(g.path);
    }
    hf_config_free(&c);
}

/* A directory of changed tensors has no such file itself: that of its base applies. */
static void test_generation_of_base(void **state)
{
    struct hf_generation g;
    struct hf_config c;
    char json[900];
    struct err e;

    write_generation(*state, "{\"eos_token_id\":5}");
    snprintf(json, sizeof json, LLAMA("\"mha2mla\":{\"base\":\"%s\"}"), (const char *)*state);
    parse(&c, json);
    assert_true(hf_generation_read(&g, "/nowhere", &c, &e));
    assert_int_equal(g.eos_count, 1);
    hf_generation_free(&g);
    hf_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_generation),
        tmpdir_test(test_generation_refused),
        tmpdir_test(test_generation_of_base),
    };

    return cmocka_run_group_tests_name("hfgeneration", tests, NULL, NULL);
}
