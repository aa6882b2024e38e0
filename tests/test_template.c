/* test_template.c - conversations against the published chat templates (the golden file's script is
 * beside it), and the rules that hold for every template. If MHA2MLA_REAL_DATA names the directory
 * of data/fetch-real-data.sh, also what is trained on with its tokenizers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json/jsonc.h"
#include "data/dataset.h"
#include "tests/tmpdir.h"

#define MESSAGES_MAX 8

static const cJSON *member(const cJSON *json, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(json, key);
}

static size_t read_messages(const cJSON *list, struct message *out)
{
    const cJSON *item;
    size_t n = 0;

    cJSON_ArrayForEach(item, list)
    {
        const char *role = item->child->valuestring;

        assert_true(n < MESSAGES_MAX);
        out[n++] = (struct message){role[0] == 's'   ? ROLE_SYSTEM
                                    : role[0] == 'u' ? ROLE_USER
                                                     : ROLE_ASSISTANT,
                                    item->child->next->valuestring,
                                    strlen(item->child->next->valuestring)};
    }
    return n;
}

/* The messages as a file of one LLaVA sample. */
static void write_sample(const cJSON *messages, const char *path)
{
    static const char *const from[] = {"system", "human", "gpt"};
    cJSON *root = cJSON_CreateArray(), *sample = cJSON_CreateObject();
    cJSON *turns = cJSON_AddArrayToObject(sample, "conversations");
    struct message m[MESSAGES_MAX];
    size_t n = read_messages(messages, m);
    char *text;

    cJSON_AddItemToArray(root, sample);
    for (size_t i = 0; i < n; i++) {
        cJSON *turn = cJSON_CreateObject();

        cJSON_AddStringToObject(turn, "from", from[m[i].role]);
        cJSON_AddStringToObject(turn, "value", m[i].text);
        cJSON_AddItemToArray(turns, turn);
    }
    text = cJSON_PrintUnformatted(root);
    spill(path, text, strlen(text));
    free(text);
    cJSON_Delete(root);
}

/* The tokens of `one` that a data set trains on are the runs listed in `want`; a sample without any
 * is dropped. A mark is a token like any other here: no token has the picture's id. */
static void check_tokens(void *const *state, const cJSON *one, const cJSON *want,
                         const struct tokenizer *tk)
{
    struct err e = {0};
    const cJSON *range = member(want, "trained")->child;
    struct dataset_source source = {.path = tmpdir_path(state, "set.json")};
    struct dataset_options o = {.tokenizer = tk,
                                .chat = template_find(member(one, "template")->valuestring, &e),
                                .pictures = {.id = INT32_MAX, .around = {-1, -1}},
                                .max_length = 1000};
    struct dataset d;
    struct sample s;

    write_sample(member(one, "messages"), source.path);
    if (!dataset_open(&d, &source, 1, &o, &e)) fail_msg("%s", e.msg);
    assert_int_equal(d.n, range != NULL);
    assert_int_equal(d.dropped[DROP_NO_LABELS], range == NULL);
    if (range) {
        if (!dataset_sample(&d, 0, &s, &e)) fail_msg("%s", e.msg);
        assert_int_equal(s.n, member(want, "tokens")->valueint);
        for (int64_t i = 0; i < s.n; i++) {
            while (range && i >= range->child->next->valueint)
                range = range->next;
            if (s.trained[i] != (range && i >= range->child->valueint))
                fail_msg("%s: token %d, %s, is%s trained", s.rendered.text, (int)i,
                         tokenizer_piece(tk, s.ids[i]), s.trained[i] ? "" : " not");
        }
        sample_free(&s);
    }
    dataset_close(&d);
}

static void check_case(const cJSON *one)
{
    struct err e = {0};
    const char *name = member(one, "template")->valuestring;
    const struct chat_template *t = template_find(name, &e);
    const cJSON *range = member(one, "trained")->child;
    struct message m[MESSAGES_MAX];
    size_t n = read_messages(member(one, "messages"), m);
    struct rendered r = {0}, p = {0};

    assert_non_null(t);
    assert_true(template_render(t, m, n, true, &r, &e));
    assert_string_equal(r.text, member(one, "prompt")->valuestring);
    assert_true(template_render(t, m, n, false, &r, &e));
    assert_string_equal(r.text, member(one, "text")->valuestring);
    assert_int_equal(r.len, strlen(r.text));
    assert_int_equal(r.n_trained, cJSON_GetArraySize(member(one, "trained")));
    for (size_t i = 0, k = 0; i < n; i++) {
        if (m[i].role != ROLE_ASSISTANT) continue;
        assert_int_equal(r.trained[k].begin, range->child->valueint);
        assert_int_equal(r.trained[k].end, range->child->next->valueint);
        /* an answer begins where its prompt ends, and ends with the stop token */
        if (i > 0) {
            assert_true(template_render(t, m, i, true, &p, &e));
            assert_int_equal(p.len, r.trained[k].begin);
            assert_memory_equal(p.text, r.text, p.len);
        }
        assert_memory_equal(r.text + r.trained[k].end - strlen(t->stop), t->stop, strlen(t->stop));
        range = range->next;
        k++;
    }
    rendered_free(&r);
    rendered_free(&p);
}

/* The same for a model of which other tokens stand for a picture. */
static void check_expanded(const cJSON *one)
{
    const cJSON *text = cJSON_GetObjectItem(one, "expanded");
    struct err e = {0};
    struct chat_template t;
    struct message m[MESSAGES_MAX];
    size_t n = read_messages(member(one, "messages"), m);
    struct rendered r = {0};

    if (!text) return;
    t = *template_find(member(one, "template")->valuestring, &e);
    t.picture = "<|vision_start|><|image_pad|><|vision_end|>";
    assert_true(template_render(&t, m, n, false, &r, &e));
    assert_string_equal(r.text, text->valuestring);
    assert_true(template_render(&t, m, n, true, &r, &e));
    assert_string_equal(r.text, member(one, "expanded_prompt")->valuestring);
    rendered_free(&r);
}

/* Templates times conversations: those of language models and LLaVA-1.5, and of later families. */
static const struct {
    const char *file;
    int cases;
} files[] = {{"tests/data/template/cases.json", 7 * 14},
             {"tests/data/template/families.json", 4 * 14}};
enum { FILES = sizeof files / sizeof *files };

static void read_cases(struct jsonc *doc, int file)
{
    struct err e = {0};

    if (!jsonc_read(doc, files[file].file, (size_t)1 << 20, &e)) fail_msg("%s", e.msg);
    assert_int_equal(cJSON_GetArraySize(doc->root), files[file].cases);
}

static void test_cases(void **state)
{
    struct jsonc doc = {0};
    const cJSON *one;

    (void)state;
    for (int i = 0; i < FILES; i++) {
        read_cases(&doc, i);
        cJSON_ArrayForEach(one, doc.root)
        {
            check_case(one);
            check_expanded(one);
        }
        jsonc_close(&doc);
    }
}

/* check_tokens on every case, with the tokenizer BEFORE name AFTER, where name is the
 * case's member `key`. */
static void check_all_tokens(void *const *state, int file, const char *key, const char *before,
                             const char *after)
{
    struct jsonc doc = {0};
    struct err e = {0};
    struct tokenizer *tk = NULL;
    const char *loaded = "";
    char path[1000];
    const cJSON *one;

    read_cases(&doc, file);
    cJSON_ArrayForEach(one, doc.root)
    {
        const cJSON *want = member(one, key);
        const char *name = member(want, "tokenizer")->valuestring;

        if (strcmp(name, loaded) != 0) {
            tokenizer_free(tk);
            snprintf(path, sizeof path, "%s%s%s", before, name, after);
            tk = tokenizer_load(path, &e);
            if (!tk) fail_msg("%s", e.msg);
            loaded = name;
        }
        check_tokens(state, one, want, tk);
    }
    tokenizer_free(tk);
    jsonc_close(&doc);
}

static void test_tokens(void **state)
{
    for (int i = 0; i < FILES; i++)
        check_all_tokens(state, i, "small", "tests/data/tokenizer/", ".json");
}

static void test_real_tokens(void **state)
{
    const char *root = getenv("MHA2MLA_REAL_DATA");
    char before[900];

    if (!root) skip();
    snprintf(before, sizeof before, "%s/tokenizers/", root);
    for (int i = 0; i < FILES; i++)
        check_all_tokens(state, i, "real", before, "/tokenizer.json");
}

static void test_find(void **state)
{
    struct err e = {0};

    (void)state;
    assert_null(template_find("alpaca", &e));
    assert_string_equal(e.msg, "no chat template is named \"alpaca\"; there are vicuna, vicuna_v1, "
                               "vicuna_v16, mistral, llama3, llama3_llava, chatml, smollm2, "
                               "qwen2_vl, plain");
}

/* A text that begins with the BOS must not get a second one. */
static void test_add_special(void **state)
{
    const struct message m = {ROLE_USER, "one", 3};
    struct rendered r = {0};
    struct err e = {0};

    (void)state;
    assert_true(template_render(template_find("llama3", &e), &m, 1, false, &r, &e));
    assert_false(r.add_special);
    assert_true(template_render(template_find("vicuna", &e), &m, 1, false, &r, &e));
    assert_true(r.add_special);
    assert_true(template_plain_text("one", 3, &r, &e));
    assert_true(r.add_special);
    rendered_free(&r);
}

/* tests/data's tokenizer has <s>, </s>, <|im_start|> and <|im_end|>, but none of Llama 3's. */
static void test_check(void **state)
{
    static const struct {
        const char *name, *lacks;
    } cases[] = {{"vicuna", NULL},
                 {"vicuna_v1", NULL},
                 {"vicuna_v16", NULL},
                 {"mistral", NULL},
                 {"llama3", "<|begin_of_text|>"},
                 {"llama3_llava", "<|begin_of_text|>"},
                 {"chatml", NULL},
                 {"smollm2", NULL},
                 {"qwen2_vl", NULL},
                 {"plain", NULL}};
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load("tests/data/tokenizer/metaspace.json", &e);
    char want[200];

    (void)state;
    assert_non_null(tk);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct chat_template *t = template_find(cases[i].name, &e);
        assert_true(template_check(t, tk, &e) == !cases[i].lacks);
        snprintf(want, sizeof want, "the tokenizer has no token \"%s\", which the chat template %s",
                 cases[i].lacks, cases[i].name);
        if (cases[i].lacks) assert_non_null(strstr(e.msg, want));
    }
    tokenizer_free(tk);
}

static void test_refused(void **state)
{
    struct err e = {0};
    const struct chat_template *t = template_find("chatml", &e);
    struct message late[] = {{ROLE_USER, "a", 1}, {ROLE_SYSTEM, "b", 1}},
                   bytes[] = {{ROLE_USER, "a\xff", 2}}, moved[] = {{ROLE_USER, "\xff<image>", 8}};
    struct rendered r = {0};

    (void)state;
    assert_false(template_render(t, late, 2, false, &r, &e));
    assert_string_equal(e.msg, "message 2: a system message may only be the first one");
    assert_false(template_render(t, bytes, 1, false, &r, &e));
    assert_string_equal(e.msg, "message 1: text is not UTF-8 at byte 1");
    assert_false(template_render(t, moved, 1, false, &r, &e));
    assert_string_equal(e.msg, "message 1: text is not UTF-8 at byte 0");
    rendered_free(&r);
}

/* A zero is a character like any other, everywhere; marks after it are found. */
static void test_zeros(void **state)
{
    static const char user[] = "a\0b<image>\0", answer[] = "\0c\0";
    const struct message m[] = {{ROLE_SYSTEM, "\0", 1},
                                {ROLE_USER, user, sizeof user - 1},
                                {ROLE_ASSISTANT, answer, sizeof answer - 1}};
    static const struct {
        const char *name, *text;
        size_t len, begin, end;
    } want[] = {
#define TEXT(s) s, sizeof s - 1
        {"vicuna", TEXT("\0 USER: <image>\na\0b\0 ASSISTANT: \0c\0</s>"), 31, 39},
        {"qwen2_vl",
         TEXT("<|im_start|>system\n\0<|im_end|>\n<|im_start|>user\na\0b<image>\0<|im_end|>\n"
              "<|im_start|>assistant\n\0c\0<|im_end|>\n"),
         92, 105},
        {"plain", TEXT("\0<image>\0c\0\n"), 8, 12},
#undef TEXT
    };
    struct rendered r = {0};
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(template_render(template_find(want[i].name, &e), m, 3, false, &r, &e));
        assert_int_equal(r.len, want[i].len);
        assert_memory_equal(r.text, want[i].text, r.len);
        assert_int_equal(r.trained[0].begin, want[i].begin);
        assert_int_equal(r.trained[0].end, want[i].end);
    }
    assert_true(template_plain_text("a\0b", 3, &r, &e));
    assert_int_equal(r.len, 3);
    assert_memory_equal(r.text, "a\0b", 3);
    rendered_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),       tmpdir_test(test_tokens),
        tmpdir_test(test_real_tokens),      cmocka_unit_test(test_find),
        cmocka_unit_test(test_add_special), cmocka_unit_test(test_check),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_zeros),
    };

    return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
