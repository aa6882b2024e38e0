/* test_given.c - what a model's own files determine for a run: its end tokens, a window that texts
 * must fit in, and which of their settings are not used. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"
#include "train/given.h"

#include <errno.h>

#include "tests/printed.h"
#include "tests/tiny_run.h"

#define MODEL(rest)                                                                                \
    "{\"model_type\":\"qwen2\",\"num_hidden_layers\":2,\"num_attention_heads\":2,"                 \
    "\"num_key_value_heads\":2,\"hidden_size\":8,\"vocab_size\":2048,\"eos_token_id\":[5,6]" rest  \
    "}"
#define WINDOW(size)                                                                               \
    MODEL(",\"max_window_layers\":1,\"use_sliding_window\":true,\"sliding_window\":" size)

/* Two questions: 10 characters and 64. */
static const char texts[] =
    "[{\"id\":\"short\",\"conversations\":[{\"from\":\"human\",\"value\":\"Say two.\"},"
    "{\"from\":\"gpt\",\"value\":\"two\"}]},"
    "{\"id\":\"long\",\"conversations\":[{\"from\":\"human\",\"value\":\"Say something that is "
    "quite a "
    "bit longer than just a word, please.\"},{\"from\":\"gpt\",\"value\":\"yes\"}]}]";

/* Opens the data of DIR/run for a model with these settings in DIR/m; returns what was
 * printed in new memory. */
static bool open_data(void *const *state, struct run *r, struct hf_config *cfg, const char *config,
                      const char *const *more, char **said, struct err *e)
{
    const char *path;
    char model[1300];
    const char *sets[8] = {model};
    int was, n = 1;
    bool ok;

    for (; *more; more++)
        sets[n++] = *more;
    snprintf(model, sizeof model, "model.path=%s/m", (const char *)*state);
    tiny_run(r, state, sets);
    spill(tmpdir_path(state, "train.json"), texts, strlen(texts));
    assert_true(mkdir(tmpdir_path(state, "m"), 0777) == 0 || errno == EEXIST);
    path = tmpdir_path(state, "m/config.json");
    spill(path, config, strlen(config));
    if (!hf_config_read(cfg, path, e)) fail_msg("%s", e->msg);
    was = printed_begin(state);
    ok = run_open_data(r, cfg, e);
    *said = printed_end(state, was);
    return ok;
}

static void close_data(struct run *r, struct hf_config *cfg, char *said)
{
    free(said);
    hf_config_free(cfg);
    run_close(r);
}

static const char *const nothing[] = {NULL};

static bool stops_at(const struct run *r, int32_t id)
{
    for (int64_t i = 0; i < r->n_stop; i++)
        if (r->stop[i] == id) return true;
    return false;
}

/* The template's end token, config.json's and generation_config.json's. */
static void test_stops(void **state)
{
    struct hf_config cfg;
    struct run r;
    struct err e;
    char *said;

    if (!open_data(state, &r, &cfg, MODEL(""), nothing, &said, &e)) fail_msg("%s", e.msg);
    assert_int_equal(r.n_stop, 3);
    assert_true(stops_at(&r, 5) && stops_at(&r, 6) && !stops_at(&r, 40));
    assert_null(strstr(said, "not used"));
    close_data(&r, &cfg, said);

    spill(tmpdir_path(state, "m/generation_config.json"), "{\"eos_token_id\":[40,5]}", 23);
    if (!open_data(state, &r, &cfg, MODEL(""), nothing, &said, &e)) fail_msg("%s", e.msg);
    assert_true(stops_at(&r, 5) && stops_at(&r, 6) && stops_at(&r, 40));
    assert_null(strstr(said, "not used"));
    close_data(&r, &cfg, said);
}

/* Each once, by its name. */
static void test_says_what_is_not_used(void **state)
{
    static const char generation[] =
        "{\"do_sample\":true,\"top_p\":0.8,\"repetition_penalty\":1.05}";
    struct hf_config cfg;
    struct run r;
    struct err e;
    char *said;

    assert_int_equal(mkdir(tmpdir_path(state, "m"), 0777), 0);
    spill(tmpdir_path(state, "m/generation_config.json"), generation, strlen(generation));
    if (!open_data(state, &r, &cfg,
                   MODEL(",\"attention_dropout\":0.25,\"softcap\":30,\"use_cache\":true"), nothing,
                   &said, &e))
        fail_msg("%s", e.msg);
    if (!strstr(said, "/m/config.json: attention_dropout is 0.25: not applied, training here drops "
                      "nothing\n") ||
        !strstr(said, "/m/config.json: not used: softcap\n") ||
        !strstr(said, "/m/generation_config.json: not used, answers are greedy: do_sample true, "
                      "repetition_penalty 1.05\n"))
        fail_msg("%s", said);
    close_data(&r, &cfg, said);
}

/* What the model's files say and is not so here, a line each; nothing where they agree. */
static void test_says_what_contradicts(void **state)
{
    static const char clip[] = ",\"vision_config\":{\"hidden_size\":8,\"intermediate_size\":8,"
                               "\"num_hidden_layers\":2,\"num_attention_heads\":2,"
                               "\"image_size\":8,\"patch_size\":4}";
    static const struct {
        const char *file, *text, *said;
    } rows[] = {
        {"m/config.json", "", NULL},
        {"m/config.json", ",\"architectures\":[\"LlavaForConditionalGeneration\"]", NULL},
        {"m/config.json", ",\"architectures\":[\"Mha2mlaLlavaForConditionalGeneration\"]", NULL},
        {"m/config.json", ",\"image_seq_length\":4", NULL},
        {"m/config.json", ",\"architectures\":[\"LlavaNextForConditionalGeneration\"]",
         "architectures is \"LlavaNextForConditionalGeneration\": not used; model_type \"llava\" "
         "is read as LlavaForConditionalGeneration\n"},
        {"m/config.json", ",\"image_seq_length\":576",
         "image_seq_length is 576: not used; the tower makes 4 tokens of a picture\n"},
        {"tok/tokenizer_config.json", "{\"chat_template\":\"x\"}",
         "/tok/tokenizer_config.json: not used: the model's chat template; data.template is "
         "vicuna\n"},
        {"m/chat_template.jinja", "x", "/m/chat_template.jinja: not used: the model's chat "},
        {"m/processor_config.json",
         "{\"chat_template\":\"x\",\"image_processor\":{\"size\":{\"shortest_edge\":8},"
         "\"crop_size\":8}}",
         "/m/processor_config.json: not used: the model's chat template"},
        {"m/adapter_config.json", "{}", "/m/adapter_config.json: not used: an adapter (PEFT)"},
        {"m/generation_config.json", "{\"eos_token_id\":-1}", "eos_token_id -1\n"},
    };
    static const char own[] = "{\"size\":{\"shortest_edge\":8},\"crop_size\":8}";

    assert_int_equal(mkdir(tmpdir_path(state, "m"), 0777), 0);
    assert_int_equal(mkdir(tmpdir_path(state, "tok"), 0777), 0);
    spill(tmpdir_path(state, "m/preprocessor_config.json"), own, strlen(own));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool config = strcmp(rows[i].file, "m/config.json") == 0;
        struct hf_config cfg;
        char text[1200], *said;
        struct run r;
        struct err e;

        snprintf(text, sizeof text,
                 "{\"model_type\":\"llava\",\"image_token_index\":520,\"text_config\":" MODEL(
                     "") "%s%s}",
                 clip, config ? rows[i].text : "");
        if (!config) spill(tmpdir_path(state, rows[i].file), rows[i].text, strlen(rows[i].text));
        if (!open_data(state, &r, &cfg, text, nothing, &said, &e)) fail_msg("%s", e.msg);
        if (rows[i].said ? !strstr(said, rows[i].said) : strstr(said, "not used") != NULL)
            fail_msg("%s %s: %s", rows[i].file, rows[i].text, said);
        close_data(&r, &cfg, said);
        if (!config) unlink(tmpdir_path(state, rows[i].file));
    }
}

/* The window only matters if a text has more tokens. */
static void test_window(void **state)
{
    static const char *const few[] = {"evaluate.max_new_tokens=1", NULL};
    static const char *const many[] = {"evaluate.max_new_tokens=500", NULL};
    struct hf_config cfg;
    struct run r;
    struct err e;
    char *said, window[400], find[200];
    int64_t longest;

    if (!open_data(state, &r, &cfg, MODEL(""), nothing, &said, &e)) fail_msg("%s", e.msg);
    longest = r.train.longest;
    close_data(&r, &cfg, said);

    snprintf(window, sizeof window, WINDOW("%d"), (int)longest);
    if (!open_data(state, &r, &cfg, window, few, &said, &e)) fail_msg("%s", e.msg);
    close_data(&r, &cfg, said);

    snprintf(window, sizeof window, WINDOW("%d"), (int)longest - 1);
    assert_false(open_data(state, &r, &cfg, window, few, &said, &e));
    snprintf(find, sizeof find,
             "config.json:1:%d: sliding_window is %d, but data.train's longest sample comes to %d "
             "tokens: ",
             (int)(strstr(window, "\"sliding_window\":") - window) + 18, (int)longest - 1,
             (int)longest);
    if (!strstr(e.msg, find)) fail_msg("%s, not %s", e.msg, find);
    close_data(&r, &cfg, said);

    /* answers may grow beyond it, if answers are generated at all */
    snprintf(window, sizeof window, WINDOW("%d"), (int)longest + 400);
    assert_false(open_data(state, &r, &cfg, window, many, &said, &e));
    assert_non_null(strstr(e.msg, "but a question of train.json with its answer comes to "));
    assert_non_null(strstr(e.msg, "evaluate.max_new_tokens"));
    close_data(&r, &cfg, said);
    static const char *const scored[] = {"evaluate.max_new_tokens=500", "evaluate.score=tokens",
                                         NULL};
    if (!open_data(state, &r, &cfg, window, scored, &said, &e)) fail_msg("%s", e.msg);
    close_data(&r, &cfg, said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_stops),
        tmpdir_test(test_says_what_is_not_used),
        tmpdir_test(test_says_what_contradicts),
        tmpdir_test(test_window),
    };

    return cmocka_run_group_tests_name("given", tests, NULL, NULL);
}
