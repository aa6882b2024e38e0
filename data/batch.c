/* batch.c - joins samples into one flat stream. */
#include "data/batch.h"
#include "base/mem.h"
#include "data/sample.h"

#include <stdlib.h>
#include <string.h>

static bool reserve(struct batch_buffer *b, size_t tokens, size_t samples, size_t images,
                    struct err *e)
{
    size_t positions = (size_t)b->batch.axes * tokens;

    return mem_grow(&b->ids, &b->cap_ids, tokens, sizeof *b->ids, e) &&
           mem_grow(&b->positions, &b->cap_positions, positions, sizeof *b->positions, e) &&
           mem_grow(&b->next, &b->cap_next, samples, sizeof *b->next, e) &&
           mem_grow(&b->label_rows, &b->cap_rows, tokens, sizeof *b->label_rows, e) &&
           mem_grow(&b->label_ids, &b->cap_labels, tokens, sizeof *b->label_ids, e) &&
           mem_grow(&b->spans, &b->cap_spans, tokens, sizeof *b->spans, e) &&
           mem_grow(&b->places, &b->cap_places, tokens, sizeof *b->places, e) &&
           mem_grow(&b->begin, &b->cap_begin, samples + 1, sizeof *b->begin, e) &&
           mem_grow(&b->image, &b->cap_image, images, sizeof *b->image, e) &&
           mem_grow(&b->shapes, &b->cap_shapes, images, sizeof *b->shapes, e);
}

/* Extends the last of n spans by a row, or begins a new one if that has another modality or is one
 * of the first `old`. */
static void add_row(struct span *spans, int64_t *n, int64_t old, int64_t row, enum modality m)
{
    struct span *last = *n > old ? &spans[*n - 1] : NULL;

    if (last && last->modality == m && last->end == row)
        last->end++;
    else
        spans[(*n)++] = (struct span){row, row + 1, m};
}

/* Appends the first n tokens of a sample. stride: length of each row of positions. */
static void add_sample(struct batch_buffer *b, const struct sample *s, int64_t n, int64_t stride,
                       bool labels)
{
    const struct picture_places *rules = s->rules;
    struct batch *out = &b->batch;
    const int64_t first = out->tokens, first_span = out->n_spans, first_place = out->n_places;

    for (int64_t i = 0, row = first; i < n; i++, row++) {
        b->ids[row] = s->ids[i];
        b->positions[row] = (int32_t)i; /* max_length keeps it in range */
        add_row(b->spans, &out->n_spans, first_span, row, s->kind[i] == TOKEN_TEXT ? TEXT : IMAGE);
        if (s->kind[i] == TOKEN_PLACE) {
            add_row(b->places, &out->n_places, first_place, row, IMAGE);
            out->image_tokens++;
        }
        if (labels && i + 1 < n && s->trained[i + 1]) {
            b->label_rows[out->labels] = (int32_t)row;
            b->label_ids[out->labels++] = s->ids[i + 1];
        }
    }
    b->next[out->samples] = (int32_t)n;
    if (rules && rules->positions)
        b->next[out->samples] = rules->positions(s, n, b->positions + first, stride);
    for (int64_t i = 0; i < s->images; i++) {
        b->image[out->images] = s->image[i];
        b->shapes[out->images++] = s->shape ? s->shape[i] : (struct picture_shape){0};
    }
    out->tokens = first + n;
    b->begin[++out->samples] = out->tokens;
}

bool batch_fill(struct batch_buffer *b, const struct sample *samples, int64_t n, bool prompts,
                struct err *e)
{
    const struct picture_places *rules = n ? samples[0].rules : NULL;
    size_t tokens = 0, images = 0;

    for (int64_t i = 0; i < n; i++) {
        tokens += (size_t)(prompts ? samples[i].prompt : samples[i].n);
        images += (size_t)samples[i].images;
    }
    b->batch = (struct batch){.axes = rules && rules->axes ? rules->axes : 1};
    if (!reserve(b, tokens, (size_t)n, images, e)) return false;
    b->batch.ids = b->ids;
    b->batch.positions = b->positions;
    b->batch.next = b->next;
    b->batch.begin = b->begin;
    b->batch.spans = b->spans;
    b->batch.places = b->places;
    b->batch.shapes = b->shapes;
    b->batch.label_rows = b->label_rows;
    b->batch.label_ids = b->label_ids;
    b->begin[0] = 0;
    for (int64_t i = 0; i < n; i++)
        add_sample(b, &samples[i], prompts ? samples[i].prompt : samples[i].n, (int64_t)tokens,
                   !prompts);
    return true;
}

/* Shifts the spans back by n rows; of those before it nothing is left. Returns how many there are. */
static int64_t skip_spans(struct span *spans, int64_t count, int64_t n)
{
    int64_t kept = 0;

    for (int64_t i = 0; i < count; i++) {
        if (spans[i].end <= n) continue;
        spans[kept] = spans[i];
        spans[kept].begin = spans[i].begin > n ? spans[i].begin - n : 0;
        spans[kept++].end -= n;
    }
    return kept;
}

void batch_skip(struct batch_buffer *b, int64_t n)
{
    struct batch *out = &b->batch;
    const int64_t stride = out->tokens, left = stride - n;
    int64_t images = 0, tokens = 0;

    CHECK(out->samples == 1 && out->labels == 0 && 0 <= n && left > 0);
    for (int axis = 0; axis < out->axes; axis++)
        memmove(b->positions + axis * left, b->positions + axis * stride + n,
                (size_t)left * sizeof *b->positions);
    memmove(b->ids, b->ids + n, (size_t)left * sizeof *b->ids);
    out->tokens = b->begin[1] = left;
    out->n_spans = skip_spans(b->spans, out->n_spans, n);
    out->n_places = skip_spans(b->places, out->n_places, n);
    out->image_tokens = 0;
    for (int64_t i = 0; i < out->n_places; i++)
        out->image_tokens += b->places[i].end - b->places[i].begin;
    while (images < out->images && tokens < out->image_tokens) /* the last ones fill what is left */
        tokens += b->shapes[out->images - ++images].tokens;
    CHECK(tokens == out->image_tokens);
    if (images == out->images) return;
    memmove(b->shapes, b->shapes + out->images - images, (size_t)images * sizeof *b->shapes);
    memmove(b->image, b->image + out->images - images, (size_t)images * sizeof *b->image);
    out->images = images;
}

void batch_free(struct batch_buffer *b)
{
    free(b->ids);
    free(b->positions);
    free(b->next);
    free(b->label_rows);
    free(b->label_ids);
    free(b->spans);
    free(b->places);
    free(b->shapes);
    free(b->begin);
    free(b->image);
    memset(b, 0, sizeof *b);
}
