/* stored.c - see stored.h. */
#include "bench/lib/stored.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

bool stored_write(const char *path, const struct batch *b, const float *features, int64_t width,
                  struct err *e)
{
    uint8_t *modality = mem_new((size_t)b->tokens, 1, "modalities", e);
    struct {
        struct st_spec spec;
        const void *data;
    } list[] = {{{"begin", ST_I64, 1, {b->samples + 1}}, b->begin},
                {{"ids", ST_I32, 1, {b->tokens}}, b->ids},
                {{"label_rows", ST_I32, 1, {b->labels}}, b->label_rows},
                {{"label_ids", ST_I32, 1, {b->labels}}, b->label_ids},
                {{"features", ST_F32, 2, {b->image_tokens, width}}, features},
                {{"modality", ST_U8, 1, {b->tokens}}, modality}};
    enum { N = sizeof list / sizeof *list };
    struct st_spec specs[N];
    struct st_writer w = {0};
    bool ok = modality;

    for (int64_t i = 0; ok && i < b->n_spans; i++)
        memset(modality + b->spans[i].begin, (int)b->spans[i].modality,
               (size_t)(b->spans[i].end - b->spans[i].begin));
    for (int i = 0; i < N; i++)
        specs[i] = list[i].spec;
    ok = ok && st_write_begin(&w, path, specs, N, NULL, e);
    for (size_t i = 0; ok && i < N; i++) {
        size_t count = (size_t)specs[i].dim[0] * (size_t)(specs[i].ndim > 1 ? specs[i].dim[1] : 1);
        ok = st_write_raw(&w, i, list[i].data, count * st_dtypes[specs[i].dtype].bits / 8, e);
    }
    if (ok)
        ok = st_write_end(&w, e);
    else
        st_write_abort(&w);
    free(modality);
    return ok;
}

/* The files are our own: a missing tensor is the caller's mistake. */
static const void *tensor(const struct stored_batch *s, const char *name, int64_t *n)
{
    const struct st_tensor *t = st_find(&s->file, name);

    CHECK(t && t->aligned);
    *n = t->dim[0];
    return t->data;
}

bool stored_open(struct stored_batch *s, const char *path, struct err *e)
{
    struct batch *b = &s->batch;
    const uint8_t *modality;
    int64_t n, spans = 0;

    if (!st_open(&s->file, path, e)) return false;
    b->ids = tensor(s, "ids", &b->tokens);
    b->begin = tensor(s, "begin", &n);
    b->samples = n - 1;
    b->label_rows = tensor(s, "label_rows", &b->labels);
    b->label_ids = tensor(s, "label_ids", &b->labels);
    modality = tensor(s, "modality", &n);
    s->positions = mem_new((size_t)b->tokens, sizeof *s->positions, "positions", e);
    s->spans = mem_new((size_t)b->tokens, sizeof *s->spans, "spans", e);
    if (!s->positions || !s->spans) return false;
    for (int64_t k = 0; k < b->samples; k++)
        for (int64_t i = b->begin[k]; i < b->begin[k + 1]; i++) {
            s->positions[i] = (int32_t)(i - b->begin[k]);
            if (i == b->begin[k] || modality[i] != modality[i - 1])
                s->spans[spans++] = (struct span){i, i, (enum modality)modality[i]};
            s->spans[spans - 1].end = i + 1;
            b->image_tokens += modality[i] == IMAGE;
        }
    b->axes = 1;
    b->positions = s->positions;
    b->spans = s->spans;
    b->n_spans = spans;
    s->places = mem_new((size_t)spans, sizeof *s->places, "spans", e);
    if (!s->places) return false;
    for (int64_t i = 0; i < spans; i++)
        if (s->spans[i].modality == IMAGE) s->places[b->n_places++] = s->spans[i];
    b->places = s->places;
    const float *features = tensor(s, "features", &n);
    CHECK(n == b->image_tokens);
    s->features = tensor_leaf(DT_F32, n, st_find(&s->file, "features")->dim[1], features);
    return true;
}

void stored_close(struct stored_batch *s)
{
    free(s->positions);
    free(s->spans);
    free(s->places);
    st_close(&s->file);
    memset(s, 0, sizeof *s);
}
