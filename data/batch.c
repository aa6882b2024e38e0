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

/* What is kept of a batch: of sample s the rows from begin[s] + skip[s] on. A walk over ascending
 * rows. */
struct kept {
    const struct batch *b;
    const int64_t *skip;
    int64_t sample, gone; /* the sample that the walk is in, and rows left out up to its end */
};

/* Goes on to the sample of a row. */
static void kept_reach(struct kept *k, int64_t row)
{
    while (row >= k->b->begin[k->sample + 1])
        k->gone += k->skip[++k->sample];
}

static struct kept kept_begin(const struct batch *b, const int64_t *skip)
{
    return (struct kept){b, skip, 0, skip[0]};
}

/* Cuts the spans to what is kept, and returns how many there are then. */
static int64_t skip_spans(struct kept k, struct span *spans, int64_t count)
{
    int64_t n = 0;

    for (int64_t i = 0; i < count; i++) {
        struct span one = spans[i];
        kept_reach(&k, one.begin);
        const int64_t first = k.b->begin[k.sample] + k.skip[k.sample];
        if (one.end <= first) continue;
        if (one.begin < first) one.begin = first;
        one.begin -= k.gone;
        one.end -= k.gone;
        spans[n++] = one;
    }
    return n;
}

/* Drops the pictures that are left out; places are still those of all. Returns
 * how many are left. */
static int64_t skip_pictures(struct kept k, struct batch_buffer *b)
{
    const struct batch *all = k.b;
    int64_t n = 0, place = 0, at = 0; /* rows of the place that pictures before have filled */

    for (int64_t i = 0; i < all->images && place < all->n_places; i++) {
        const int64_t row = all->places[place].begin + at;
        int64_t left = b->shapes[i].tokens;
        kept_reach(&k, row);
        const bool keep = row >= all->begin[k.sample] + k.skip[k.sample];
        for (; left && place < all->n_places; at = 0, place++) {
            const int64_t room = all->places[place].end - all->places[place].begin - at;
            if (left < room) {
                at += left;
                break;
            }
            left -= room;
        }
        if (!keep) continue;
        b->shapes[n] = b->shapes[i];
        b->image[n++] = b->image[i];
    }
    return n;
}

/* Closes the gaps in v[n], a value for each row. */
static void skip_rows(struct kept k, int32_t *v, int32_t *to)
{
    for (int64_t s = 0, n = 0; s < k.b->samples; s++) {
        const int64_t first = k.b->begin[s] + k.skip[s], count = k.b->begin[s + 1] - first;
        memmove(to + n, v + first, (size_t)count * sizeof *v);
        n += count;
    }
}

static int64_t skip_labels(struct kept k, struct batch_buffer *b)
{
    int64_t n = 0;

    for (int64_t i = 0; i < k.b->labels; i++) {
        kept_reach(&k, b->label_rows[i]);
        if (b->label_rows[i] < k.b->begin[k.sample] + k.skip[k.sample]) continue;
        b->label_ids[n] = b->label_ids[i];
        b->label_rows[n++] = (int32_t)(b->label_rows[i] - k.gone);
    }
    return n;
}

void batch_skip(struct batch_buffer *b, const int64_t *skip)
{
    struct batch *out = &b->batch;
    const struct kept k = kept_begin(out, skip);
    int64_t left = out->tokens, gone = 0;

    for (int64_t s = 0; s < out->samples; s++) {
        CHECK(0 <= skip[s] && skip[s] < out->begin[s + 1] - out->begin[s]);
        left -= skip[s];
    }
    skip_rows(k, b->ids, b->ids);
    for (int axis = 0; axis < out->axes; axis++)
        skip_rows(k, b->positions + axis * out->tokens, b->positions + axis * left);
    out->images = skip_pictures(k, b);
    out->n_spans = skip_spans(k, b->spans, out->n_spans);
    out->n_places = skip_spans(k, b->places, out->n_places);
    out->labels = skip_labels(k, b);
    for (int64_t s = 0; s < out->samples; s++) {
        gone += skip[s];
        b->begin[s + 1] -= gone;
    }
    out->tokens = left;
    out->image_tokens = 0;
    for (int64_t i = 0; i < out->n_places; i++)
        out->image_tokens += b->places[i].end - b->places[i].begin;
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
