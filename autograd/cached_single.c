/* cached_single.c - attention over a cache of one query a sequence, as in decoding: reading and
 * unpacking the cache is much of the work, and done once, row by row, for scores and values alike.
 *
 * A task takes a chunk of a sequence's keys, a tile at a time, and keeps for each head the largest
 * score so far, top, the sum of the weights exp(s - top), and that of the values times these; they
 * are rescaled when a tile has a larger score. With several modalities (split_modalities) there are
 * sums of each, under one top. Then the chunks' sums are added up under the largest top of all, in
 * order (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., "Flash-Decoding", 2023). Chunks and
 * tiles follow from the keys' places alone, so that neither threads nor other
 * sequences change a bit. */
#include "autograd/cached_parts.h"
#include "autograd/mathfun.h"
#include "autograd/narrow_bf16.h"
#include "base/bf16.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { CHUNK = 1024, TILE = 32 }; /* keys of a task; keys at a time, or fewer of long rows: */
enum { TILE_REALS = 64 << 10, LEAST = 4 };
enum { TILE_BF16 = 96, TILE_VALUES = 256 << 10 }; /* the same of bf16 */
enum { SOME = 8 };                                /* rows unpacked before they are rounded */
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
    real *scores;        /* [keys, heads] */
    real *tops;          /* [heads] */
    real *tile[3];       /* [keys, columns] rows of the parts' keys, and of the values; or bf16 */
    real *some;          /* [SOME, columns] of bf16's: rows that are not yet rounded */
    uint32_t *weights;   /* of bf16: pairs of keys, [(keys + 1) / 2, heads] */
    uint32_t *pairs;     /* and of their values, if heads share them */
    const real *queries; /* of each sequence, as prepare() has them: shared by all tasks */
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
    const bool bf16 = gemm_few() == FEW_BF16;
    const int64_t most = bf16 ? TILE_BF16 : TILE;
    const int64_t fit =
        (bf16 ? TILE_VALUES : TILE_REALS) / (columns(a, 0) + columns(a, 1) + columns(a, 2));

    return fit < LEAST ? LEAST : fit > most ? most : fit;
}

static int64_t tile_ld(const struct cached_attention *a, int i)
{
    return (columns(a, i) + APART - 1) / APART * APART + APART;
}

/* Many heads read a value, again and again. */
static bool values_shared(const struct cached_attention *a)
{
    return a->v_groups * SHARED <= a->heads;
}

/* The room's parts in order, in reals: tops and scores, tiles, `some`, weights, pairs. */
enum { PARTS = 7 };
static void part_sizes(const struct cached_attention *a, int64_t size[PARTS])
{
    const int64_t keys = tile_keys(a), lines = (keys + 1) / 2;
    const bool bf16 = gemm_few() == FEW_BF16;
    int64_t widest = 0;

    size[0] = (keys + 1) * a->heads;
    for (int i = 0; i < 3; i++) {
        size[1 + i] = (bf16 ? lines : keys) * tile_ld(a, i);
        widest = columns(a, i) > widest ? columns(a, i) : widest;
    }
    size[4] = bf16 ? SOME * widest : 0;
    size[5] = bf16 ? lines * a->heads : 0;
    size[6] = bf16 && values_shared(a) ? lines * bf16_columns(a->v->cols) + BF16_STEP : 0;
}

static int64_t room_size(const struct cached_attention *a)
{
    int64_t size[PARTS], sum = 0;

    part_sizes(a, size);
    for (int i = 0; i < PARTS; i++)
        sum += size[i];
    return sum;
}

static struct room room_at(const struct cached_attention *a, real *memory)
{
    int64_t size[PARTS];
    real *at[PARTS];

    part_sizes(a, size);
    for (int i = 0; i < PARTS; memory += size[i++])
        at[i] = memory;
    return (struct room){.scores = at[0] + a->heads,
                         .tops = at[0],
                         .tile = {at[1], at[2], at[3]},
                         .some = at[4],
                         .weights = (void *)at[5],
                         .pairs = (void *)at[6]};
}

/* n keys, all of one modality; their rows. */
struct tile {
    const struct cached_sequence *seq;
    int64_t k0, n;
    enum modality m;
    struct mat k[2], v;
};

/* The queries of a part, by modality, are turned to [width, heads] where one key has many: a row of
 * these, in vectors of heads, then meets all keys of a tile. Others are few, and stay
 * in a core's cache. */
static bool is_turned(const struct cached_attention *a, const struct cached_part *p)
{
    return p->k_groups == 1 && a->heads >= SHARED;
}

/* Rows that are read once for a head or few, and may be bf16. */
static bool read_once(const struct cached_attention *a, int i)
{
    return i < 2 ? !is_turned(a, &a->part[i]) && (values_apart(a) || !values_shared(a))
                 : !values_shared(a);
}

/* The rows that a tile of a packed cache is of. */
static struct row_sequence held_rows(const struct cached_attention *a, const struct tile *t,
                                     const struct tensor *c)
{
    return row_sequence_at(c->form, c->data, t->seq->k_begin / a->capacity, a->capacity, c->cols);
}

/* The tile's rows in a cache of bf16; the newest key is not among them. */
static const uint16_t *plain_rows(const struct cached_attention *a, const struct tile *t,
                                  const struct tensor *c)
{
    if (c->dtype != DT_PACKED || t->k0 >= t->seq->position) return NULL;
    const struct row_sequence rows = held_rows(a, t, c);
    return row_plain(&rows, t->k0);
}

static void round_to_bf16(real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = bf16_round((float)x[i]);
}

/* The tile's rows from a cache of a form that does it at once. */
static bool unpack_bf16(const struct cached_attention *a, const struct tile *t,
                        const struct tensor *c, uint16_t *to, int64_t ld)
{
    if (c->dtype != DT_PACKED || t->k0 >= t->seq->position) return false;
    const struct row_sequence rows = held_rows(a, t, c);
    for (int64_t k = 0; k < t->n; k++)
        if (!row_bf16(&rows, t->k0 + k, to + k * ld)) return false;
    return true;
}

/* Whole rows of part i, or of the values, 2, rounded to bf16; bf16 is read where it is. */
static struct mat tile_bf16(const struct cached_attention *a, const struct room *r,
                            const struct tile *t, int i, const struct cached_source *from)
{
    const uint16_t *plain = plain_rows(a, t, from->cache);
    const int64_t cols = from->cache->cols, ld = tile_ld(a, i);
    uint16_t *to = (void *)r->tile[i];

    if (plain) return (struct mat){plain, DT_BF16, cols, false};
    if (unpack_bf16(a, t, from->cache, to, ld)) return (struct mat){to, DT_BF16, ld, false};
    for (int64_t k = 0, n; k < t->n; k += n) {
        n = t->n - k < SOME ? t->n - k : SOME;
        const struct row_part rows = {
            .from = t->k0 + k, .end = t->k0 + k + n, .c1 = cols, .ld = cols};
        const struct mat m = cached_rows(a, from, t->seq, &rows, r->some);
        for (int64_t j = 0; j < n; j++)
            bf16_row((const real *)m.data + j * m.ld, cols, to + (k + j) * ld);
    }
    return (struct mat){to, DT_BF16, ld, false};
}

/* Whole rows of part i, or of the values, 2. A cache of reals is read where it is, but for values
 * that many heads read. */
static struct mat tile_part(const struct cached_attention *a, const struct room *r,
                            const struct tile *t, int i, const struct cached_source *from)
{
    const struct row_part rows = {
        .from = t->k0, .end = t->k0 + t->n, .c1 = from->cache->cols, .ld = tile_ld(a, i)};
    const bool rounds = gemm_few() == FEW_ROUNDED;

    if (gemm_few() == FEW_BF16) return tile_bf16(a, r, t, i, from);
    const uint16_t *plain = read_once(a, i) ? plain_rows(a, t, from->cache) : NULL;
    if (plain) return (struct mat){plain, DT_BF16, rows.c1, false};
    const struct mat m = cached_rows(a, from, t->seq, &rows, r->tile[i]);
    const bool there = m.data == r->tile[i];
    if (!rounds && (there || from->cache != a->v || !values_shared(a))) return m;
    for (int64_t k = 0; k < t->n; k++) {
        real *row = r->tile[i] + k * rows.ld;
        if (!there) memcpy(row, (const real *)m.data + k * m.ld, (size_t)rows.c1 * sizeof *row);
        if (rounds) round_to_bf16(row, rows.c1);
    }
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

/* Reals of one query of a part as prepare() leaves it. */
static int64_t query_size(const struct cached_attention *a, const struct cached_part *p)
{
    const bool turned = is_turned(a, p);
    const enum gemm_few how = gemm_few();

    if (how == FEW_BF16)
        return turned ? (p->width + 1) / 2 * bf16_columns(a->heads)
                      : bf16_columns(a->heads * p->width) / 2;
    return turned || how == FEW_ROUNDED ? a->heads * p->width : 0;
}

static int64_t queries_size(const struct cached_attention *a)
{
    int64_t size = 0;

    for (int i = 0; i < a->parts; i++)
        size += queries(&a->part[i]) * query_size(a, &a->part[i]);
    return size;
}

/* To [width, heads] by pairs of the width, each a word. */
static void turn_words(const real *x, int64_t heads, int64_t width, uint16_t *to)
{
    const int64_t ld = bf16_columns(heads);

    memset(to, 0, (size_t)((width + 1) / 2 * ld) * 2 * sizeof *to);
    for (int64_t c = 0; c < width; c++)
        for (int64_t h = 0; h < heads; h++)
            to[(c / 2 * ld + h) * 2 + c % 2] = bf16_from_f32((float)x[h * width + c]);
}

static void prepare_query(const struct cached_attention *a, const struct cached_part *p,
                          const real *x, real *to)
{
    const enum gemm_few how = gemm_few();
    const int64_t n = a->heads * p->width;

    if (how == FEW_BF16) {
        if (is_turned(a, p))
            turn_words(x, a->heads, p->width, (void *)to);
        else
            bf16_row(x, n, (void *)to);
        return;
    }
    if (is_turned(a, p))
        for (int64_t c = 0; c < p->width; c++)
            for (int64_t h = 0; h < a->heads; h++)
                to[c * a->heads + h] = x[h * p->width + c];
    else if (how == FEW_ROUNDED)
        memcpy(to, x, (size_t)n * sizeof *to);
    if (how == FEW_ROUNDED) round_to_bf16(to, n);
}

/* Queries as the products read them: turned, rounded or both, or not at all. */
static void prepare(const struct cached_attention *a, const struct cached_sequence *seq, real *to)
{
    for (int i = 0; i < a->parts; i++) {
        const struct cached_part *p = &a->part[i];
        const int64_t size = query_size(a, p);
        for (int m = 0; size && m < queries(p); m++, to += size)
            prepare_query(a, p, tensor_real(p->q[m]) + seq->q_begin * p->q[m]->cols + p->q_col, to);
    }
}

/* What the next tile, if it is as long, will read of a cache: bf16_sums fetches it, or nothing
 * would while products take the time. */
struct ahead {
    const void *begin;
    int64_t bytes;
};
static struct ahead rows_ahead(const struct cached_attention *a, const struct tile *t,
                               const struct tensor *c)
{
    const int64_t at = t->k0 + t->n;

    if (c->dtype == DT_REAL)
        return (struct ahead){tensor_real(c) + (t->seq->k_begin + at) * c->cols,
                              t->n * c->cols * (int64_t)sizeof(real)};
    if (c->form->run) return (struct ahead){NULL, 0};
    const struct row_sequence rows = held_rows(a, t, c);
    return (struct ahead){row_held(&rows, at), t->n * row_form_bytes(c->form, c->cols)};
}

/* Scores of the keys of a part under the query that prepare() has left, or else the tensor's. */
static void part_scores(const struct cached_attention *a, const struct tile *t, int i,
                        const real *query, real *scores)
{
    enum { FETCHED = 12 }; /* rows: a tile of bf16_sums ahead */
    const struct cached_part *p = &a->part[i];
    const struct mat k = t->k[i];
    const int64_t H = a->heads;
    const bool bf16 = gemm_few() == FEW_BF16, plain = k.ld == p->k->cols;
    const struct ahead ahead =
        plain ? (struct ahead){(const uint16_t *)k.data + FETCHED * k.ld, 2 * t->n * k.ld}
              : rows_ahead(a, t, p->k);
    const struct narrow_heads heads = {.heads = H,
                                       .per = H / p->k_groups,
                                       .width = p->width,
                                       .keys = t->n,
                                       .ld = k.ld,
                                       .rows = k.data,
                                       .bf16 = k.dtype == DT_BF16,
                                       .add = i > 0,
                                       .alpha = (real)a->scale,
                                       .q = query,
                                       .scores = scores};

    if (bf16 && is_turned(a, p))
        bf16_sums(&(struct bf16_sums){.M = t->n,
                                      .N = H,
                                      .K = p->width,
                                      .a = k.data,
                                      .row = 2 * k.ld,
                                      .step = 4,
                                      .b = (const void *)query,
                                      .ldb = bf16_columns(H),
                                      .alpha = (real)a->scale,
                                      .add = i > 0,
                                      .c = scores,
                                      .ldc = H,
                                      .next = ahead.begin,
                                      .next_bytes = ahead.bytes});
    else if (bf16)
        bf16_scores(&heads, (const void *)query);
    else if (is_turned(a, p))
        narrow_sums(t->n, H, p->width, (real)a->scale, k, mat_of(query, H, false), i > 0, scores,
                    H);
    else
        narrow_scores(&heads);
}

static void tile_scores(const struct cached_attention *a, const struct tile *t,
                        const real *prepared, real *scores)
{
    const int64_t row = t->seq->q_begin, H = a->heads;

    for (int i = 0; i < a->parts; i++) {
        const struct cached_part *p = &a->part[i];
        const int64_t of = queries(p) > 1 ? (int64_t)t->m : TEXT; /* the query of these keys */
        const int64_t size = query_size(a, p);
        part_scores(a, t, i,
                    size ? prepared + of * size
                         : tensor_real(p->q[of]) + row * p->q[of]->cols + p->q_col,
                    scores);
        prepared += queries(p) * size;
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

/* Weights of two keys as words. */
static void pair_weights(const real *w, int64_t n, int64_t heads, uint32_t *to)
{
    for (int64_t k = 0; k < n; k += 2, w += 2 * heads, to += heads)
        for (int64_t h = 0; h < heads; h++) {
            const uint32_t second = k + 1 < n ? bf16_from_f32((float)w[heads + h]) : 0;
            to[h] = bf16_from_f32((float)w[h]) | second << 16;
        }
}

/* From scores to weights under the heads' tops; adds them to the totals. */
static void tile_weights(const struct cached_attention *a, const struct tile *t,
                         const struct room *r, const struct sums *s, const bool *begun)
{
    real *scores = r->scores, *tops = r->tops;
    const int64_t H = a->heads;
    real *total = s->total + (a->split_modalities ? (int64_t)t->m * H : 0);

    for (int64_t h = 0; h < H; h++)
        tops[h] = s->top[h];
    for (int64_t k = 0; k < t->n; k++)
        for (int64_t h = 0; h < H; h++)
            tops[h] = scores[k * H + h] > tops[h] ? scores[k * H + h] : tops[h];
    for (int64_t h = 0; h < H; h++) {
        if (!(tops[h] > s->top[h])) continue;
        rescale(a, s, h, real_exp(s->top[h] - tops[h]), begun);
        s->top[h] = tops[h];
    }
    for (int64_t k = 0; k < t->n; k++)
        for (int64_t h = 0; h < H; h++) {
            scores[k * H + h] = real_exp(scores[k * H + h] - s->top[h]);
            total[h] += scores[k * H + h];
        }
    if (gemm_few() == FEW_ROUNDED) round_to_bf16(scores, t->n * H);
    if (gemm_few() == FEW_BF16) pair_weights(scores, t->n, H, r->weights);
}

/* Group by group: heads that share its values. */
static void shared_values(const struct cached_attention *a, const struct tile *t,
                          const struct room *r, bool add, real *o)
{
    const int64_t per = a->heads / a->v_groups;
    const bool bf16 = gemm_few() == FEW_BF16;

    const struct ahead ahead =
        a->parts > 1 ? rows_ahead(a, t, a->part[0].k) : (struct ahead){NULL, 0};

    if (bf16) bf16_pairs(t->v.data, t->v.ld, t->n, a->v->cols, r->pairs);
    for (int64_t g = 0; g < a->v_groups; g++, o += per * a->v_width) {
        if (!bf16) {
            narrow_sums(per, a->v_width, t->n, 1, mat_of(r->scores + g * per, a->heads, true),
                        columns_at(t->v, g * a->v_width), add, o, a->v_width);
            continue;
        }
        bf16_sums(&(struct bf16_sums){.M = per,
                                      .N = a->v_width,
                                      .K = t->n,
                                      .a = r->weights + g * per,
                                      .row = 4,
                                      .step = 4 * a->heads,
                                      .b = r->pairs + g * a->v_width,
                                      .ldb = bf16_columns(a->v->cols),
                                      .alpha = 1,
                                      .add = add,
                                      .c = o,
                                      .ldc = a->v_width,
                                      .next = ahead.begin,
                                      .next_bytes = ahead.bytes});
    }
}

static void tile_values(const struct cached_attention *a, const struct tile *t,
                        const struct room *r, const struct sums *s, bool add)
{
    real *o = s->o + (a->split_modalities ? (int64_t)t->m * a->heads * a->v_width : 0);
    const struct narrow_heads heads = {.heads = a->heads,
                                       .per = a->heads / a->v_groups,
                                       .width = a->v_width,
                                       .keys = t->n,
                                       .ld = t->v.ld,
                                       .rows = t->v.data,
                                       .bf16 = t->v.dtype == DT_BF16,
                                       .add = add,
                                       .scores = r->scores,
                                       .sums = o};

    if (values_shared(a))
        shared_values(a, t, r, add, o);
    else if (gemm_few() == FEW_BF16)
        bf16_values(&heads, r->weights);
    else
        narrow_values(&heads);
}

/* The keys [k0, end) of a sequence. */
static void chunk_sums(const struct cached_attention *a, const struct cached_sequence *seq,
                       int64_t k0, int64_t end, const struct room *r, const struct sums *s)
{
    const real *prepared = r->queries + (seq - a->seq) * queries_size(a);
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
        tile_scores(a, &t, prepared, r->scores);
        tile_weights(a, &t, r, s, begun);
        tile_values(a, &t, r, s, begun[slot]);
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
    return a->n_seq * (most_chunks(a) * sums_size(a) + queries_size(a)) + threads * room_size(a);
}

void cached_single(const struct cached_attention *a, int threads, real *scratch, struct tensor *out)
{
    const int64_t most = most_chunks(a), size = sums_size(a);
    real *prepared = scratch + a->n_seq * most * size,
         *rooms = prepared + a->n_seq * queries_size(a);

#pragma omp parallel num_threads(threads)
    {
        struct room r = room_at(a, rooms + omp_get_thread_num() * room_size(a));
        r.queries = prepared;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < a->n_seq; i++)
            prepare(a, &a->seq[i], prepared + i * queries_size(a));
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
