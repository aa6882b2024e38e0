/* golden_pictures.h - the pictures of golden samples, computed by the model's own processor
 * from their 8-bit values: tests/data/vlm/make_models.py. Include cmocka's headers first. */
#ifndef TESTS_GOLDEN_PICTURES_H
#define TESTS_GOLDEN_PICTURES_H

#include "data/picture/processor.h"
#include "model/family/family.h"
#include "tests/tiny_model.h"

struct golden_pictures {
    struct st_file file;
    struct processor processor;
    struct picture_places rules; /* of the model */
    int64_t tokens;              /* of all that were used */
};

static inline void golden_pictures_open(struct golden_pictures *g, const struct model *m,
                                        const char *dir, const char *file)
{
    struct err e = {0};

    memset(g, 0, sizeof *g);
    must(st_open(&g->file, file, &e) && processor_load(&g->processor, dir, &e), &e);
    must(m->cfg.family->check_processor(&m->cfg, &g->processor, &e), &e);
    family_places(&m->cfg, &g->rules);
}

static inline const struct st_tensor *golden_picture(const struct golden_pictures *g,
                                                     const char *what, int k)
{
    char name[64];

    snprintf(name, sizeof name, "%s.%d", what, k);
    return st_find(&g->file, name);
}

/* The shape of picture k, which the golden file confirms. */
static inline struct picture_shape golden_shape(struct golden_pictures *g, const struct model *m,
                                                int k)
{
    const struct st_tensor *px = golden_picture(g, "picture", k);
    struct picture_shape s = {.height = px->dim[0], .width = px->dim[1]};
    struct err e = {0};

    must(processor_shape(&g->processor, &s, &e), &e);
    m->cfg.family->shape(&m->cfg, &s);
    assert_int_equal(s.tokens, *(const int32_t *)golden_picture(g, "tokens", k)->data);
    assert_int_equal(s.inputs, golden_picture(g, "pixels", k)->dim[0]);
    g->tokens += s.tokens;
    return s;
}

/* Its inputs, which must equal the golden ones bit for bit. */
static inline void golden_pixels(struct golden_pictures *g, const struct picture_shape *s, int k,
                                 float *pixels)
{
    const struct st_tensor *px = golden_picture(g, "picture", k);
    const struct image img = {.height = s->height,
                              .width = s->width,
                              .channels = 3,
                              .px = (uint8_t *)(uintptr_t)px->data};
    struct err e = {0};

    must(processor_run(&g->processor, &img, pixels, &e), &e);
    assert_int_equal(golden_picture(g, "pixels", k)->bytes,
                     (size_t)(s->inputs * g->processor.input_width) * sizeof *pixels);
    assert_memory_equal(pixels, golden_picture(g, "pixels", k)->data,
                        golden_picture(g, "pixels", k)->bytes);
}

#endif
