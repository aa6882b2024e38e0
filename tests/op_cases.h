/* op_cases.h - small graphs over some leaves, at least one for every op with a backward:
 * test_gradients.c differentiates them in double and test_bf16.c compares them with fp32. Include
 * after cmocka's headers.
 *
 * A case is given in its smallest sizes. With a scale s all sizes are s times as large
 * (rows, columns, head widths, pairs, spans), except that what is one stays one: a
 * vector, a single row. */
#ifndef TESTS_OP_CASES_H
#define TESTS_OP_CASES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/ops.h"
#include "autograd/row_form.h"

enum { LEAVES = 6 };

/* ---- two ops of our own ---- */

static void copy_forward(struct node *n)
{
    memcpy(n->out->data, n->in[0]->data, (size_t)tensor_count(n->out) * sizeof(real));
}

static void copy_backward(struct node *n)
{
    bool adds = tape_grad_adds(n->in[0]);

    for (int64_t i = 0; i < tensor_count(n->out); i++)
        n->in[0]->grad[i] = (adds ? n->in[0]->grad[i] : 0) + n->out->grad[i];
}

static const struct op copy_op = {"copy", copy_forward, copy_backward};

static struct tensor *copy(struct tape *t, struct tensor *x)
{
    return tape_node(t, &copy_op, &x, 1, x->rows, x->cols)->out;
}

static real weight_of(int64_t i)
{
    return (real)sin(1.7 * (double)i + 0.3);
}

static void dot_forward(struct node *n)
{
    real sum = 0;

    for (int64_t i = 0; i < tensor_count(n->in[0]); i++)
        sum += tensor_real(n->in[0])[i] * weight_of(i);
    tensor_real(n->out)[0] = sum;
}

static void dot_backward(struct node *n)
{
    bool adds = tape_grad_adds(n->in[0]);

    for (int64_t i = 0; i < tensor_count(n->in[0]); i++)
        n->in[0]->grad[i] = (adds ? n->in[0]->grad[i] : 0) + n->out->grad[0] * weight_of(i);
}

static const struct op dot_op = {"dot", dot_forward, dot_backward};

static struct tensor *dot(struct tape *t, struct tensor *x)
{
    return tape_node(t, &dot_op, &x, 1, 1, 1)->out;
}

/* ---- the graphs: x[] are the case's leaves, v its variant, s the scale ---- */

typedef struct tensor *build_fn(struct tape *t, struct tensor *const x[], int v, int64_t s);

static int64_t scaled(int64_t n, int64_t s)
{
    return n == 1 ? 1 : n * s;
}

static struct tensor *linear(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    (void)s;
    return op_linear(t, x[0], x[1], v & 1 ? x[2] : NULL, v & 2 ? x[3] : NULL);
}

/* x is both input and residual, and the weight is used twice. */
static struct tensor *linear_twice(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    (void)v, (void)s;
    struct tensor *y = op_linear(t, x[0], x[1], NULL, x[0]);
    return op_linear(t, y, x[1], x[2], x[0]);
}

/* A residual stream: the adds are h's last uses and share its gradient's memory. */
static struct tensor *residuals(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    struct tensor *h = copy(t, x[0]);

    (void)s;
    h = op_linear(t, op_rmsnorm(t, h, x[2], 1e-5), x[1], NULL, h);
    h = op_add(t, h, op_linear(t, h, x[1], NULL, NULL));
    if (v) h = op_add(t, op_linear(t, h, x[1], NULL, NULL), h);
    return op_linear(t, op_activation(t, h, ACT_SILU), x[1], NULL, h);
}

struct spans {
    int64_t n;
    struct span span[5];
    unsigned missing, biased; /* by modality */
};
static const struct spans span_sets[] = {
    {3, {{0, 2, TEXT}, {2, 5, IMAGE}, {5, 7, TEXT}}, 0, 3},
    {2, {{0, 4, IMAGE}, {4, 7, TEXT}}, 0, 0},
    {1, {{0, 7, TEXT}}, 1 << IMAGE, 3},
    {1, {{0, 7, IMAGE}}, 0, 2},
    {5, {{0, 1, TEXT}, {1, 3, TEXT}, {3, 3, IMAGE}, {3, 6, IMAGE}, {6, 7, IMAGE}}, 0, 1},
    {3, {{0, 3, TEXT}, {3, 3, IMAGE}, {3, 7, TEXT}}, 1 << IMAGE, 1},
};

static struct spans scaled_spans(int v, int64_t s)
{
    struct spans sp = span_sets[v];

    for (int64_t i = 0; i < sp.n; i++) {
        sp.span[i].begin *= s;
        sp.span[i].end *= s;
    }
    return sp;
}

static struct tensor *modal_linear(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    struct spans sp = scaled_spans(v, s);
    struct tensor *w[MODALITIES], *b[MODALITIES];

    for (int m = 0; m < MODALITIES; m++) {
        w[m] = sp.missing >> m & 1 ? NULL : x[1 + m];
        b[m] = sp.biased >> m & 1 && w[m] ? x[3 + m] : NULL;
    }
    return op_modal_linear(t, x[0], w, b, sp.span, sp.n);
}

static struct tensor *modal_linear_shared(struct tape *t, struct tensor *const x[], int v,
                                          int64_t s)
{
    struct spans sp = scaled_spans(v, s);

    return op_modal_linear(t, x[0], (struct tensor *[]){x[1], x[1]},
                           (struct tensor *[]){x[2], x[2]}, sp.span, sp.n);
}

static struct tensor *head_linear(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    return op_head_linear(t, x[0], 2 * s, x[1], 4, 2, v);
}

static struct tensor *patch_embed(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    return op_patch_embed(t, x[0], x[1], v ? x[2] : NULL, 2 * s, 5, 2);
}

/* index[i] of `n`, each replaced by s rows. */
static int32_t *scaled_index(struct tape *t, const int32_t *index, int64_t n, int64_t s)
{
    int32_t *all = tape_new_array(t, int32_t, n * s);

    for (int64_t i = 0; i < n * s; i++) {
        int64_t k = index[i / s], j = i % s;
        all[i] = (int32_t)(k >= 0 ? k * s + j : (k + 1) * s - j - 1);
    }
    return all;
}

static struct tensor *embedding(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    static const int32_t ids[] = {3, 0, 3, 5, 3};

    return op_embedding(t, x[0], scaled_index(t, ids, 5, s), scaled(v, s), -1);
}

static struct tensor *select_rows(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    static const int32_t index[] = {1, -1, 3, 1, -2, -2}, only_a[] = {2, 2, 0};

    if (v == 1) return op_select_rows(t, x[0], NULL, scaled_index(t, only_a, 3, s), 3 * s);
    return op_select_rows(t, x[0], v ? x[0] : x[1], scaled_index(t, index, 6, s), 6 * s);
}

static struct tensor *group_rows(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    (void)v;
    (void)s;
    return op_group_rows(t, x[0], 3);
}

static struct tensor *repeat(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    struct tensor *y = op_repeat(t, x[0], 3);

    (void)s;
    return v ? op_add(t, y, op_repeat(t, op_repeat(t, x[0], 1), 3)) : y;
}

static struct tensor *join(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    (void)s;
    return op_join(t, x[0], v ? x[0] : x[1]);
}

static struct tensor *add(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    (void)s;
    return op_add(t, x[0], v ? x[0] : x[1]);
}

static struct tensor *rmsnorm(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    struct tensor *y = op_rmsnorm(t, x[0], x[1], 1e-5);

    (void)s;
    return v ? op_rmsnorm(t, op_add(t, y, x[0]), x[1], 1e-5) : y;
}

static struct tensor *layernorm(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    (void)v, (void)s;
    return op_layernorm(t, x[0], x[1], x[2], 1e-5);
}

/* Position ids of 5 tokens on two axes, and frequencies of 3 pairs. */
static struct tensor *angles(struct tape *t, int64_t s)
{
    static const int32_t positions[] = {0, 1, 2, 7, 9, 3, 1, 4, 1, 5};
    static const float inv_freq[] = {1, 0.31f, 0.01f};
    static const uint8_t axes[] = {0, 1, 1};
    int32_t *position = tape_new_array(t, int32_t, 10 * s);
    float *freq = tape_new_array(t, float, 3 * s);
    uint8_t *axis = tape_new_array(t, uint8_t, 3 * s);

    for (int64_t i = 0; i < 10 * s; i++)
        position[i] = positions[i / s] + (int32_t)(i % s);
    for (int64_t i = 0; i < 3 * s; i++) {
        freq[i] = inv_freq[i / s] / (float)(i % s + 1);
        axis[i] = axes[i / s];
    }
    return op_rope_table(t, &(struct rope_table){.positions = position,
                                                 .n = 5 * s,
                                                 .inv_freq = freq,
                                                 .pairs = 3 * s,
                                                 .axis = axis,
                                                 .scale = 1.1});
}

static struct tensor *rope(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    static const int32_t pair_index[] = {2, 0, 1, 1};
    struct tensor *h = copy(t, x[0]), *table = angles(t, s);

    if (v) h = op_rmsnorm(t, h, x[1], 1e-5);
    h = op_rope(t, h, table, s, 2, 2 * s, scaled_index(t, pair_index, 4, s));
    h = op_rope(t, h, table, 2 * s, 1, 3 * s, NULL);
    if (v < 2) return h;
    tape_keep(h); /* so that it is not recomputed, although the norm before it is */
    return op_activation(t, h, ACT_SILU);
}

enum { CAUSAL = 1, TWO_PARTS = 2, ASKED = 4, LONG = 8 };

/* The samples by variant; some only ask for some positions. */
static void attention_samples(struct tape *t, struct attention *a, int v, int64_t s)
{
    static const struct attention_sample plain[] = {{0, 1, 0, 1}, {1, 6, 1, 6}, {6, 8, 6, 8}};
    static const struct attention_sample asked[] = {{0, 2, 0, 4}, {2, 3, 4, 7}};
    static const struct attention_sample longer[] = {{0, 520, 0, 600}};
    static const int32_t asked_index[] = {1, 3, 2};
    const struct attention_sample *from = v & ASKED ? asked : v & LONG ? longer : plain;
    int64_t n = v & ASKED ? 2 : v & LONG ? 1 : 3;
    struct attention_sample *own = tape_new_array(t, struct attention_sample, n);

    for (int64_t i = 0; i < n; i++)
        own[i] = (struct attention_sample){from[i].q_begin * s, from[i].q_end * s,
                                           from[i].k_begin * s, from[i].k_end * s};
    a->samples = own;
    a->n_samples = n;
    a->q_index = v & ASKED ? scaled_index(t, asked_index, 3, s) : NULL;
}

/* 4 query heads, 2 kv heads, values of width 2; `a` gives the parts and the values. */
static struct tensor *attend(struct tape *t, struct attention a, int v, int64_t s)
{
    a.heads = 4;
    a.groups = 2;
    a.v_width = 2 * s;
    a.causal = v & CAUSAL;
    a.scale = 0.6 / sqrt((double)s);
    attention_samples(t, &a, v, s);
    return op_attention(t, &a);
}

/* Leaves: q, k, v, second q, second k. */
static struct tensor *attention(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    return attend(t,
                  (struct attention){.part = {{x[0], x[1], s, 0, 3 * s}, {x[3], x[4], 0, s, 2 * s}},
                                     .parts = v & TWO_PARTS ? 2 : 1,
                                     .v = x[2]},
                  v, s);
}

/* One tensor holds the queries, rotated [0,8) and unrotated [8,16), the keys, and the values. */
static struct tensor *attention_fused(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    return attend(t,
                  (struct attention){
                      .part = {{x[0], x[0], 0, 16 * s, 2 * s}, {x[0], x[0], 8 * s, 20 * s, 2 * s}},
                      .parts = 2,
                      .v = x[1]},
                  v, s);
}

static struct tensor *swiglu(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    (void)s;
    return op_swiglu(t, x[0], v ? x[0] : x[1]);
}

static struct tensor *activation(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    (void)s;
    return op_activation(t, x[0], (enum activation)v);
}

static struct tensor *cross_entropy(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    int32_t *labels = tape_new_array(t, int32_t, x[0]->rows);

    (void)s;
    for (int64_t i = 0; i < x[0]->rows; i++)
        labels[i] = (int32_t)(i * i * 31 % x[1]->rows);
    return op_cross_entropy(t, x[0], x[1], labels, v ? 0.01 : 1.5);
}

/* A teacher that knows 3 tokens of V, spread over them, or all. */
enum { TEACHER_T2, TEACHER_TILES, TEACHER_ALL };

static const struct top_logits *teacher_of(struct tape *t, int64_t rows, int64_t V, int v)
{
    struct top_logits *to = tape_new_array(t, struct top_logits, 1);
    const int64_t k = v == TEACHER_ALL ? V : 3;

    *to = (struct top_logits){k, v == TEACHER_TILES ? 0.7 : 2, tape_new_array(t, int32_t, rows * k),
                              tape_new_array(t, real, rows * k), tape_new_array(t, real, rows)};
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t c = 0; c < k; c++) {
            to->ids[i * k + c] = (int32_t)(c * (V / k) + i % (V / k));
            to->logits[i * k + c] = 2 * weight_of(i * k + c);
        }
        to->rest[i] = v == TEACHER_ALL ? -INFINITY : weight_of(i);
    }
    return to;
}

static struct tensor *distill(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    int32_t *labels = tape_new_array(t, int32_t, x[0]->rows);

    (void)s;
    for (int64_t i = 0; i < x[0]->rows; i++)
        labels[i] = (int32_t)(i * i * 31 % x[1]->rows);
    return op_distill(t, x[0], x[1], labels,
                      &(struct distill){.teacher = teacher_of(t, x[0]->rows, x[1]->rows, v),
                                        .weight = v == TEACHER_T2 ? 0.4 : 1,
                                        .scale = v == TEACHER_TILES ? 0.01 : 1.5});
}

/* Behind a loss, x[1] of [1, 1]. */
static struct tensor *row_distance(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    real *to = tape_new_array(t, real, tensor_count(x[0]));

    (void)v, (void)s;
    for (int64_t i = 0; i < tensor_count(x[0]); i++)
        to[i] = weight_of(i);
    return op_row_distance(
        t, x[0], x[1], &(struct row_distance){.to = to, .keep = 0.6, .weight = 0.4, .scale = 1.5});
}

/* In place, so of a node's output; turned, v 1: by blocks of two times the scale. */
static struct tensor *as_cached(struct tape *t, struct tensor *const x[], int v, int64_t s)
{
    const int64_t width = x[0]->cols;
    real *by = tape_new_array(t, real, width), *back = tape_new_array(t, real, width);

    for (int64_t i = 0; i < width; i++) {
        by[i] = (real)(1 + i % 5) / 4;
        back[i] = 1 / by[i];
    }
    return op_as_cached(
        t, copy(t, x[0]),
        &(struct as_cached){
            .form = row_form_find("q4", 2), .block = v ? 2 * s : 0, .by = {by}, .back = {back}});
}

/* ---- the cases ---- */

struct graph_case {
    const char *name;
    const char *op; /* its name */
    build_fn *build;
    int variant;
    int64_t shape[LEAVES][2];
    unsigned weights; /* leaves that may be frozen in another dtype */
    int samples;      /* elements to differentiate per leaf (0: 64), evenly spaced; or STRAIGHT */
};
enum {
    STRAIGHT = -1
}; /* an op that rounds: the output's gradient is to be that of its only leaf */

static const struct graph_case cases[] = {
    {"linear", "linear", linear, 0, {{5, 4}, {3, 4}}, 2, 0},
    {"linear, bias", "linear", linear, 1, {{5, 4}, {3, 4}, {1, 3}}, 6, 0},
    {"linear, bias, residual", "linear", linear, 3, {{5, 4}, {3, 4}, {1, 3}, {5, 3}}, 6, 0},
    {"linear, one row", "linear", linear, 1, {{1, 4}, {3, 4}, {1, 3}}, 6, 0},
    {"linear, x and w twice", "linear", linear_twice, 0, {{5, 4}, {4, 4}, {1, 4}}, 6, 0},
    {"residual stream", "add", residuals, 0, {{5, 4}, {4, 4}, {1, 4}}, 6, 0},
    {"residual stream, longer", "add", residuals, 1, {{5, 4}, {4, 4}, {1, 4}}, 6, 0},
    {"modal, text image text",
     "modal_linear",
     modal_linear,
     0,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, image text", "modal_linear", modal_linear, 1, {{7, 4}, {3, 4}, {3, 4}}, 6, 0},
    {"modal, no image",
     "modal_linear",
     modal_linear,
     2,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, no text",
     "modal_linear",
     modal_linear,
     3,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, touching runs",
     "modal_linear",
     modal_linear,
     4,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, empty run",
     "modal_linear",
     modal_linear,
     5,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, one weight", "modal_linear", modal_linear_shared, 0, {{7, 4}, {3, 4}, {1, 3}}, 6, 0},
    {"head linear", "head_linear", head_linear, 0, {{3, 15}, {6, 5}}, 2, 0},
    {"head linear, one row", "head_linear", head_linear, 0, {{1, 14}, {6, 5}}, 2, 0},
    {"head linear, blocks", "head_linear", head_linear, 0, {{150, 15}, {6, 5}}, 2, 0},
    {"head linear, transposed", "head_linear", head_linear, 1, {{3, 15}, {10, 3}}, 2, 0},
    {"head linear, transposed, one row", "head_linear", head_linear, 1, {{1, 15}, {10, 3}}, 2, 0},
    {"patch embed", "patch_embed", patch_embed, 0, {{2, 50}, {3, 8}}, 2, 0},
    {"patch embed, bias", "patch_embed", patch_embed, 1, {{2, 50}, {3, 8}, {1, 3}}, 6, 0},
    {"embedding", "embedding", embedding, 5, {{6, 3}}, 1, 0},
    {"embedding, one row", "embedding", embedding, 1, {{6, 3}}, 1, 0},
    {"select rows", "select_rows", select_rows, 0, {{4, 3}, {2, 3}}, 2, 0},
    {"select rows, one source", "select_rows", select_rows, 1, {{4, 3}}, 0, 0},
    {"select rows, the source twice", "select_rows", select_rows, 2, {{4, 3}}, 0, 0},
    {"join", "join", join, 0, {{4, 3}, {4, 5}}, 2, 0},
    {"join, twice the same", "join", join, 1, {{4, 3}}, 0, 0},
    {"add", "add", add, 0, {{6, 3}, {6, 3}}, 2, 0},
    {"add, repeated", "add", add, 0, {{6, 3}, {2, 3}}, 2, 0},
    {"add, one row", "add", add, 0, {{6, 3}, {1, 3}}, 2, 0},
    {"add to itself", "add", add, 1, {{6, 3}}, 0, 0},
    {"rmsnorm", "rmsnorm", rmsnorm, 0, {{4, 5}, {1, 5}}, 2, 0},
    {"rmsnorm, wide", "rmsnorm", rmsnorm, 0, {{2, 150}, {1, 150}}, 2, 0},
    {"rmsnorm, x and w twice", "rmsnorm", rmsnorm, 1, {{4, 5}, {1, 5}}, 2, 0},
    {"layernorm", "layernorm", layernorm, 0, {{4, 5}, {1, 5}, {1, 5}}, 6, 0},
    {"rope", "rope", rope, 0, {{5, 10}}, 0, 0},
    {"rope of a norm", "rope", rope, 1, {{5, 10}, {1, 10}}, 2, 0},
    {"rope of a norm, kept", "rope", rope, 2, {{5, 10}, {1, 10}}, 2, 0},
    {"attention", "attention", attention, 0, {{8, 13}, {8, 6}, {8, 4}}, 0, 0},
    {"attention, causal", "attention", attention, CAUSAL, {{8, 13}, {8, 6}, {8, 4}}, 0, 0},
    {"attention, two parts",
     "attention",
     attention,
     TWO_PARTS,
     {{8, 13}, {8, 6}, {8, 4}, {8, 8}, {8, 5}},
     0,
     0},
    {"attention, two parts, causal",
     "attention",
     attention,
     CAUSAL | TWO_PARTS,
     {{8, 13}, {8, 6}, {8, 4}, {8, 8}, {8, 5}},
     0,
     0},
    {"attention, asked rows",
     "attention",
     attention,
     CAUSAL | ASKED,
     {{3, 13}, {7, 6}, {7, 4}},
     0,
     0},
    {"attention, one tensor", "attention", attention_fused, CAUSAL, {{8, 24}, {8, 4}}, 0, 0},
    {"attention, several tiles",
     "attention",
     attention,
     LONG,
     {{520, 13}, {600, 6}, {600, 4}},
     0,
     24},
    {"swiglu", "swiglu", swiglu, 0, {{3, 4}, {3, 4}}, 0, 0},
    {"swiglu, one tensor", "swiglu", swiglu, 1, {{3, 4}}, 0, 0},
    {"gelu", "activation", activation, ACT_GELU, {{6, 5}}, 0, 0},
    {"gelu_tanh", "activation", activation, ACT_GELU_TANH, {{6, 5}}, 0, 0},
    {"quick_gelu", "activation", activation, ACT_QUICK_GELU, {{6, 5}}, 0, 0},
    {"silu", "activation", activation, ACT_SILU, {{6, 5}}, 0, 0},
    {"relu", "activation", activation, ACT_RELU, {{6, 5}}, 0, 0},
    {"cross entropy", "cross_entropy", cross_entropy, 0, {{5, 4}, {7, 4}}, 2, 0},
    {"cross entropy, one row", "cross_entropy", cross_entropy, 0, {{1, 4}, {7, 4}}, 2, 0},
    {"cross entropy, tiles", "cross_entropy", cross_entropy, 1, {{1030, 2}, {2100, 2}}, 2, 8},
    {"distill", "distill", distill, TEACHER_T2, {{5, 4}, {7, 4}}, 2, 0},
    {"distill, of all tokens", "distill", distill, TEACHER_ALL, {{5, 4}, {7, 4}}, 2, 0},
    {"row_distance", "row_distance", row_distance, 0, {{5, 4}, {1, 1}}, 0, 0},
    {"distill, tiles", "distill", distill, TEACHER_TILES, {{1030, 2}, {2100, 2}}, 2, 8},
    {"group_rows", "group_rows", group_rows, 0, {{6, 3}}, 0, 0},
    {"repeat", "repeat", repeat, 0, {{5, 3}}, 0, 0},
    {"repeat, twice", "repeat", repeat, 1, {{5, 3}}, 0, 0},
    {"as_cached", "as_cached", as_cached, 0, {{5, 10}}, 0, STRAIGHT},
    {"as_cached, turned", "as_cached", as_cached, 1, {{5, 10}}, 0, STRAIGHT},
};
enum { CASES = sizeof cases / sizeof cases[0] };

#endif
