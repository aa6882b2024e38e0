/* attention.c - softmax(q k^T scale) v, tile by tile, so that never more of q k^T exists than one
 * tile per thread (Dao et al., arXiv 2205.14135). The forward walks the keys once with a running
 * maximum and sum, and saves the log-sum-exp of each row. The backward recomputes the tiles from
 * it: P = exp(S - lse), dV += P^T dO, dS = P * (dO V^T - D) * scale with D = rowsum(dO * O), dQ +=
 * dS K, dK += dS^T Q. A backward task is one sample and kv head: it alone writes that head's dK and
 * dV and the dQ of the group's query heads, in a fixed order. If products are in bf16, a head's
 * keys and values are converted once, a block's queries once, and a tile of P and
 * dS when it is used. */
#include "autograd/mathfun.h"
#include "autograd/operand.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <omp.h>
#include <string.h>

/* Most rows and columns of a tile: large enough for fast products, small enough for the cache (480
 * KiB; in bf16 operands lie beside it). Causal tiles on the diagonal are half wasted; fewer rows
 * keep the waste small in short samples. */
enum { QB = 192, QB_BF16 = 128, QB_SHORT = 64, SHORT = 512, KB = 640 };
enum { Q0, K0, Q1, K1, V };

/* A thread's scratch: two tiles, and what operand.h needs for the operands of the products. Of keys
 * and values there is one for each KB keys. _T: transposed, "2": of either part. */
enum room {
    TILE,
    TILE_GRAD,
    KEYS_T,              /* 2 */
    KEYS = KEYS_T + 2,   /* 2 */
    VALUES = KEYS + 2,   /* in the backward transposed */
    LEFT_Q = VALUES + 1, /* 2 */
    RIGHT_Q = LEFT_Q + 2 /* 2 */,
    LEFT_DO = RIGHT_Q + 2,
    RIGHT_DO,
    LEFT_P, /* in the backward transposed */
    LEFT_DS,
    LEFT_DS_T,
    ROOMS
};
struct layout {
    size_t at[ROOMS], step[ROOMS], total;
};

/* A block of queries of one head against the keys of its sample. */
struct block {
    const struct attention *a;
    const struct attention_sample *s;
    const struct layout *layout;
    char *scratch; /* the thread's */
    int64_t head, group;
    int64_t q0, nq;    /* rows of q */
    int64_t limit[QB]; /* how many keys row i sees */
    int64_t most;      /* the largest of them */
    int64_t ld;        /* row length of a tile */
    struct operand q[2], dO;
};

static int64_t block_rows(const struct attention_sample *s)
{
    int64_t rows = s->q_end - s->q_begin, most = gemm_few() == FEW_BF16 ? QB_BF16 : QB;

    if (rows <= SHORT) most = QB_SHORT;
    return rows < most ? rows : most;
}

static int64_t row_length(int64_t keys)
{
    return keys < KB ? (keys + 15) / 16 * 16 : KB;
}

static void make_block(struct block *b, int64_t q0)
{
    const struct attention_sample *s = b->s;
    int64_t keys = s->k_end - s->k_begin, rows = block_rows(s);

    b->q0 = q0;
    b->nq = s->q_end - q0 < rows ? s->q_end - q0 : rows;
    b->most = 0;
    for (int64_t i = 0; i < b->nq; i++) {
        int64_t row = q0 + i;
        int64_t last = b->a->q_index ? b->a->q_index[row] : row - s->q_begin;
        b->limit[i] = b->a->causal && last + 1 < keys ? last + 1 : keys;
        if (b->limit[i] > b->most) b->most = b->limit[i];
    }
    b->ld = row_length(b->most);
}

static real *q_at(const struct block *b, int p, real *base)
{
    const struct attention_part *part = &b->a->part[p];

    return base + b->q0 * part->q->cols + part->q_col + b->head * part->width;
}

static real *k_at(const struct block *b, int p, real *base, int64_t key)
{
    const struct attention_part *part = &b->a->part[p];

    return base + (b->s->k_begin + key) * part->k->cols + part->k_col + b->group * part->width;
}

static real *v_at(const struct block *b, real *base, int64_t key)
{
    return base + (b->s->k_begin + key) * b->a->v->cols + b->group * b->a->v_width;
}

/* ---- operands ---- */

/* Every block's and tile's largest sizes decide. */
static struct layout layout_of(const struct attention *a)
{
    int64_t rows = 0, keys = 0, tiles = 0;
    struct layout l = {.total = 0};

    for (int64_t i = 0; i < a->n_samples; i++) {
        const struct attention_sample *s = &a->samples[i];
        int64_t n = s->k_end - s->k_begin, r = block_rows(s), k = row_length(n);
        rows = r > rows ? r : rows;
        keys = k > keys ? k : keys;
        tiles = (n + KB - 1) / KB > tiles ? (n + KB - 1) / KB : tiles;
    }
    l.step[TILE] = l.step[TILE_GRAD] = (size_t)(rows * keys) * sizeof(real);
    for (int p = 0; p < a->parts; p++) {
        l.step[KEYS_T + p] = l.step[KEYS + p] = operand_bytes(a->part[p].width, keys);
        l.step[LEFT_Q + p] = l.step[RIGHT_Q + p] = operand_bytes(rows, a->part[p].width);
    }
    l.step[VALUES] = operand_bytes(a->v_width, keys);
    l.step[LEFT_DO] = l.step[RIGHT_DO] = operand_bytes(rows, a->v_width);
    l.step[LEFT_P] = l.step[LEFT_DS] = l.step[LEFT_DS_T] = operand_bytes(rows, keys);
    for (int r = 0; r < ROOMS; r++) {
        l.step[r] = (l.step[r] + 63) & ~(size_t)63;
        l.at[r] = l.total;
        l.total += l.step[r] * (size_t)(r >= KEYS_T && r <= VALUES ? tiles : 1);
    }
    return l;
}

static void *room(const struct block *b, int r, int64_t tile)
{
    return b->scratch + b->layout->at[r] + b->layout->step[r] * (size_t)tile;
}

static int64_t tile_keys(const struct block *b, int64_t k0)
{
    int64_t rest = b->s->k_end - b->s->k_begin - k0;

    return rest < KB ? rest : KB;
}

/* Keys from k0 on, as the right operand of q k^T or of dS k; as the functions
 * below, filled once. */
static struct operand keys_of(const struct block *b, int p, int64_t k0, bool trans, bool fill)
{
    const struct attention_part *part = &b->a->part[p];
    int64_t n = tile_keys(b, k0);

    return operand_right(mat_of(k_at(b, p, part->k->data, k0), part->k->cols, trans),
                         trans ? part->width : n, trans ? n : part->width,
                         room(b, (trans ? KEYS_T : KEYS) + p, k0 / KB), fill);
}

static struct operand values_of(const struct block *b, int64_t k0, bool trans, bool fill)
{
    int64_t n = tile_keys(b, k0), dv = b->a->v_width;

    return operand_right(mat_of(v_at(b, b->a->v->data, k0), b->a->v->cols, trans), trans ? dv : n,
                         trans ? n : dv, room(b, VALUES, k0 / KB), fill);
}

static void fill_keys(const struct block *b, bool backward)
{
    for (int64_t k0 = 0; k0 < b->s->k_end - b->s->k_begin; k0 += KB) {
        for (int p = 0; p < b->a->parts; p++) {
            keys_of(b, p, k0, true, true);
            if (backward && b->a->part[p].q->needs_grad) keys_of(b, p, k0, false, true);
        }
        values_of(b, k0, backward, true);
    }
}

static void fill_queries(struct block *b)
{
    for (int p = 0; p < b->a->parts; p++) {
        const struct attention_part *part = &b->a->part[p];
        b->q[p] = operand_left(mat_of(q_at(b, p, part->q->data), part->q->cols, false), b->nq,
                               part->width, room(b, LEFT_Q + p, 0), true);
    }
}

/* ---- forward ---- */

/* S[nq, b->ld] = scale * q k^T for the keys [k0, k0 + nk); keys that a row does
 * not see are -inf. */
static void scores(const struct block *b, int64_t k0, int64_t nk, real *S)
{
    for (int p = 0; p < b->a->parts; p++)
        gemm_operands(b->nq, nk, b->a->part[p].width, (real)b->a->scale, b->q[p],
                      keys_of(b, p, k0, true, false), p > 0, S, b->ld);
    for (int64_t i = 0; i < b->nq; i++)
        for (int64_t j = b->limit[i] > k0 ? b->limit[i] - k0 : 0; j < nk; j++)
            S[i * b->ld + j] = -INFINITY;
}

/* Adds one tile to the running maximum m[nq], sum l[nq] and unnormalised output o[nq, ld]. */
static void absorb_tile(const struct block *b, int64_t k0, int64_t nk, real *S, real *m, real *l,
                        real *o, int64_t ld)
{
    int64_t dv = b->a->v_width;

    for (int64_t i = 0; i < b->nq; i++) {
        real *row = S + i * b->ld, top = m[i], sum = 0;
        if (b->limit[i] <= k0) { /* sees nothing of the tile */
            memset(row, 0, (size_t)nk * sizeof(real));
            continue;
        }
#pragma omp simd reduction(max : top)
        for (int64_t j = 0; j < nk; j++)
            top = row[j] > top ? row[j] : top;
        real keep = real_exp(m[i] - top); /* only NaN scores: top is -inf, this NaN */
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < nk; j++) {
            row[j] = real_exp(row[j] - top);
            sum += row[j];
        }
        l[i] = l[i] * keep + sum;
        m[i] = top;
        if (keep != 1)
            for (int64_t j = 0; j < dv; j++)
                o[i * ld + j] *= keep;
    }
    gemm_operands(b->nq, dv, nk, 1,
                  operand_left(mat_of(S, b->ld, false), b->nq, nk, room(b, LEFT_P, 0), true),
                  values_of(b, k0, false, false), true, o, ld);
}

static void forward_block(const struct block *b, struct node *n)
{
    int64_t ld = n->out->cols, dv = b->a->v_width;
    real *o = tensor_real(n->out) + b->q0 * ld + b->head * dv;
    real m[QB], l[QB], *S = room(b, TILE, 0);

    for (int64_t i = 0; i < b->nq; i++) {
        m[i] = -INFINITY;
        l[i] = 0;
        memset(o + i * ld, 0, (size_t)dv * sizeof(real));
    }
    for (int64_t k0 = 0; k0 < b->most; k0 += KB) {
        int64_t nk = b->most - k0 < KB ? b->most - k0 : KB;
        scores(b, k0, nk, S);
        absorb_tile(b, k0, nk, S, m, l, o, ld);
    }
    for (int64_t i = 0; i < b->nq; i++) {
        real inv = l[i] != 0 ? 1 / l[i] : 0; /* 0: sees no key; NaN stays NaN */
        for (int64_t j = 0; j < dv; j++)
            o[i * ld + j] *= inv;
        tensor_real(n->aux)[(b->q0 + i) * b->a->heads + b->head] =
            l[i] != 0 ? m[i] + (real)log(l[i]) : 0;
    }
}

/* The calling thread's. */
static char *thread_scratch(struct node *n, const struct layout *l)
{
    size_t thread = (size_t)omp_get_thread_num();

    CHECK((thread + 1) * l->total <= n->scratch_bytes);
    return (char *)n->scratch + thread * l->total;
}

static void forward(struct node *n)
{
    const struct attention *a = n->args;
    const struct layout layout = layout_of(a);

#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t task = 0; task < a->n_samples * a->heads; task++) {
        struct block b = {.a = a,
                          .s = &a->samples[task / a->heads],
                          .head = task % a->heads,
                          .layout = &layout,
                          .scratch = thread_scratch(n, &layout)};
        b.group = b.head / (a->heads / a->groups);
        fill_keys(&b, false);
        for (int64_t q0 = b.s->q_begin; q0 < b.s->q_end; q0 += b.nq) {
            make_block(&b, q0);
            fill_queries(&b);
            forward_block(&b, n);
        }
    }
}

/* ---- backward ---- */

/* D = rowsum(dO * O) of the block's rows. */
static void row_sums(const struct block *b, const struct node *n, real *D)
{
    int64_t ld = n->out->cols, dv = b->a->v_width;
    const real *o = tensor_real(n->out) + b->q0 * ld + b->head * dv;
    const real *dO = n->out->grad + b->q0 * ld + b->head * dv;

    for (int64_t i = 0; i < b->nq; i++) {
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < dv; j++)
            sum += o[i * ld + j] * dO[i * ld + j];
        D[i] = sum;
    }
}

/* P and dS of one tile, overwriting the scores S and dP = dO V^T. */
static void tile_gradients(const struct block *b, const struct node *n, int64_t nk, const real *D,
                           real *S, real *dP)
{
    const real *lse = tensor_real(n->aux) + b->q0 * b->a->heads + b->head;
    real scale = (real)b->a->scale;

    for (int64_t i = 0; i < b->nq; i++) {
        real *s = S + i * b->ld, *d = dP + i * b->ld, z = lse[i * b->a->heads];
#pragma omp simd
        for (int64_t j = 0; j < nk; j++) {
            s[j] = real_exp(s[j] - z);
            d[j] = s[j] * (d[j] - D[i]) * scale;
        }
    }
}

/* dQ and dK of one part from dS[nq, nk], as the left operand and transposed. */
static void part_gradients(const struct block *b, int p, int64_t k0, int64_t nk, struct operand dS,
                           struct operand dS_t)
{
    struct tensor *q = b->a->part[p].q, *k = b->a->part[p].k;
    int64_t w = b->a->part[p].width;

    if (q->needs_grad)
        gemm_operands(b->nq, w, nk, 1, dS, keys_of(b, p, k0, false, false), true,
                      q_at(b, p, q->grad), q->cols);
    if (k->needs_grad)
        gemm_operands(nk, w, b->nq, 1, dS_t,
                      operand_right(mat_of(q_at(b, p, q->data), q->cols, false), b->nq, w,
                                    room(b, RIGHT_Q + p, 0), k0 == 0),
                      true, k_at(b, p, k->grad, k0), k->cols);
}

static void backward_tile(const struct block *b, struct node *n, int64_t k0, int64_t nk,
                          const real *D, real *S, real *dP)
{
    const struct attention *a = b->a;
    int64_t ld = n->out->cols, dv = a->v_width;
    const real *dO = n->out->grad + b->q0 * ld + b->head * dv;
    bool q_grad = false, k_grad = false;
    struct operand dS, dS_t;

    scores(b, k0, nk, S);
    gemm_operands(b->nq, nk, dv, 1, b->dO, values_of(b, k0, true, false), false, dP, b->ld);
    tile_gradients(b, n, nk, D, S, dP);
    if (a->v->needs_grad)
        gemm_operands(
            nk, dv, b->nq, 1,
            operand_left(mat_of(S, b->ld, true), nk, b->nq, room(b, LEFT_P, 0), true),
            operand_right(mat_of(dO, ld, false), b->nq, dv, room(b, RIGHT_DO, 0), k0 == 0), true,
            v_at(b, a->v->grad, k0), a->v->cols);
    for (int p = 0; p < a->parts; p++) {
        q_grad = q_grad || a->part[p].q->needs_grad;
        k_grad = k_grad || a->part[p].k->needs_grad;
    }
    dS = operand_left(mat_of(dP, b->ld, false), b->nq, nk, room(b, LEFT_DS, 0), q_grad);
    dS_t = operand_left(mat_of(dP, b->ld, true), nk, b->nq, room(b, LEFT_DS_T, 0), k_grad);
    for (int p = 0; p < a->parts; p++)
        part_gradients(b, p, k0, nk, dS, dS_t);
}

static void backward_block(struct block *b, struct node *n)
{
    int64_t ld = n->out->cols, dv = b->a->v_width;
    real D[QB];

    fill_queries(b);
    b->dO = operand_left(mat_of(n->out->grad + b->q0 * ld + b->head * dv, ld, false), b->nq, dv,
                         room(b, LEFT_DO, 0), true);
    row_sums(b, n, D);
    for (int64_t k0 = 0; k0 < b->most; k0 += KB)
        backward_tile(b, n, k0, b->most - k0 < KB ? b->most - k0 : KB, D, room(b, TILE, 0),
                      room(b, TILE_GRAD, 0));
}

static void backward(struct node *n)
{
    const struct attention *a = n->args;
    const struct layout layout = layout_of(a);
    int64_t per_group = a->heads / a->groups;

    for (int i = 0; i <= V; i++) { /* tiles only add */
        struct tensor *x = n->in[i];
        if (!x || !x->needs_grad) continue;
        if (!tape_grad_adds(x)) memset(x->grad, 0, (size_t)tensor_count(x) * sizeof(real));
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t task = 0; task < a->n_samples * a->groups; task++) {
        struct block b = {.a = a,
                          .s = &a->samples[task / a->groups],
                          .group = task % a->groups,
                          .layout = &layout,
                          .scratch = thread_scratch(n, &layout)};
        fill_keys(&b, true);
        for (b.head = b.group * per_group; b.head < (b.group + 1) * per_group; b.head++)
            for (int64_t q0 = b.s->q_begin; q0 < b.s->q_end; q0 += b.nq) {
                make_block(&b, q0);
                backward_block(&b, n);
            }
    }
}

const struct op attention_op = {"attention", forward, backward};

static void check_shapes(const struct attention *a)
{
    CHECK(a->parts == 1 || a->parts == 2);
    CHECK(a->groups > 0 && a->heads % a->groups == 0 && a->v->cols >= a->groups * a->v_width);
    for (int p = 0; p < a->parts; p++) {
        const struct attention_part *part = &a->part[p];
        CHECK(part->q->rows == a->part[0].q->rows && part->k->rows == a->v->rows);
        CHECK(part->q_col + a->heads * part->width <= part->q->cols);
        CHECK(part->k_col + a->groups * part->width <= part->k->cols);
    }
    for (int64_t i = 0; i < a->n_samples; i++) {
        const struct attention_sample *s = &a->samples[i];
        CHECK(0 <= s->q_begin && s->q_begin <= s->q_end && s->q_end <= a->part[0].q->rows);
        CHECK(0 <= s->k_begin && s->k_begin <= s->k_end && s->k_end <= a->v->rows);
    }
}

struct tensor *op_attention(struct tape *t, const struct attention *a)
{
    struct tensor *in[] = {a->part[0].q, a->part[0].k, a->parts > 1 ? a->part[1].q : NULL,
                           a->parts > 1 ? a->part[1].k : NULL, a->v};
    struct attention *own = tape_alloc(t, sizeof *own);

    check_shapes(a);
    *own = *a;
    struct node *n = tape_node(t, &attention_op, in, 5, a->part[0].q->rows, a->heads * a->v_width);
    tape_aux(t, a->part[0].q->rows, a->heads);
    n->args = own;
    n->reads = 1u << Q0 | 1u << K0 | 1u << Q1 | 1u << K1 | 1u << V | READS_OUT | READS_AUX;
    n->scratch_bytes = (size_t)omp_get_max_threads() * layout_of(a).total;
    return n->out;
}
