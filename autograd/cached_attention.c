/* cached_attention.c - inference: new queries over everything in a cache, softmax(q k^T scale) v.
 *
 * Absorbed MLA: the cache has one latent row per token for all heads (k_groups = v_groups = 1, and
 * k and v are the same tensor), and the query comes multiplied by up_k. Text and image each have
 * their own up_k, so there is a query per modality of the KEY: the score of key j uses q[modality
 * of j]. There is one softmax over all keys; with split_modalities the values are summed separately
 * by modality, because the up_v that the caller then applies to the sums differs too. Keys after
 * the last span are text: generated tokens need no spans of their own.
 *
 * Biases of the absorbed projections: a key's bias adds q b to the score, which matters only if it
 * differs by modality (key_bias; otherwise it cancels in the softmax). A value's bias must be added
 * times the total weight of its modality (weights, which sum to 1).
 *
 * Decoding is bound by reading the cache. So all heads that share a cache row become the rows of
 * one product over it: the queries are processed in blocks, and for each block
 *     1. scores[query][head][key], a task per run of KEY_TILE keys;
 *     2. softmax, a task per query;
 *     3. the weighted sums, a task per value head and run of VALUE_TILE of its columns.
 * No two tasks write to the same place, so the number of threads changes no bit. Blocks are grouped
 * into rounds whose scores fit SCORES; the rounds are fixed when the op is recorded.
 *
 * A packed cache is unpacked by these tasks, each time what one product reads, for all its heads.
 * So the products are those over the same cache of reals, bit for bit. */
#include "autograd/cached_parts.h"
#include "autograd/mathfun.h"
#include "autograd/oplist.h"
#include "autograd/row_form.h"

#include <omp.h>
#include <string.h>

enum { KEY_TILE = 64, VALUE_TILE = 128, VALUE_KEYS = 256, BLOCK_QUERIES = 64 };
enum { SCORES = 4 << 20 }; /* scores per round: 16 MiB of floats, or one query's scores if larger */

struct block {
    const struct cached_sequence *seq;
    int64_t q0, nq; /* rows of q */
    int64_t keys;   /* number seen by the last query */
    int64_t scores; /* offset of the block's scores */
};

struct args {
    struct cached_attention a;
    struct block *blocks;
    int64_t n_blocks;
    int64_t *round_end; /* the block after each round */
    int64_t n_rounds;
    int64_t scores, tile; /* reals of a round's scores; and of each thread's tile, behind them */
    int threads;
    bool single; /* by cached_single.c */
};

/* What a task works with: the scores of all, and reals of its own for what it unpacks. */
struct room {
    real *S, *tile;
};

enum modality cached_run(const struct cached_sequence *s, int64_t at, int64_t limit, int64_t *end)
{
    for (int64_t i = 0; s->spans && i < s->n_spans; i++) {
        if (at >= s->spans[i].end) continue;
        *end = s->spans[i].end < limit ? s->spans[i].end : limit;
        return s->spans[i].modality;
    }
    *end = limit;
    return TEXT;
}

/* C = alpha A B (+ C) for the `per` heads of one group and all queries of a block. Head h of query
 * i is at a + i * a_query + h * a_head, and likewise in c. The larger of the two counts becomes the
 * M of the product, and the other a loop. */
struct heads {
    const real *a;
    real *c;
    int64_t a_head, a_query, c_head, c_query, per, queries;
};
static void heads_product(const struct heads *s, int64_t N, int64_t K, real alpha, struct mat b,
                          bool add)
{
    if (s->per > s->queries) {
        for (int64_t i = 0; i < s->queries; i++)
            gemm_serial(s->per, N, K, alpha, mat_of(s->a + i * s->a_query, s->a_head, false), b,
                        add, s->c + i * s->c_query, s->c_head);
        return;
    }
    for (int64_t h = 0; h < s->per; h++)
        gemm_serial(s->queries, N, K, alpha, mat_of(s->a + h * s->a_head, s->a_query, false), b,
                    add, s->c + h * s->c_head, s->c_query);
}

struct mat cached_rows(const struct cached_attention *a, const struct cached_source *from,
                       const struct cached_sequence *s, const struct row_part *p, real *tile)
{
    const struct tensor *c = from->cache, *fresh = from->fresh;
    const int64_t newest = fresh ? s->position : INT64_MAX;
    struct row_part held = *p;

    if (c->dtype == DT_REAL)
        return mat_of(tensor_real(c) + (s->k_begin + p->from) * c->cols + p->c0, c->cols, false);
    if (held.end > newest) held.end = newest > p->from ? newest : p->from;
    const struct row_sequence rows =
        row_sequence_at(c->form, c->data, s->k_begin / a->capacity, a->capacity, c->cols);
    row_read(&rows, s->position + s->q_end - s->q_begin, &held, tile);
    for (int64_t k = held.end; k < p->end; k++)
        memcpy(tile + (k - p->from) * p->ld,
               tensor_real(fresh) + (s->q_begin + k - newest) * fresh->cols + p->c0,
               (size_t)(p->c1 - p->c0) * sizeof *tile);
    return mat_of(tile, p->ld, false);
}

/* Scores of the keys [k0, k1), all of one modality: adds one part's contribution to that of
 * the previous part. */
static void part_scores(const struct cached_attention *a, int part, const struct block *b,
                        enum modality m, int64_t k0, int64_t k1, const struct room *room)
{
    const struct cached_part *p = &a->part[part];
    const struct tensor *q = p->q[m] ? p->q[m] : p->q[TEXT];
    int64_t per = a->heads / p->k_groups;

    for (int64_t g = 0; g < p->k_groups; g++) {
        struct heads s = {.a = tensor_real(q) + b->q0 * q->cols + p->q_col + g * per * p->width,
                          .c = room->S + b->scores + g * per * b->keys + k0,
                          .a_head = p->width,
                          .a_query = q->cols,
                          .c_head = b->keys,
                          .c_query = a->heads * b->keys,
                          .per = per,
                          .queries = b->nq};
        struct mat keys = cached_rows(
            a, &(struct cached_source){p->k, p->fresh}, b->seq,
            &(struct row_part){k0, k1, g * p->width, (g + 1) * p->width, p->width}, room->tile);
        keys.trans = true;
        heads_product(&s, k1 - k0, p->width, (real)a->scale, keys, part > 0);
    }
}

/* Adds the contribution of a key bias, the same for all keys of a modality. */
static void bias_scores(const struct cached_attention *a, const struct block *b, enum modality m,
                        int64_t k0, int64_t k1, real *S)
{
    const real *bias = tensor_real(a->key_bias[m]) + b->q0 * a->heads;

    for (int64_t i = 0; i < b->nq * a->heads; i++)
        for (int64_t k = k0; k < k1; k++)
            S[b->scores + i * b->keys + k] += (real)a->scale * bias[i];
}

static void tile_scores(const struct cached_attention *a, const struct block *b, int64_t k0,
                        const struct room *room)
{
    int64_t limit = k0 + KEY_TILE < b->keys ? k0 + KEY_TILE : b->keys, end;

    for (; k0 < limit; k0 = end) {
        enum modality m = cached_run(b->seq, k0, limit, &end);
        for (int p = 0; p < a->parts; p++)
            part_scores(a, p, b, m, k0, end, room);
        if (a->key_bias[m]) bias_scores(a, b, m, k0, end, room->S);
    }
}

/* Softmax for the heads of one query: probabilities of the keys that it sees, 0 for
 * the block's others. */
static void softmax_query(const struct cached_attention *a, const struct block *b, int64_t i,
                          real *S)
{
    int64_t seen = b->seq->position + b->q0 + i - b->seq->q_begin + 1;

    for (int64_t h = 0; h < a->heads; h++) {
        real *row = S + b->scores + (i * a->heads + h) * b->keys, top = row[0], sum = 0;
#pragma omp simd reduction(max : top)
        for (int64_t j = 0; j < seen; j++)
            top = row[j] > top ? row[j] : top;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < seen; j++) {
            row[j] = real_exp(row[j] - top);
            sum += row[j];
        }
        for (int64_t j = 0; j < seen; j++)
            row[j] /= sum;
        memset(row + seen, 0, (size_t)(b->keys - seen) * sizeof(real));
    }
}

/* For one query, the total weight of each sum of the values: the columns after those sums. */
static void weight_query(const struct cached_attention *a, const struct block *b, int64_t i,
                         const real *S, struct tensor *out)
{
    int64_t sums = a->split_modalities ? MODALITIES : 1, end;
    real *w = tensor_real(out) + (b->q0 + i) * out->cols + sums * a->heads * a->v_width;

    memset(w, 0, (size_t)(sums * a->heads) * sizeof *w);
    for (int64_t k0 = 0; k0 < b->keys; k0 = end) {
        enum modality m = cached_run(b->seq, k0, b->keys, &end);
        for (int64_t h = 0; h < a->heads; h++)
            for (int64_t k = k0; k < end; k++)
                w[(a->split_modalities ? (int64_t)m : 0) * a->heads + h] +=
                    S[b->scores + (i * a->heads + h) * b->keys + k];
    }
}

/* The sums of the columns [c0, c1) of value head g: one per modality, or a single one. Keys are
 * taken in runs whose values, unpacked, stay in a core's cache. */
static void value_sums(const struct cached_attention *a, const struct block *b, int64_t g,
                       int64_t c0, int64_t c1, const struct room *room, struct tensor *out)
{
    int64_t per = a->heads / a->v_groups, sums = a->split_modalities ? MODALITIES : 1, end;
    bool add[MODALITIES] = {false};

    for (int64_t k0 = 0; k0 < b->keys; k0 = end) {
        const int64_t limit = k0 + VALUE_KEYS < b->keys ? k0 + VALUE_KEYS : b->keys;
        enum modality m = cached_run(b->seq, k0, limit, &end);
        int64_t slot = a->split_modalities ? (int64_t)m : 0;
        struct heads s = {.a = room->S + b->scores + g * per * b->keys + k0,
                          .c = tensor_real(out) + b->q0 * out->cols +
                               (slot * a->heads + g * per) * a->v_width + c0,
                          .a_head = b->keys,
                          .a_query = a->heads * b->keys,
                          .c_head = a->v_width,
                          .c_query = out->cols,
                          .per = per,
                          .queries = b->nq};
        const struct mat v = cached_rows(
            a, &(struct cached_source){a->v, a->v_fresh}, b->seq,
            &(struct row_part){k0, end, g * a->v_width + c0, g * a->v_width + c1, c1 - c0},
            room->tile);
        heads_product(&s, c1 - c0, end - k0, 1, v, add[slot]);
        add[slot] = true;
    }
    for (int64_t slot = 0; slot < sums; slot++) /* a modality without keys */
        for (int64_t i = 0; !add[slot] && i < b->nq; i++)
            for (int64_t h = g * per; h < (g + 1) * per; h++)
                memset(tensor_real(out) + (b->q0 + i) * out->cols +
                           (slot * a->heads + h) * a->v_width + c0,
                       0, (size_t)(c1 - c0) * sizeof(real));
}

/* Adds to what head h's keys have received, query by query. */
static void add_received(const struct cached_attention *a, const struct block *b, int64_t h,
                         const real *S)
{
    const int64_t last = b->seq->q_end - 1 - b->q0; /* the block may end before it */
    real *to = a->received + h * a->v->rows + b->seq->k_begin;

    for (int64_t i = a->received_by_last ? last : 0; i < b->nq; i++) {
        const real *row = S + b->scores + (i * a->heads + h) * b->keys;
        for (int64_t k = 0; k < b->keys; k++)
            to[k] += row[k];
    }
}

/* Runs the three steps for the blocks [b0, b1) of a round. */
static void run_round(struct node *n, int64_t b0, int64_t b1)
{
    const struct args *g = n->args;
    const struct cached_attention *a = &g->a;
    real *S = n->scratch;
    int64_t tiles = 0, slices = (a->v_width + VALUE_TILE - 1) / VALUE_TILE;

    for (int64_t k = b0; k < b1; k++)
        if ((g->blocks[k].keys + KEY_TILE - 1) / KEY_TILE > tiles)
            tiles = (g->blocks[k].keys + KEY_TILE - 1) / KEY_TILE;
#pragma omp parallel num_threads(g->threads)
    {
        const struct room room = {S, S + g->scores + omp_get_thread_num() * g->tile};
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t k = b0; k < b1; k++)
            for (int64_t tile = 0; tile < tiles; tile++)
                tile_scores(a, &g->blocks[k], tile * KEY_TILE, &room);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t k = b0; k < b1; k++)
            for (int64_t i = 0; i < BLOCK_QUERIES; i++)
                if (i < g->blocks[k].nq) {
                    softmax_query(a, &g->blocks[k], i, S);
                    if (a->weights) weight_query(a, &g->blocks[k], i, S, n->out);
                }
        if (a->received) {
#pragma omp for schedule(dynamic) nowait
            for (int64_t h = 0; h < a->heads; h++)
                for (int64_t k = b0; k < b1; k++)
                    add_received(a, &g->blocks[k], h, S);
        }
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t k = b0; k < b1; k++)
            for (int64_t i = 0; i < a->v_groups * slices; i++) {
                int64_t c0 = i % slices * VALUE_TILE, c1 = c0 + VALUE_TILE;
                value_sums(a, &g->blocks[k], i / slices, c0, c1 < a->v_width ? c1 : a->v_width,
                           &room, n->out);
            }
    }
}

static void forward(struct node *n)
{
    const struct args *g = n->args;
    int64_t begin = 0;

    if (g->single) {
        cached_single(&g->a, g->threads, n->scratch, n->out);
        return;
    }
    for (int64_t r = 0; r < g->n_rounds; r++) {
        run_round(n, begin, g->round_end[r]);
        begin = g->round_end[r];
    }
}

const struct op cached_attention_op = {"cached_attention", forward, NULL};

/* How many queries a block that begins with query i of s can have for its scores to fit. */
static int64_t block_queries(const struct cached_attention *a, const struct cached_sequence *s,
                             int64_t i)
{
    int64_t n = 1, left = s->q_end - s->q_begin - i;

    while (n < BLOCK_QUERIES && n < left &&
           (n + 1) * a->heads * (s->position + i + n + 1) <= SCORES)
        n++;
    return n;
}

/* Cuts all queries into blocks and rounds; returns the largest number of scores in a round. */
static int64_t cut_blocks(struct tape *t, struct args *g, int64_t queries)
{
    int64_t used = 0, largest = 0;

    g->blocks = tape_new_array(t, struct block, queries);
    g->round_end = tape_new_array(t, int64_t, queries);
    for (int64_t k = 0; k < g->a.n_seq; k++) {
        const struct cached_sequence *s = &g->a.seq[k];
        for (int64_t i = 0; i < s->q_end - s->q_begin;) {
            int64_t n = block_queries(&g->a, s, i), keys = s->position + i + n;
            int64_t size = n * g->a.heads * keys;
            if (used > 0 && used + size > SCORES) {
                g->round_end[g->n_rounds++] = g->n_blocks;
                used = 0;
            }
            g->blocks[g->n_blocks++] = (struct block){s, s->q_begin + i, n, keys, used};
            used += size;
            if (used > largest) largest = used;
            i += n;
        }
    }
    if (g->n_blocks) g->round_end[g->n_rounds++] = g->n_blocks;
    return largest;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Reals that a task needs for what it unpacks at a time. */
static int64_t tile_size(const struct args *g)
{
    const struct cached_attention *a = &g->a;
    int64_t size = 0;

    for (int p = 0; p < a->parts; p++)
        if (a->part[p].k->dtype == DT_PACKED) size = most(size, KEY_TILE * a->part[p].width);
    if (a->v->dtype == DT_PACKED)
        size = most(size, VALUE_KEYS * (a->v_width < VALUE_TILE ? a->v_width : VALUE_TILE));
    return size;
}

static void check_part(const struct cached_attention *a, const struct cached_part *p)
{
    int64_t rows = a->part[0].q[TEXT]->rows;

    CHECK(p->k_groups > 0 && a->heads % p->k_groups == 0);
    CHECK(p->k->dtype == DT_REAL || p->k->dtype == DT_PACKED);
    CHECK(p->k->rows == a->v->rows);
    CHECK(p->k->cols == p->k_groups * p->width);
    for (int m = 0; m < MODALITIES; m++)
        CHECK(!p->q[m] ||
              (p->q[m]->rows == rows && p->q_col + a->heads * p->width <= p->q[m]->cols));
}

/* Every row of q belongs to one sequence, in order; a sequence's keys are within the cache. */
static void check_sequences(const struct cached_attention *a)
{
    int64_t row = 0;

    for (int64_t k = 0; k < a->n_seq; k++) {
        const struct cached_sequence *s = &a->seq[k];
        CHECK(s->q_begin == row && s->q_end >= row && s->position >= 0 && s->k_begin >= 0);
        CHECK(s->k_begin + s->position + s->q_end - s->q_begin <= a->v->rows);
        row = s->q_end;
    }
    CHECK(row == a->part[0].q[TEXT]->rows);
}

/* A packed cache is read by sequences; what is read instead of its newest rows is as wide. */
static void check_packed(const struct cached_attention *a, const struct tensor *c,
                         const struct tensor *fresh)
{
    CHECK(c->dtype != DT_PACKED || a->capacity > 0);
    for (int64_t k = 0; c->dtype == DT_PACKED && k < a->n_seq; k++)
        CHECK(a->seq[k].k_begin % a->capacity == 0);
    CHECK(!fresh || (c->dtype == DT_PACKED && fresh->dtype == DT_REAL && fresh->cols == c->cols &&
                     fresh->rows == a->part[0].q[TEXT]->rows));
}

/* Adds x to the inputs unless already there: keys and values of a latent cache are one tensor. */
static int add_input(struct tensor *in[NODE_IN], int n, struct tensor *x)
{
    for (int i = 0; i < n; i++)
        if (in[i] == x) return n;
    if (!x) return n;
    CHECK(n < NODE_IN);
    in[n] = x;
    return n + 1;
}

struct tensor *op_cached_attention(struct tape *t, const struct cached_attention *a)
{
    struct tensor *in[NODE_IN] = {NULL};
    struct args *g = tape_new_array(t, struct args, 1);
    int n_in = 0;

    CHECK(a->parts == 1 || a->parts == 2);
    CHECK(a->v_groups > 0 && a->heads % a->v_groups == 0);
    CHECK(a->v->dtype == DT_REAL || a->v->dtype == DT_PACKED);
    CHECK(a->v->cols == a->v_groups * a->v_width);
    check_sequences(a);
    for (int p = 0; p < a->parts; p++) {
        check_part(a, &a->part[p]);
        for (int m = 0; m < MODALITIES; m++)
            n_in = add_input(in, n_in, a->part[p].q[m]);
        check_packed(a, a->part[p].k, a->part[p].fresh);
        n_in = add_input(in, n_in, a->part[p].k);
        n_in = add_input(in, n_in, a->part[p].fresh);
    }
    check_packed(a, a->v, a->v_fresh);
    n_in = add_input(in, n_in, a->v);
    n_in = add_input(in, n_in, a->v_fresh);
    for (int m = 0; m < MODALITIES; m++) {
        CHECK(!a->key_bias[m] || a->key_bias[m]->cols == a->heads);
        n_in = add_input(in, n_in, a->key_bias[m]);
    }
    g->a = *a;
    int64_t rows = a->part[0].q[TEXT]->rows, sums = a->split_modalities ? MODALITIES : 1;
    g->threads = omp_get_max_threads();
    g->single = cached_is_single(a);
    if (!g->single) {
        g->scores = cut_blocks(t, g, rows);
        g->tile = tile_size(g);
    }
    struct node *n = tape_node(t, &cached_attention_op, in, n_in, rows,
                               sums * a->heads * (a->v_width + a->weights));
    n->args = g;
    n->scratch_bytes = sizeof(real) * (size_t)(g->single ? cached_single_scratch(a, g->threads)
                                                         : g->scores + g->threads * g->tile);
    return n->out;
}
