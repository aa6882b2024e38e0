/* dryrun_model.c - the memory of the graphs of outlined models (model/outline.h), for the longest
 * samples. */
#include "autograd/flop.h"
#include "base/mem.h"
#include "train/forecast/dryrun_parts.h"
#include "train/score/batches.h"
#include "train/score/scorer.h"
#include "train/layerwise.h"
#include "train/teacher.h"
#include "train/forecast/room.h"

#include <stdlib.h>
#include <string.h>

/* The entries of the n longest samples, longest first; equals in order. */
static bool longest(const struct dataset *d, int64_t n, int64_t *entry, struct err *e)
{
    int64_t *place = mem_new((size_t)d->longest + 2, sizeof *place, "the samples' lengths", e);

    if (!place) return false;
    for (int64_t i = 0; i < d->n; i++)
        place[d->entries[i].tokens]++;
    for (int64_t length = d->longest, before = 0; length >= 0; length--) {
        int64_t count = place[length];
        place[length] = before;
        before += count;
    }
    for (int64_t i = 0; i < d->n; i++) {
        int64_t at = place[d->entries[i].tokens]++;
        if (at < n) entry[at] = i;
    }
    free(place);
    return true;
}

/* A plan's own arrays must not take the memory that it is to spare: of a batch with more tokens it
 * takes one sample in so many, and what they need is that share of the whole. */
enum { DRY_TOKENS = 1 << 20 };

/* The graph of d's n longest samples, on the run's tape. */
struct dry_batch {
    struct sample *samples;
    struct batch_buffer buffer;
    struct tensor leaf;
    struct forward f;
    int64_t n;            /* in the graph */
    int64_t copies, step; /* of each sample in the whole batch; from one to the next there */
    double times;         /* the whole batch's tokens, as a multiple of the graph's */
};

/* How many samples there are in all passes over d that n in a row may be of: of a batch that is
 * larger than the set, so many may be the same one. */
static int64_t copies_in(int64_t n, int64_t d)
{
    return n <= d ? 1 : (n - 2) / d + 2;
}

/* Which of the longest is the sample i of the graph. */
static int64_t which(const struct dry_batch *b, int64_t i)
{
    return i * b->step / b->copies;
}

static bool is_copy(const struct dry_batch *b, int64_t i)
{
    return i > 0 && which(b, i) == which(b, i - 1);
}

static void thin(struct dry_batch *b, const struct dataset *d, const int64_t *entry, int64_t n)
{
    double all = 0, held = 0;

    for (int64_t i = 0; i < n; i++)
        all += d->entries[entry[i / b->copies]].tokens;
    b->step = 1 + (int64_t)(all / (DRY_TOKENS + 1));
    b->n = (n + b->step - 1) / b->step;
    for (int64_t i = 0; i < b->n; i++)
        held += d->entries[entry[which(b, i)]].tokens;
    b->times = all / held;
}

/* The samples of d at entry[], of which each is in the batch b->copies times: n altogether. */
static bool open_entries(struct dry_batch *b, const struct dataset *d, const int64_t *entry,
                         int64_t n, bool prompt, struct err *e)
{
    bool ok;

    thin(b, d, entry, n);
    b->samples = mem_new((size_t)b->n, sizeof *b->samples, "the longest samples", e);
    ok = b->samples;
    for (int64_t i = 0; ok && i < b->n; i++) {
        if (is_copy(b, i)) /* shares the memory of the one before it */
            b->samples[i] = b->samples[i - 1];
        else
            ok = dataset_sample(d, entry[which(b, i)], &b->samples[i], e);
        if (ok && d->o.window && b->samples[i].n > d->o.window) b->samples[i].n = d->o.window;
    }
    return ok && batch_fill(&b->buffer, b->samples, b->n, prompt, e);
}

static void begin_batch(struct dry_batch *b, int64_t copies)
{
    memset(b, 0, sizeof *b);
    b->copies = copies;
    b->step = 1;
    b->f = (struct forward){.batch = &b->buffer.batch};
}

static bool open_batch(struct dry_batch *b, const struct dataset *d, int64_t n, bool prompt,
                       struct err *e)
{
    int64_t *entry, different;
    bool ok;

    begin_batch(b, copies_in(n, d->n));
    different = (n + b->copies - 1) / b->copies;
    entry = mem_new((size_t)different, sizeof *entry, "the longest samples", e);
    ok = entry && longest(d, different, entry, e) && open_entries(b, d, entry, n, prompt, e);
    free(entry);
    return ok;
}

static size_t whole(const struct dry_batch *b, size_t bytes)
{
    return (size_t)((double)bytes * b->times);
}

/* Pictures enter as features, or with `pixels` through the tower as part of the graph. */
static void begin_graph(struct dry_batch *b, struct run *r, struct model *shape, bool training,
                        bool pixels)
{
    const struct batch *batch = &b->buffer.batch;
    int64_t inputs = 0, rows = 0;

    tape_begin(r->tape, training);
    b->f.features = NULL;
    for (int64_t i = 0; i < batch->images; i++) {
        inputs += batch->shapes[i].inputs;
        rows += batch->shapes[i].rows;
    }
    if (batch->images && pixels) {
        b->leaf = tensor_leaf(DT_F32, inputs, hf_input_width(&shape->cfg), NULL);
        b->f.features = model_vision(shape, r->tape, &b->leaf, batch->shapes, batch->images);
    } else if (batch->images) {
        b->leaf = tensor_leaf(DT_F32, rows, hf_feature_width(&shape->cfg), NULL);
        b->f.features = &b->leaf;
    }
}

static void close_batch(struct dry_batch *b, struct run *r)
{
    for (int64_t i = 0; b->samples && i < b->n; i++)
        if (!is_copy(b, i)) sample_free(&b->samples[i]);
    tape_begin(r->tape, false); /* releases the graph's batch and shapes */
    batch_free(&b->buffer);
    free(b->samples);
}

struct loss_graph {
    struct run *r;
    struct model *shape;
    struct dry_batch b;
    const struct dry_graph *how;
};

static bool build_loss(void *arg, int64_t layers, size_t *bytes, struct err *e)
{
    struct loss_graph *g = arg;

    (void)e; /* a graph of shapes cannot fail */
    begin_graph(&g->b, g->r, g->shape, true, g->how->pixels);
    g->b.f.recompute = layers;
    if (g->how->teacher && g->how->teacher->loss == LOSS_LAYERS) {
        model_hidden_loss(g->shape, g->r->tape, &g->b.f, 1, &(struct hidden){.to = NULL});
    } else if (g->how->teacher) {
        const struct top_logits said = teacher_lists(g->how->teacher, g->shape->head->t.rows);
        model_distill(g->shape, g->r->tape, &g->b.f, &(struct distill){.teacher = &said});
    } else {
        model_loss(g->shape, g->r->tape, &g->b.f, 1);
    }
    *bytes = whole(&g->b, tape_bytes(g->r->tape));
    return true;
}

/* Of the current graph, of which layers' forward products are made again. */
static double flop_a_token(const struct dry_batch *b, const struct run *r, double again)
{
    const struct flop f = tape_flop(r->tape);

    return (flop_all(f) + again * f.forward) / (double)b->buffer.batch.tokens;
}

bool dry_activations(struct run *r, struct model *shape, const struct dry_graph *how,
                     struct dry_cost *c, int64_t *recomputed, struct err *e)
{
    struct loss_graph g = {.r = r, .shape = shape, .how = how};
    struct room_graph fit = {.build = build_loss, .arg = &g, .room = how->room};
    const double layers = (double)shape->cfg.text.num_hidden_layers;
    bool ok = open_batch(&g.b, &r->train, how->n, false, e) && room_recompute(r, shape, &fit, e);

    *c = (struct dry_cost){fit.bytes, ok ? flop_a_token(&g.b, r, (double)fit.layers / layers) : 0};
    *recomputed = fit.layers;
    close_batch(&g.b, r);
    return ok;
}

bool dry_teacher(struct run *r, struct model *shape, const struct dry_graph *g, struct dry_cost *c,
                 struct err *e)
{
    const struct top_logits lists = teacher_lists(g->teacher, shape->head->t.rows);
    struct dry_batch b;
    bool ok = open_batch(&b, &r->train, g->n, false, e);

    if (ok) {
        begin_graph(&b, r, shape, false, false);
        if (g->teacher->loss == LOSS_LAYERS)
            model_hidden(shape, r->tape, &b.f, NULL);
        else
            model_top_logits(shape, r->tape, &b.f, &lists);
        c->bytes = whole(&b, tape_bytes(r->tape));
        c->flop = flop_a_token(&b, r, 0);
    }
    close_batch(&b, r);
    return ok;
}

/* Of a set's batches, that with the most tokens; and the most rows that the cache of one has. */
struct largest_batch {
    struct batch_item *items; /* [n_items] of the set, owned */
    int64_t begin, n, rows;   /* items of the batch: from `begin` on */
    int64_t tokens;           /* that it has at a time */
};

static bool find_largest(struct run *r, struct model *shape, const struct eval_set *set,
                         struct largest_batch *l, struct err *e)
{
    const struct dataset *d = &set->data;
    struct batch_room room;
    int64_t most = -1, size;

    *l = (struct largest_batch){.items = mem_new((size_t)d->n, sizeof *l->items, "samples", e)};
    if (!l->items) return false;
    for (int64_t i = 0; i < d->n; i++)
        l->items[i] = (struct batch_item){.entry = i};
    if (!batches_room(r, shape, set, &room, e) || !batches_order(d, l->items, d->n, e))
        return false;
    for (int64_t at = 0; (size = batches_next(d, l->items, d->n, at, &room)) > 0; at += size) {
        const int64_t tokens = batches_tokens(d, l->items + at, size);
        const int64_t rows = batches_rows(d, l->items + at, size, &room);
        if (rows > l->rows) l->rows = rows;
        if (tokens <= most) continue;
        most = tokens;
        l->begin = at;
        l->n = size;
        l->tokens = tokens < room.rows ? tokens : room.rows;
    }
    return true;
}

static void answers_graph(struct dry_batch *b, struct run *r, struct model *shape)
{
    const struct batch *batch = &b->buffer.batch;

    begin_graph(b, r, shape, false, false);
    if (!scorer_of(&r->c)->generates) {
        model_loss(shape, r->tape, &b->f, 1);
        return;
    }
    int32_t *last = tape_new_array(r->tape, int32_t, batch->samples);
    for (int64_t s = 0; s < batch->samples; s++)
        last[s] = (int32_t)batch->begin[s + 1] - 1;
    model_logits(shape, r->tape, &b->f, last, batch->samples);
}

bool dry_answers(struct run *r, struct model *shape, const struct eval_set *set, size_t *graph,
                 int64_t *cached, struct err *e)
{
    const struct dataset *d = &set->data;
    struct largest_batch l;
    struct dry_batch b;
    int64_t *entry = NULL;
    bool ok = find_largest(r, shape, set, &l, e) &&
              (entry = mem_new((size_t)l.n, sizeof *entry, "samples", e)) != NULL;

    begin_batch(&b, 1);
    for (int64_t i = 0; ok && i < l.n; i++)
        entry[i] = l.items[l.begin + i].entry;
    ok = ok && open_entries(&b, d, entry, l.n, scorer_of(&r->c)->needs_question, e);
    if (ok && d->o.window) /* one window of each is in the graph */
        b.times = (double)l.tokens / (double)b.buffer.batch.tokens;
    if (ok) {
        answers_graph(&b, r, shape);
        *graph = whole(&b, tape_bytes(r->tape));
        *cached = l.rows;
    }
    close_batch(&b, r);
    free(l.items);
    free(entry);
    return ok;
}

/* How many of the longest samples make one graph. */
static int64_t layer_samples(const struct dataset *d)
{
    int64_t n = d->longest > 0 ? LAYERWISE_TOKENS / d->longest : 1;

    if (n > d->n) n = d->n;
    return n > 1 ? n : 1;
}

bool dry_layer(struct run *r, struct model *shape, unsigned looks, size_t *bytes, int64_t *tokens,
               struct err *e)
{
    struct tensor x, *q = NULL, *k = NULL, *h = NULL, *a = NULL, *mid = NULL;
    struct attention attention = {.parts = 0};
    struct taps taps = {.x = looks & LOOK_X ? &h : NULL,
                        .q = looks & LOOK_QK ? &q : NULL,
                        .k = looks & LOOK_QK ? &k : NULL,
                        .a = looks & LOOK_A ? &a : NULL,
                        .mid = looks & LOOK_A ? &mid : NULL,
                        .attention = looks & LOOK_ATTENTION ? &attention : NULL};
    struct dry_batch b;
    bool ok = open_batch(&b, &r->train, layer_samples(&r->train), false, e);

    if (ok) {
        tape_begin(r->tape, false);
        b.f.taps = &taps;
        *tokens = b.buffer.batch.tokens;
        x = tensor_leaf(DT_F32, *tokens, shape->cfg.text.hidden_size, NULL);
        model_layer(shape, r->tape, &b.f, 0, &x, false);
        *bytes = tape_bytes(r->tape);
    }
    close_batch(&b, r);
    return ok;
}

size_t dry_picture(struct run *r, struct model *shape, const struct picture_shape *picture)
{
    struct tensor pixels = tensor_leaf(DT_F32, picture->inputs, hf_input_width(&shape->cfg), NULL);
    size_t bytes;

    tape_begin(r->tape, false);
    tape_keep(model_vision(shape, r->tape, &pixels, picture, 1));
    bytes = tape_bytes(r->tape);
    tape_begin(r->tape, false);
    return bytes;
}
