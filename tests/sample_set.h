/* sample_set.h - a data set in a test's directory, opened with a small tokenizer, and its samples
 * as readable text. Include after cmocka's headers. */
#ifndef TESTS_SAMPLE_SET_H
#define TESTS_SAMPLE_SET_H

#include "data/dataset.h"
#include "tests/tmpdir.h"

#define PLACES 4 /* per image, here */

/* A pair of turns, and samples with and without a valid picture. */
#define ASK(q, a) "{\"from\":\"human\",\"value\":\"" q "\"},{\"from\":\"gpt\",\"value\":\"" a "\"}"
#define SEEN(turns) "{\"image\":\"a.png\",\"conversations\":[" turns "]}"
#define TOLD(turns) "{\"conversations\":[" turns "]}"

struct set {
    int64_t places; /* tokens of a picture: PLACES unless changed */
    struct dataset d;
    struct dataset_options o;
    struct tokenizer *tk;
};

static inline void must(bool ok, const struct err *e)
{
    if (!ok) fail_msg("%s", e->msg);
}

static inline bool set_shape(const void *arg, struct picture_shape *s, struct err *e)
{
    (void)e;
    s->tokens = *(const int64_t *)arg;
    return true;
}

/* The options of a model with images; and a valid picture, a.png. */
static inline void set_init(struct set *t, void *const *state)
{
    struct err e;
    size_t len;
    char *png = slurp("tests/data/image/gray1.png", &len);

    spill(tmpdir_path(state, "a.png"), png, len);
    free(png);
    memset(t, 0, sizeof *t);
    t->places = PLACES;
    t->tk = tokenizer_load("tests/data/tokenizer/metaspace.json", &e);
    must(t->tk, &e);
    t->o = (struct dataset_options){.tokenizer = t->tk,
                                    .chat = template_find("vicuna", &e),
                                    .pictures = {.id = tokenizer_id(t->tk, "<image>"),
                                                 .around = {-1, -1},
                                                 .rule = {set_shape, &t->places}},
                                    .max_length = 200,
                                    .limited_by = "data.max_length"};
    assert_true(t->o.chat && t->o.pictures.id > 0);
}

static inline bool set_open_n(struct set *t, void *const *state, const char *json, size_t n,
                              struct err *e)
{
    struct dataset_source source = {.path = tmpdir_path(state, "set.json")};

    spill(source.path, json, n);
    return dataset_open(&t->d, &source, 1, &t->o, e);
}

static inline bool set_open(struct set *t, void *const *state, const char *json, struct err *e)
{
    return set_open_n(t, state, json, strlen(json), e);
}

static inline void set_close(struct set *t)
{
    dataset_close(&t->d);
    tokenizer_free(t->tk);
}

/* The tokens of a sample as readable text: a blank for the tokenizer's mark, a single "<image>" for
 * all its places, and brackets around what is trained on. */
static inline void show(const struct set *t, const struct sample *s, char *out)
{
    for (int64_t i = 0; i < s->n; i++) {
        const char *piece = tokenizer_piece(t->tk, s->ids[i]);
        unsigned byte;
        int places = 0;

        assert_int_equal(s->kind[i], s->ids[i] == t->o.pictures.id ? IMAGE : TEXT);
        if (s->trained[i] && (i == 0 || !s->trained[i - 1])) *out++ = '[';
        for (const char *p = piece; *p; p++) {
            if (sscanf(p, "<0x%02X>", &byte) == 1) {
                *out++ = (char)byte;
                break;
            }
            *out++ = strncmp(p, "▁", 3) == 0 ? ' ' : *p;
            if (out[-1] == ' ') p += 2;
        }
        while (s->ids[i] == t->o.pictures.id && ++places < PLACES)
            assert_int_equal(s->ids[++i], t->o.pictures.id);
        if (s->trained[i] && (i + 1 == s->n || !s->trained[i + 1])) *out++ = ']';
    }
    *out = '\0';
}

/* Opens one sample and compares its tokens with `want`. Like Llama 2's file, this tokenizer puts a
 * blank before the text and after each special token in it; its own </s>, which the file asks for,
 * comes last and is not trained on. */
static inline void expect_tokens(void *const *state, const char *json, const char *want)
{
    struct set t;
    struct sample s;
    struct err e = {0};
    char got[1000];

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    if (t.d.n != 1) fail_msg("%s: left out", json);
    must(dataset_sample(&t.d, 0, &s, &e), &e);
    show(&t, &s, got);
    assert_string_equal(got, want);
    assert_int_equal(s.n, t.d.entries[0].tokens);
    sample_free(&s);
    set_close(&t);
}

#endif
