/* peer_golden.h - the golden values of the published code (tests/data/peer/make_golden.py), and
 * their samples. MHA2MLA_PEER_DATA=DIR takes them from elsewhere: made with --full, they include
 * all gradients. Include after cmocka's headers. */
#ifndef TESTS_PEER_GOLDEN_H
#define TESTS_PEER_GOLDEN_H

#include "tests/tiny_model.h"

enum { LAYERS = 2, HIDDEN = 32, LATENT = 8, PICTURE_ID = 39 };

static inline const char *golden_path(const char *name)
{
    const char *elsewhere = getenv("MHA2MLA_PEER_DATA");
    static char path[4][512];
    static int next;

    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", elsewhere ? elsewhere : "tests/data/peer",
             name);
    return path[next];
}

/* The tensor of that name; NULL if none. */
static inline const struct st_tensor *golden_tensor(const struct st_file *f, const char *fmt, ...)
{
    char name[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return st_find(f, name);
}

static inline struct sample golden_sample(const int32_t *ids, int64_t n)
{
    struct sample s = {.n = n, .prompt = n};

    s.ids = calloc((size_t)n, sizeof *s.ids);
    s.trained = calloc((size_t)n, 1);
    s.kind = calloc((size_t)n, 1);
    s.image = calloc(1, sizeof *s.image);
    assert_true(s.ids && s.trained && s.kind && s.image);
    for (int64_t i = 0; i < n; i++) {
        s.ids[i] = ids[i];
        s.kind[i] = ids[i] == PICTURE_ID ? IMAGE : TEXT;
        s.images |= ids[i] == PICTURE_ID; /* at most one picture */
    }
    return s;
}

static inline void golden_model(struct model *m, const char *name)
{
    struct err e = {0};

    must(model_open(m, golden_path(name), &e), &e);
}

#endif
