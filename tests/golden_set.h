/* golden_set.h - golden samples whose pictures differ in size, as a batch: tokens from a golden
 * file, pixels from the model's own processor (golden_pictures.h). Include cmocka's headers
 * first. */
#ifndef TESTS_GOLDEN_SET_H
#define TESTS_GOLDEN_SET_H

#include "tests/golden_pictures.h"
#include "tests/tmpdir.h"

enum { GOLDEN_SAMPLES = 6 };

struct golden_set {
    struct golden_pictures pictures;
    int n;
    struct sample s[GOLDEN_SAMPLES];
    struct batch_buffer b;
    float *pixels;
    size_t cap;
    struct tensor leaf; /* [inputs, width] of the pictures of all samples */
};

static inline const struct st_tensor *golden_get(const struct st_file *f, const char *what, int n)
{
    char name[64];

    snprintf(name, sizeof name, "%s.%d", what, n);
    return st_find(f, name);
}

static inline void golden_set_open(struct golden_set *g, const struct model *m, const char *dir,
                                   const char *pictures)
{
    memset(g, 0, sizeof *g);
    golden_pictures_open(&g->pictures, m, dir, pictures);
}

/* A sample of these ids, `room` for more of them, and the kind of each; no pictures yet. */
static inline struct sample golden_ids(const struct model *m, const int32_t *ids, int64_t n,
                                       int64_t room)
{
    struct sample s = {.n = n, .prompt = n};
    struct picture_places p = {.id = -1, .around = {-1, -1}};

    if (hf_has_vision(&m->cfg)) family_places(&m->cfg, &p);
    s.ids = calloc((size_t)(n + room), sizeof *s.ids);
    s.trained = calloc((size_t)(n + room), 1);
    s.kind = calloc((size_t)(n + room), 1);
    assert_true(s.ids && s.trained && s.kind);
    memcpy(s.ids, ids, (size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++) {
        bool around = ids[i] == p.around[0] || ids[i] == p.around[1];
        s.kind[i] = ids[i] == p.id ? TOKEN_PLACE : around ? TOKEN_AROUND : TOKEN_TEXT;
    }
    return s;
}

/* The ids `what` of sample n, with its labels. */
static inline struct sample golden_tokens(const struct st_file *f, const struct model *m,
                                          const char *what, int n, int64_t room)
{
    const struct st_tensor *ids = golden_get(f, what, n), *labels = golden_get(f, "labels", n);
    struct sample s = golden_ids(m, ids->data, ids->dim[0], room);

    for (int64_t i = 0; i < s.n; i++)
        s.trained[i] = ((const int32_t *)labels->data)[i] >= 0;
    return s;
}

/* Appends a sample of these tokens, which it takes over, with pictures number[n]. */
static inline void golden_set_take(struct golden_set *g, const struct model *m,
                                   struct sample tokens, const int32_t *number, int64_t n)
{
    struct sample *s = &g->s[g->n];
    struct err e = {0};

    assert_true(g->n < GOLDEN_SAMPLES);
    if (g->n++ == 0) g->leaf = tensor_leaf(DT_F32, 0, g->pictures.processor.input_width, NULL);
    *s = tokens;
    s->rules = &g->pictures.rules;
    s->images = n;
    s->image = calloc((size_t)n + 1, sizeof *s->image);
    s->shape = calloc((size_t)n + 1, sizeof *s->shape);
    assert_true(s->image && s->shape);
    for (int64_t p = 0; p < n; p++) {
        s->shape[p] = golden_shape(&g->pictures, m, number[p]);
        int64_t rows = g->leaf.rows + s->shape[p].inputs;
        must(mem_grow(&g->pixels, &g->cap, (size_t)(rows * g->leaf.cols), sizeof *g->pixels, &e),
             &e);
        golden_pixels(&g->pictures, &s->shape[p], number[p],
                      g->pixels + g->leaf.rows * g->leaf.cols);
        g->leaf.rows = rows;
    }
    g->leaf.data = g->pixels;
}

/* Appends sample n of the file. */
static inline void golden_set_add(struct golden_set *g, const struct model *m,
                                  const struct st_file *f, const char *what, int n, int64_t room)
{
    const struct st_tensor *list = golden_get(f, "pictures", n);

    golden_set_take(g, m, golden_tokens(f, m, what, n, room), list ? list->data : NULL,
                    list ? list->dim[0] : 0);
}

/* Appends sample n of a model without pictures, or whose pictures are squares, one in a sample at
 * most, whose pixels the file has. */
static inline void golden_set_square(struct golden_set *g, const struct model *m,
                                     const struct st_file *f, const char *what, int n, int64_t room)
{
    const struct st_tensor *px = golden_get(f, "pixels", n);
    const int64_t side = hf_has_vision(&m->cfg) ? m->cfg.vision.image_size : 0;
    struct sample *s = &g->s[g->n];
    struct err e = {0};

    assert_true(g->n < GOLDEN_SAMPLES);
    if (g->n++ == 0) g->leaf = tensor_leaf(DT_F32, 0, 3 * side * side, NULL);
    *s = golden_tokens(f, m, what, n, room);
    s->images = memchr(s->kind, TOKEN_PLACE, (size_t)s->n) != NULL;
    s->image = calloc((size_t)s->images + 1, sizeof *s->image);
    assert_non_null(s->image);
    assert_int_equal(s->images, px != NULL);
    if (!px) return;
    size_t at = (size_t)(g->leaf.rows++ * g->leaf.cols);
    must(mem_grow(&g->pixels, &g->cap, at + (size_t)g->leaf.cols, sizeof *g->pixels, &e), &e);
    memcpy(g->pixels + at, px->data, px->bytes);
    g->leaf.data = g->pixels;
}

/* The one or the other, by whether the model's pictures were opened. */
static inline void golden_set_any(struct golden_set *g, const struct model *m,
                                  const struct st_file *f, const char *what, int n, int64_t room)
{
    if (g->pictures.processor.kind)
        golden_set_add(g, m, f, what, n, room);
    else
        golden_set_square(g, m, f, what, n, room);
}

static inline void golden_set_fill(struct golden_set *g)
{
    struct err e = {0};

    must(batch_fill(&g->b, g->s, g->n, false, &e), &e);
}

/* Afterwards other samples can be added. */
static inline void golden_set_empty(struct golden_set *g)
{
    for (int i = 0; i < g->n; i++)
        tiny_sample_free(&g->s[i]);
    free(g->pixels);
    g->pixels = NULL;
    g->n = 0;
    g->cap = 0;
}

static inline void golden_set_close(struct golden_set *g)
{
    golden_set_empty(g);
    batch_free(&g->b);
    st_close(&g->pictures.file);
}

/* The batch, with features made by the tower in the same graph. */
static inline struct forward golden_set_forward(struct golden_set *g, struct model *m,
                                                struct tape *t)
{
    const struct batch *b = &g->b.batch;
    struct forward f = {.batch = b};

    if (g->leaf.rows) f.features = model_vision(m, t, &g->leaf, b->shapes, b->images);
    return f;
}

/* Features of the set's pictures, computed once, in memory that the caller frees. */
struct golden_features {
    struct tensor leaf;
    float *values;
};

static inline struct forward golden_set_features(struct golden_set *g, struct model *m,
                                                 struct tape *t, struct golden_features *out)
{
    struct err e = {0};

    *out = (struct golden_features){.values = NULL};
    tape_begin(t, false);
    struct forward f = golden_set_forward(g, m, t);
    if (!f.features) return f;
    tape_keep(f.features);
    must(tape_plan(t, 0, &e), &e);
    tape_forward(t);
    size_t n = (size_t)tensor_count(f.features);
    out->values = mem_new(n, sizeof *out->values, "features", &e);
    assert_non_null(out->values);
    memcpy(out->values, f.features->data, n * sizeof *out->values);
    out->leaf = tensor_leaf(DT_F32, f.features->rows, f.features->cols, out->values);
    f.features = &out->leaf;
    return f;
}

static inline void golden_text(const char *dir, const char *name, const char *text)
{
    char path[1400];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    spill(path, text, strlen(text));
}

/* Makes below `in` the model of the golden file models/variants/NAME: its config.json, beside the
 * weights that it names, which lie under `models`. Returns whether there is a
 * generation_config.json too. */
static inline bool golden_variant(const char *in, const char *models, const char *name,
                                  char dir[1200])
{
    char path[1300], weights[1300], here[1000];
    struct st_file file;
    struct err e = {0};

    snprintf(path, sizeof path, "%s/variants/%s", models, name);
    must(st_open(&file, path, &e), &e);
    const char *config = st_metadata(&file, "config"), *of = st_metadata(&file, "of");
    const char *generation = st_metadata(&file, "generation");
    bool stops = generation;
    assert_true(config && of && getcwd(here, sizeof here));
    snprintf(dir, 1200, "%s/%s", in, name);
    assert_int_equal(mkdir(dir, 0777), 0);
    snprintf(weights, sizeof weights, "%s/%.40s/%.64s/model.safetensors", here, models, of);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(symlink(weights, path), 0);
    golden_text(dir, "config.json", config);
    if (stops) golden_text(dir, "generation_config.json", generation);
    st_close(&file);
    return stops;
}

#endif
