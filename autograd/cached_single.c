/* cached_single.c - attention over a cache of one query a sequence, as in decoding: reading and unpacking
 * the cache is much of the work, and done once, row by row, for scores and values alike.
 *
 * A task takes a chunk of a sequence's keys, a tile at a time, and keeps for each head the largest
 * score so far, top, the sum of the weights exp(s - top), and that of the values times these; they are
 * rescaled when a tile has a larger score. With several modalities (split_modalities) there are sums of
 * each, under one top. Then the chunks' sums are added up under the largest top of all, in order
 * (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., "Flash-Decoding", 2023). Chunks and tiles
 * follow from the keys' places alone, so that neither threads nor other sequences change a bit. */
#include "autograd/cached_parts.h"
#include "autograd/mathfun.h"
#include "autograd/narrow.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { CHUNK = 1024, TILE = 32 }; /* keys of a task; keys at a time, or fewer of long rows: */
enum { TILE_REALS = 64 << 10, LEAST = 4 };
enum { SHARED = 8 }; /* query heads of one key from which on these are turned first */
/* Rows that are a power of two apart would share few places in L1. */
enum { APART = 16 };

static int64_t slots(const struct cached_attention *a)
{
    return a->split_modalities ? MODALITIES : 1;
}

/* What a task leaves of its chunk. */
struct sums {
    real *top;   /* [heads] */
    real *total; /* [slots, heads] */
    real *o;     /* [slots, heads, v_width] */
};

static int64_t sums_size(const struct cached_attention *a)
{
    return a->heads * (1 + slots(a) * (1 + a->v_width));
}

static struct sums sums_at(const struct cached_attention *a, real *memory)
{
    real *total = memory + a->heads;

    return (struct sums){memory, total, total + slots(a) * a->heads};
}

/* What a task works with. */
struct room {
    real *scores;       /* [keys, heads] */
    real *tile[3];      /* [keys, columns] rows of the parts' keys, and of the values */
    const real *turned; /* of each sequence: shared by all tasks */
};

/* The values have rows of their own: they aren't the last part's keys too. */
static bool values_apart(const struct cached_attention *a)
{
    const struct cached_part *last = &a->part[a->parts - 1];

    return a->v != last->k || a->v_fresh != last->fresh;
}

/* Columns of a row of part i, or of the values, 2. */
static int64_t columns(const struct cached_attention *a, int i)
{
    if (i < 2) return i < a->parts ? a->part[i].k->cols : 0;
    return values_apart(a) ? a->v->cols : 0;
}

static int64_t tile_keys(const struct cached_attention *a)
{
    const int64_t fit = TILE_REALS / (columns(a, 0) + columns(a, 1) + columns(a, 2));

    return fit < LEAST ? LEAST : fit > TILE ? TILE : fit;
}

static int64_t tile_ld(const struct cached_attention *a, int i)
{
    return (columns(a, i) + APART - 1) / APART * APART + APART;
}

static int64_t room_size(const struct cached_attention *a)
{
    return tile_keys(a) * (a->heads + tile_ld(a, 0) + tile_ld(a, 1) + tile_ld(a, 2));
}

static struct room room_at(const struct cached_attention *a, real *memory)
{
    struct room r = {.scores = memory};

    r.tile[0] = memory + tile_keys(a) * a->heads;
    for (int i = 0; i < 2; i++)
        r.tile[i + 1] = r.tile[i] + tile_keys(a) * tile_ld(a, i);
    return r;
}

/* n keys, all of one modality; their rows. */
struct tile {
    const struct cached_sequence *seq;
    int64_t k0, n;
    enum modality m;
    struct mat k[2], v;
};

/* The queries of a part, by modality, are turned to [width, heads] where one key has many: a row of
 * these, in vectors of heads, then meets all keys of a tile. Others are few, and stay in a core's cache. */
static bool is_turned(const struct cached_attention *a, const struct cached_part *p)
{
    return p->k_groups == 1 && a->heads >= SHARED;
}

/* Many heads read a value, again and again. */
static bool values_shared(const struct cached_attention *a)
{
    return a->v_groups * SHARED <= a->heads;
}

/* Rows that are read once for a head or few, and may be bf16. */
static bool read_once(const struct cached_attention *a, int i)
{
    return i < 2 ? !is_turned(a, &a->part[i]) && (values_apart(a) || !values_shared(a))
                 : !values_shared(a);
}

/* The tile's rows in a cache of bf16; the newest key is not among them. */
static const uint16_t *plain_rows(const struct cached_attention *a, const struct tile *t,
                                  const struct tensor *c)
{
    if (c->dtype != DT_PACKED || t->k0 >= t->seq->position) return NULL;
    const struct row_sequence rows =
        row_sequence_at(c->form, c->data, t->seq->k_begin / a->capacity, a->capacity, c->cols);
    return row_plain(&rows, t->k0);
}

/* Whole rows of part i, or of the values, 2. A cache of reals is read where it is, but for values that
 * many heads read. */
static struct mat tile_part(const struct cached_attention *a, const struct room *r,
                            const struct tile *t, int i, const struct cached_source *from)
{
    const struct row_part rows = {
        .from = t->k0, .end = t->k0 + t->n, .c1 = from->cache->cols, .ld = tile_ld(a, i)};
    const uint16_t *plain = read_once(a, i) ? plain_rows(a, t, from->cache) : NULL;

    if (plain) return (struct mat){plain, DT_BF16, rows.c1, false};
    const struct mat m = cached_rows(a, from, t->seq, &rows, r->tile[i]);
    if (m.data == r->tile[i] || from->cache != a->v || !values_shared(a)) return m;
    for (int64_t k = 0; k < t->n; k++)
        memcpy(r->tile[i] + k * rows.ld, (const real *)m.data + k * m.ld,
               (size_t)rows.c1 * sizeof(real));
    return mat_of(r->tile[i], rows.ld, false);
}

static void tile_rows(const struct cached_attention *a, const struct room *r, struct tile *t)
{
    for (int i = 0; i < a->parts; i++) {
        const struct cached_part *p = &a->part[i];
        t->k[i] = tile_part(a, r, t, i, &(struct cached_source){p->k, p->fresh});
    }
    t->v = values_apart(a) ? tile_part(a, r, t, 2, &(struct cached_source){a->v, a->v_fresh})
                           : t->k[a->parts - 1];
}

/* to[n] += f x[n] */
static void add_scaled(real *to, const real *x, real f, int64_t n)
{
    for (int64_t c = 0; c < n; c++)
        to[c] += f * x[c];
}

/* Columns of a row of one head or group, from c on. */
static struct mat columns_at(struct mat m, int64_t c)
{
    m.data = (const real *)m.data + c;
    return m;
}

/* How many different queries a part has: one of each modality, or one for all keys. */
static int64_t queries(const struct cached_part *p)
{
    return p->q[IMAGE] ? MODALITIES : 1;
}

static int64_t turned_size(const struct cached_attention *a)
{
    int64_t size = 0;

    for (int i = 0; i < a->parts; i++)
        if (is_turned(a, &a->part[i])) size += queries(&a->part[i]) * a->heads * a->part[i].width;
    return size;
}

static void turn(const struct cached_attention *a, const struct cached_sequence *seq, real *to)
{
    for (int i = 0; i < a->parts; i++) {
        const struct cached_part *p = &a->part[i];
        for (int m = 0; is_turned(a, p) && m < queries(p); m++, to += a->heads * p->width) {
            const real *x = tensor_real(p->q[m]) + seq->q_begin * p->q[m]->cols + p->q_col;
            for (int64_t c = 0; c < p->width; c++)
                for (int64_t h = 0; h < a->heads; h++)
                    to[c * a->heads + h] = x[h * p->width + c];
        }
    }
}

static void tile_scores(const struct cached_attention *a, const struct tile *t, const real *turned,
                        real *scores)
{
    const int64_t row = t->seq->q_begin, H = a->heads;

    for (int i = 0; i < a->parts; i++) {
        const struct cached_part *p = &a->part[i];
        const int64_t of = queries(p) > 1 ? (int64_t)t->m : TEXT; /* the query of these keys */
        if (is_turned(a, p)) {
            narrow_sums(t->n, H, p->width, (real)a->scale, t->k[i],
                        mat_of(turned + of * H * p->width, H, false), i > 0, scores, H);
            turned += queries(p) * H * p->width;
            continue;
        }
        narrow_scores(
            &(struct narrow_heads){.heads = H,
                                   .per = H / p->k_groups,
                                   .width = p->width,
                                   .keys = t->n,
                                   .ld = t->k[i].ld,
                                   .rows = t->k[i].data,
                                   .bf16 = t->k[i].dtype == DT_BF16,
                                   .add = i > 0,
                                   .alpha = (real)a->scale,
                                   .q = tensor_real(p->q[of]) + row * p->q[of]->cols + p->q_col,
                                   .scores = scores});
    }
    const struct tensor *bias = a->key_bias[t->m]; /* the same for all keys of a modality */
    for (int64_t k = 0; bias && k < t->n; k++)
        add_scaled(scores + k * H, tensor_real(bias) + row * H, (real)a->scale, H);
}

/* Head h's sums so far, times f. */
static void rescale(const struct cached_attention *a, const struct sums *s, int64_t h, real f,
                    const bool *begun)
{
    for (int64_t slot = 0; slot < slots(a); slot++) {
        real *o = s->o + (slot * a->heads + h) * a->v_width;
        if (!begun[slot]) continue;
        s->total[slot * a->heads + h] *= f;
        for (int64_t c = 0; c < a->v_width; c++)
            o[c] *= f;
    }
}

/* From scores to weights under the heads' tops; adds them to the totals. */
static void tile_weights(const struct cached_attention *a, const struct tile *t, real *scores,
                         const struct sums *s, const bool *begun)
{
    const int64_t H = a->heads;
    real *total = s->total + (a->split_modalities ? (int64_t)t->m * H : 0);

    for (int64_t h = 0; h < H; h++) {
        real top = s->top[h];
        for (int64_t k = 0; k < t->n; k++)
            top = scores[k * H + h] > top ? scores[k * H + h] : top;
        if (!(top > s->top[h])) continue;
        rescale(a, s, h, real_exp(s->top[h] - top), begun);
        s->top[h] = top;
    }
    for (int64_t k = 0; k < t->n; k++)
        for (int64_t h = 0; h < H; h++) {
            scores[k * H + h] = real_exp(scores[k * H + h] - s->top[h]);
            total[h] += scores[k * H + h];
        }
}

static void tile_values(const struct cached_attention *a, const struct tile *t, real *scores,
                        const struct sums *s, bool add)
{
    const int64_t per = a->heads / a->v_groups;
    real *o = s->o + (a->split_modalities ? (int64_t)t->m * a->heads * a->v_width : 0);

    if (!values_shared(a)) {
        narrow_values(&(struct narrow_heads){.heads = a->heads,
                                             .per = per,
                                             .width = a->v_width,
                                             .keys = t->n,
                                             .ld = t->v.ld,
                                             .rows = t->v.data,
                                             .bf16 = t->v.dtype == DT_BF16,
                                             .add = add,
                                             .scores = scores,
                                             .sums = o});
        return;
    }

    for (int64_t g = 0; g < a->v_groups; g++)
        narrow_sums(per, a->v_width, t->n, 1, mat_of(scores + g * per, a->heads, true),
                    columns_at(t->v, g * a->v_width), add, o + g * per * a->v_width, a->v_width);
}

/* The keys [k0, end) of a sequence. */
static void chunk_sums(const struct cached_attention *a, const struct cached_sequence *seq,
                       int64_t k0, int64_t end, const struct room *r, const struct sums *s)
{
    const real *turned = r->turned + (seq - a->seq) * turned_size(a);
    const int64_t block = a->heads * a->v_width, keys = tile_keys(a);
    bool begun[MODALITIES] = {false};

    for (int64_t h = 0; h < a->heads; h++)
        s->top[h] = -(real)INFINITY;
    memset(s->total, 0, (size_t)(slots(a) * a->heads) * sizeof(real));
    for (int64_t next; k0 < end; k0 = next) {
        struct tile t = {.seq = seq, .k0 = k0};
        int64_t limit = k0 + keys < end ? k0 + keys : end;
        if (k0 < seq->position && limit > seq->position)
            limit = seq->position; /* the newest alone */
        t.m = cached_run(seq, k0, limit, &next);
        t.n = next - k0;
        const int slot = a->split_modalities ? (int)t.m : 0;
        tile_rows(a, r, &t);
        tile_scores(a, &t, turned, r->scores);
        tile_weights(a, &t, r->scores, s, begun);
        tile_values(a, &t, r->scores, s, begun[slot]);
        begun[slot] = true;
    }
    for (int64_t slot = 0; slot < slots(a); slot++)
        if (!begun[slot]) memset(s->o + slot * block, 0, (size_t)block * sizeof(real));
}

static int64_t chunks(const struct cached_sequence *s)
{
    return (s->position + CHUNK) / CHUNK; /* of position + 1 keys */
}

static int64_t most_chunks(const struct cached_attention *a)
{
    int64_t n = 0;

    for (int64_t i = 0; i < a->n_seq; i++)
        n = chunks(&a->seq[i]) > n ? chunks(&a->seq[i]) : n;
    return n;
}

/* Head h of a sequence from the sums of its chunks, which are `memory` on. */
static void combine(const struct cached_attention *a, const struct cached_sequence *seq, int64_t h,
                    real *memory, struct tensor *out)
{
    const int64_t n = chunks(seq), S = slots(a), w = a->v_width;
    real *row = tensor_real(out) + seq->q_begin * out->cols, top = -(real)INFINITY, all = 0;

    for (int64_t i = 0; i < n; i++) {
        const real x = sums_at(a, memory + i * sums_size(a)).top[h];
        top = x > top ? x : top;
    }
    for (int64_t i = 0; i < n; i++) {
        const struct sums s = sums_at(a, memory + i * sums_size(a));
        for (int64_t slot = 0; slot < S; slot++)
            all += real_exp(s.top[h] - top) * s.total[slot * a->heads + h];
    }
    for (int64_t slot = 0; slot < S; slot++) {
        real *o = row + (slot * a->heads + h) * w, weight = 0;
        memset(o, 0, (size_t)w * sizeof *o);
        for (int64_t i = 0; i < n; i++) {
            const struct sums s = sums_at(a, memory + i * sums_size(a));
            const real f = real_exp(s.top[h] - top) / all;
            add_scaled(o, s.o + (slot * a->heads + h) * w, f, w);
            weight += f * s.total[slot * a->heads + h];
        }
        if (a->weights) row[S * a->heads * w + slot * a->heads + h] = weight;
    }
}

bool cached_is_single(const struct cached_attention *a)
{
    bool single = !a->received;

    for (int64_t i = 0; i < a->n_seq; i++)
        single &= a->seq[i].q_end - a->seq[i].q_begin == 1;
    return single;
}

int64_t cached_single_scratch(const struct cached_attention *a, int threads)
{
    return a->n_seq * (most_chunks(a) * sums_size(a) + turned_size(a)) + threads * room_size(a);
}

void cached_single(const struct cached_attention *a, int threads, real *scratch, struct tensor *out)
{
    const int64_t most = most_chunks(a), size = sums_size(a);
    real *turned = scratch + a->n_seq * most * size, *rooms = turned + a->n_seq * turned_size(a);

#pragma omp parallel num_threads(threads)
    {
        struct room r = room_at(a, rooms + omp_get_thread_num() * room_size(a));
        r.turned = turned;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < a->n_seq; i++)
            turn(a, &a->seq[i], turned + i * turned_size(a));
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t i = 0; i < a->n_seq; i++)
            for (int64_t k = 0; k < most; k++) {
                const struct cached_sequence *seq = &a->seq[i];
                const int64_t keys = seq->position + 1, k0 = k * CHUNK;
                const struct sums s = sums_at(a, scratch + (i * most + k) * size);
                if (k0 < keys)
                    chunk_sums(a, seq, k0, k0 + CHUNK < keys ? k0 + CHUNK : keys, &r, &s);
            }
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < a->n_seq; i++)
            for (int64_t h = 0; h < a->heads; h++)
                combine(a, &a->seq[i], h, scratch + i * most * size, out);
    }
}
