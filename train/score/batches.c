/* batches.c - see batches.h. */
#include "train/score/batches.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "train/score/scorer.h"

#include <stdlib.h>
#include <string.h>

/* The share of the memory that a batch may take, and the most rows: more would not be faster. */
enum { MEMORY_SHARE = 8, MOST_ROWS = 16384 };
enum { SAMPLE_ROWS = 64 }; /* of the graph that shows what a row takes */

/* Bytes of the graph of one token, and of the token in the cache. */
static double row_bytes(struct run *r, struct model *m)
{
    int32_t ids[SAMPLE_ROWS] = {0}, positions[3 * SAMPLE_ROWS], last = SAMPLE_ROWS - 1;
    const int64_t begin[] = {0, SAMPLE_ROWS};
    const struct span span = {0, SAMPLE_ROWS, TEXT};
    const struct forward f = {.batch = &(struct batch){.tokens = SAMPLE_ROWS,
                                                       .ids = ids,
                                                       .positions = positions,
                                                       .axes = (int)m->cfg.text.axes,
                                                       .samples = 1,
                                                       .begin = begin,
                                                       .n_spans = 1,
                                                       .spans = &span}};
    double bytes;

    CHECK(m->cfg.text.axes <= 3);
    for (int i = 0; i < 3 * SAMPLE_ROWS; i++)
        positions[i] = i % SAMPLE_ROWS;
    tape_begin(r->tape, false);
    model_logits(m, r->tape, &f, &last, 1);
    bytes = (double)tape_bytes(r->tape) / SAMPLE_ROWS;
    tape_begin(r->tape, false);
    return bytes + (double)(model_cache_values(m) * m->cfg.text.num_hidden_layers) * sizeof(real);
}

bool batches_room(struct run *r, struct model *m, const struct eval_set *set,
                  struct batch_room *room, struct err *e)
{
    const double rows = (double)r->memory_limit / MEMORY_SHARE / row_bytes(r, m);

    *room = (struct batch_room){.rows = rows < MOST_ROWS ? (int64_t)rows : MOST_ROWS,
                                .samples = r->c.evaluate.batch,
                                .more = scorer_of(&r->c)->generates ? run_max_new(r, set - r->eval)
                                                                    : 0};
    /* machines may differ in memory, and all processes must cut alike */
    return r->dry || cluster_broadcast(&room->rows, sizeof room->rows, 0, e);
}

static int by_key(const void *a, const void *b)
{
    const struct batch_item *x = a, *y = b;

    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->entry < y->entry ? -1 : 1;
}

/* The first picture of an entry; -1: it has none. */
static int64_t picture_of(const struct dataset *d, int64_t entry)
{
    const struct dataset_entry *i = &d->entries[entry];

    return i->images ? d->refs[i->first_image] : -1;
}

bool batches_order(const struct dataset *d, struct batch_item *items, int64_t n, struct err *e)
{
    int32_t *longest = mem_new((size_t)d->n_images, sizeof *longest, "the order of samples", e);

    if (!longest) return false;
    for (int64_t i = 0; i < n; i++) {
        const int64_t p = picture_of(d, items[i].entry);
        const int32_t tokens = d->entries[items[i].entry].longest;
        if (p >= 0 && tokens > longest[p]) longest[p] = tokens;
    }
    for (int64_t i = 0; i < n; i++) { /* by length, then by picture */
        const int64_t p = picture_of(d, items[i].entry);
        const int64_t tokens = p >= 0 ? longest[p] : d->entries[items[i].entry].longest;
        items[i].key = tokens * (d->n_images + 1) + d->n_images - (p >= 0 ? p : d->n_images);
    }
    free(longest);
    if (n) qsort(items, (size_t)n, sizeof *items, by_key);
    return true;
}

int64_t batches_next(const struct dataset *d, const struct batch_item *items, int64_t n, int64_t at,
                     const struct batch_room *room)
{
    int64_t count = 0, sequences = 0, longest = 0;

    for (; at + count < n && (!room->samples || count < room->samples); count++) {
        const struct dataset_entry *one = &d->entries[items[at + count].entry];
        const int64_t most = one->longest > longest ? one->longest : longest;
        sequences += one->sequences;
        if (count && sequences * (most + room->more) > room->rows) break;
        longest = most;
    }
    return count;
}

int64_t batches_rows(const struct dataset *d, const struct batch_item *items, int64_t n,
                     const struct batch_room *room)
{
    int64_t sequences = 0, longest = 0;

    for (int64_t i = 0; i < n; i++) {
        const struct dataset_entry *one = &d->entries[items[i].entry];
        sequences += one->sequences;
        if (one->longest > longest) longest = one->longest;
    }
    if (n == 1 && sequences > room->rows / longest) /* windows: as many at a time as fit */
        sequences = room->rows / longest > 1 ? room->rows / longest : 1;
    return sequences * (longest + room->more);
}

int64_t batches_tokens(const struct dataset *d, const struct batch_item *items, int64_t n)
{
    int64_t tokens = 0;

    for (int64_t i = 0; i < n; i++)
        tokens +=
            (int64_t)d->entries[items[i].entry].longest * d->entries[items[i].entry].sequences;
    return tokens;
}
