/* batch.c - samples into one flat stream, and the order in which they come. */
#include "base/mem.h"
#include "data/dataset.h"

#include <stdlib.h>
#include <string.h>

static bool reserve(struct batch_buffer *b, size_t tokens, size_t samples, size_t images,
                    struct err *e)
{
    return mem_grow(&b->ids, &b->cap_ids, tokens, sizeof *b->ids, e) &&
           mem_grow(&b->positions, &b->cap_positions, tokens, sizeof *b->positions, e) &&
           mem_grow(&b->label_rows, &b->cap_rows, tokens, sizeof *b->label_rows, e) &&
           mem_grow(&b->label_ids, &b->cap_labels, tokens, sizeof *b->label_ids, e) &&
           mem_grow(&b->spans, &b->cap_spans, tokens, sizeof *b->spans, e) &&
           mem_grow(&b->begin, &b->cap_begin, samples + 1, sizeof *b->begin, e) &&
           mem_grow(&b->image, &b->cap_image, images, sizeof *b->image, e);
}

static void add_sample(struct batch_buffer *b, const struct sample *s, int64_t n, bool labels)
{
    struct batch *out = &b->batch;
    int64_t row = out->tokens, first_span = out->n_spans;

    for (int64_t i = 0; i < n; i++, row++) {
        struct span *last = out->n_spans > first_span ? &b->spans[out->n_spans - 1] : NULL;
        b->ids[row] = s->ids[i];
        b->positions[row] = (int32_t)i; /* max_length fits */
        if (last && last->modality == (enum modality)s->modality[i])
            last->end++;
        else
            b->spans[out->n_spans++] = (struct span){row, row + 1, s->modality[i]};
        out->image_tokens += s->modality[i] == IMAGE;
        if (labels && i + 1 < n && s->trained[i + 1]) {
            b->label_rows[out->labels] = (int32_t)row;
            b->label_ids[out->labels++] = s->ids[i + 1];
        }
    }
    for (int64_t i = 0; i < s->images; i++)
        b->image[out->images++] = s->image[i];
    out->tokens = row;
    b->begin[++out->samples] = row;
}

bool batch_fill(struct batch_buffer *b, const struct sample *samples, int64_t n, bool prompts,
                struct err *e)
{
    size_t tokens = 0, images = 0;

    for (int64_t i = 0; i < n; i++) {
        tokens += (size_t)samples[i].n;
        images += (size_t)samples[i].images;
    }
    if (!reserve(b, tokens, (size_t)n, images, e)) return false;
    b->batch = (struct batch){.ids = b->ids,
                              .positions = b->positions,
                              .begin = b->begin,
                              .spans = b->spans,
                              .label_rows = b->label_rows,
                              .label_ids = b->label_ids};
    b->begin[0] = 0;
    for (int64_t i = 0; i < n; i++)
        add_sample(b, &samples[i], prompts ? samples[i].prompt : samples[i].n, !prompts);
    return true;
}

void batch_free(struct batch_buffer *b)
{
    free(b->ids);
    free(b->positions);
    free(b->label_rows);
    free(b->label_ids);
    free(b->spans);
    free(b->begin);
    free(b->image);
    memset(b, 0, sizeof *b);
}

bool order_init(struct order *o, uint64_t seed, int64_t n, struct err *e)
{
    *o = (struct order){.seed = seed, .n = n, .epoch = -1};
    o->order = mem_new((size_t)n, sizeof *o->order, "the order of the samples", e);
    return o->order;
}

void order_free(struct order *o)
{
    free(o->order);
    memset(o, 0, sizeof *o);
}

int64_t order_at(struct order *o, int64_t at)
{
    int64_t epoch = at / o->n;
    struct rng r;

    if (epoch != o->epoch) {
        rng_seed(&r, o->seed, (uint64_t)epoch);
        rng_permutation(&r, o->order, o->n);
        o->epoch = epoch;
    }
    return o->order[at % o->n];
}
