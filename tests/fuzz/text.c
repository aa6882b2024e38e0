/* text.c - tokenizers, templates and samples. */
#include "data/dataset.h"
#include "data/template.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/fuzz/target.h"

#include <stdlib.h>
#include <string.h>

/* Ids are in range, token ranges are within the text and in order, and decoding accepts the ids. */
static void encode(const struct tokenizer *tk, const char *text, size_t n)
{
    struct tokens t = {0};
    int32_t *ids;
    struct err e = {0};
    size_t len;

    for (int special = 0; special < 2; special++) {
        t.n = 0;
        if (!tokenizer_encode(tk, NULL, text, n, special, &t, &e)) {
            fuzz_failed(&e);
            break;
        }
        ids = malloc((t.n + 1) * sizeof *ids);
        CHECK(ids);
        for (size_t i = 0; i < t.n; i++) {
            CHECK(t.v[i].id >= 0 && t.v[i].id < tokenizer_size(tk));
            CHECK(0 <= t.v[i].begin && t.v[i].begin <= t.v[i].end && (size_t)t.v[i].end <= n);
            ids[i] = t.v[i].id;
        }
        char *back = tokenizer_decode(tk, ids, t.n, special, &len, &e);
        CHECK(back && back[len] == '\0');
        free(back);
        free(ids);
    }
    tokens_free(&t);
}

/* The file, then a byte that cannot occur in text (0xff), then a text. */
void fuzz_tokenizer(const uint8_t *data, size_t n)
{
    static const char usual[] = "USER: <image>\nWhat is  it? <s>a b\xc3\xa9 \xf0\x9f\x98\x80";
    const uint8_t *end = memchr(data, 0xff, n);
    size_t len = end ? (size_t)(end - data) : n;
    struct err e = {0};
    struct tokenizer *tk = tokenizer_load(fuzz_file("tokenizer.json", data, len), &e);

    if (!tk) {
        fuzz_failed(&e);
        return;
    }
    encode(tk, usual, sizeof usual - 1);
    if (end) encode(tk, (const char *)end + 1, n - len - 1);
    tokenizer_free(tk);
}

static const char *const files[] = {"tests/data/tokenizer/metaspace.json",
                                    "tests/data/tokenizer/byte_level.json"};

static const struct tokenizer *fixed(int which)
{
    static struct tokenizer *tk[2];
    struct err e = {0};

    if (!tk[which]) tk[which] = tokenizer_load(files[which], &e);
    CHECK(tk[which]);
    return tk[which];
}

void fuzz_tokens(const uint8_t *data, size_t n)
{
    for (int i = 0; i < 2; i++)
        encode(fixed(i), (const char *)data, n);
}

/* The template's number, then turns: a role, a length and a text each. */
void fuzz_template(const uint8_t *data, size_t n)
{
    static const char *const names[] = {TEMPLATE_NAMES};
    struct message m[16];
    struct rendered r = {0};
    struct err e = {0};
    size_t turns = 0, at = 1;

    while (turns < 16 && at + 2 <= n) {
        size_t len = data[at + 1] < n - at - 2 ? data[at + 1] : n - at - 2;
        m[turns++] = (struct message){(enum role)(data[at] % 3), (const char *)data + at + 2, len};
        at += 2 + len;
    }
    if (turns) {
        const struct chat_template *t =
            template_find(names[data[0] % (sizeof names / sizeof *names)], &e);
        if (!template_render(t, m, turns, data[0] & 0x80, &r, &e)) fuzz_failed(&e);
        for (size_t i = 0; i < r.n_trained; i++)
            CHECK(r.trained[i].begin <= r.trained[i].end && r.trained[i].end <= r.len);
    }
    rendered_free(&r);
}

static bool four_places(const void *arg, struct picture_shape *s, struct err *e)
{
    (void)arg;
    (void)e;
    s->tokens = 4;
    return true;
}

void fuzz_dataset(const uint8_t *data, size_t n)
{
    struct dataset_source source = {.path = fuzz_file("d.json", data, n)};
    struct err e = {0};
    struct dataset d;
    struct sample s;
    struct dataset_options o = {.tokenizer = fixed(0),
                                .chat = template_find("vicuna", &e),
                                .pictures = {.id = tokenizer_id(fixed(0), "<image>"),
                                             .around = {-1, -1},
                                             .rule = {four_places, NULL}},
                                .max_length = 256,
                                .limited_by = "data.max_length"};

    fuzz_file("a.png", "\x89PNG\r\n\x1a\n", 8);
    if (!dataset_open(&d, &source, 1, &o, &e)) {
        fuzz_failed(&e);
        return;
    }
    for (int64_t i = 0; i < d.n; i++) {
        CHECK(dataset_sample(&d, i, &s, &e) && s.n <= 256 && s.n == d.entries[i].tokens);
        sample_free(&s);
    }
    dataset_close(&d);
}
