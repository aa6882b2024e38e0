/* test_gradients.c - every gradient of every op against central differences. Built in double
 * (AUTOGRAD_DOUBLE), so that the differences are good to about 1e-9 and a wrong term cannot hide.
 *
 * A case is a small graph over some leaves; a fixed dot product makes a loss of its output. The
 * gradients of the plain run are compared with differences; then every subset of the leaves is
 * trained, with the inputs as leaves (gradients add up) and as outputs of nodes (the first gradient
 * is written), with frozen weights stored as fp32, and within recomputed segments, and must give
 * the same. The tape's memory is filled with NaN before each run, so that what is read unset shows.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/ops.h"
#include "autograd/oplist.h"
#include "autograd/tape_impl.h"
#include "base/file.h"
#include "base/rng.h"

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
    return sin(1.7 * (double)i + 0.3);
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

/* ---- the graphs: x[] are the case's leaves, v its variant ---- */

typedef struct tensor *build_fn(struct tape *t, struct tensor *const x[], int v);

static struct tensor *linear(struct tape *t, struct tensor *const x[], int v)
{
    return op_linear(t, x[0], x[1], v & 1 ? x[2] : NULL, v & 2 ? x[3] : NULL);
}

/* x is input and residual, the weight comes in twice. */
static struct tensor *linear_twice(struct tape *t, struct tensor *const x[], int v)
{
    (void)v;
    struct tensor *y = op_linear(t, x[0], x[1], NULL, x[0]);
    return op_linear(t, y, x[1], x[2], x[0]);
}

/* A residual stream: the adds are the last to use h and share its gradient's memory. */
static struct tensor *residuals(struct tape *t, struct tensor *const x[], int v)
{
    struct tensor *h = copy(t, x[0]);

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

static struct tensor *modal_linear(struct tape *t, struct tensor *const x[], int v)
{
    const struct spans *s = &span_sets[v];
    struct tensor *w[MODALITIES], *b[MODALITIES];

    for (int m = 0; m < MODALITIES; m++) {
        w[m] = s->missing >> m & 1 ? NULL : x[1 + m];
        b[m] = s->biased >> m & 1 && w[m] ? x[3 + m] : NULL;
    }
    return op_modal_linear(t, x[0], w, b, s->span, s->n);
}

static struct tensor *modal_linear_shared(struct tape *t, struct tensor *const x[], int v)
{
    const struct spans *s = &span_sets[v];

    return op_modal_linear(t, x[0], (struct tensor *[]){x[1], x[1]},
                           (struct tensor *[]){x[2], x[2]}, s->span, s->n);
}

static struct tensor *head_linear(struct tape *t, struct tensor *const x[], int v)
{
    return op_head_linear(t, x[0], 2, x[1], 4, 2, v);
}

static struct tensor *patch_embed(struct tape *t, struct tensor *const x[], int v)
{
    return op_patch_embed(t, x[0], x[1], v ? x[2] : NULL, 2, 5, 2);
}

static struct tensor *embedding(struct tape *t, struct tensor *const x[], int v)
{
    static const int32_t ids[] = {3, 0, 3, 5, 3};

    return op_embedding(t, x[0], ids, v);
}

static struct tensor *select_rows(struct tape *t, struct tensor *const x[], int v)
{
    static const int32_t index[] = {1, -1, 3, 1, -2, -2}, only_a[] = {2, 2, 0};

    if (v == 0) return op_select_rows(t, x[0], x[1], index, 6);
    return op_select_rows(t, x[0], v == 1 ? NULL : x[0], v == 1 ? only_a : index, v == 1 ? 3 : 6);
}

static struct tensor *add(struct tape *t, struct tensor *const x[], int v)
{
    return op_add(t, x[0], v ? x[0] : x[1]);
}

static struct tensor *rmsnorm(struct tape *t, struct tensor *const x[], int v)
{
    struct tensor *y = op_rmsnorm(t, x[0], x[1], 1e-5);

    return v ? op_rmsnorm(t, op_add(t, y, x[0]), x[1], 1e-5) : y;
}

static struct tensor *layernorm(struct tape *t, struct tensor *const x[], int v)
{
    (void)v;
    return op_layernorm(t, x[0], x[1], x[2], 1e-5);
}

/* Position ids and frequencies of 3 pairs on two axes, for 5 tokens. */
static const int32_t positions[] = {0, 1, 2, 7, 9, 3, 1, 4, 1, 5};
static const float inv_freq[] = {1, 0.31f, 0.01f};
static const uint8_t axes[] = {0, 1, 1};
static const int32_t pair_index[] = {2, 0, 1, 1};

static struct tensor *rope(struct tape *t, struct tensor *const x[], int v)
{
    struct rope_table r = {.positions = positions,
                           .n = 5,
                           .inv_freq = inv_freq,
                           .pairs = 3,
                           .axis = axes,
                           .scale = 1.1};
    struct tensor *h = copy(t, x[0]), *table = op_rope_table(t, &r);

    if (v) h = op_rmsnorm(t, h, x[1], 1e-5);
    h = op_rope(t, h, table, 1, 2, 2, pair_index);
    h = op_rope(t, h, table, 2, 1, 3, NULL);
    if (v < 2) return h;
    tape_keep(h); /* so it is not made again, though the norm before it is */
    return op_activation(t, h, ACT_SILU);
}

static const struct attention_sample samples[] = {{0, 1, 0, 1}, {1, 6, 1, 6}, {6, 8, 6, 8}};
/* Two samples of 4 and 3 keys, of which some positions are asked for. */
static const struct attention_sample asked[] = {{0, 2, 0, 4}, {2, 3, 4, 7}};
static const int32_t asked_index[] = {1, 3, 2};
static const struct attention_sample longer[] = {{0, 70, 0, 300}};

enum { CAUSAL = 1, TWO_PARTS = 2, ASKED = 4, FUSED = 8, LONG = 16 };

/* 4 query heads, 2 kv heads, values of width 2. Leaves: q, k, v, second q, second k. */
static struct tensor *attention(struct tape *t, struct tensor *const x[], int v)
{
    struct attention a = {.part = {{x[0], x[1], 1, 0, 3}, {x[3], x[4], 0, 1, 2}},
                          .parts = v & TWO_PARTS ? 2 : 1,
                          .v = x[2],
                          .heads = 4,
                          .groups = 2,
                          .v_width = 2,
                          .samples = samples,
                          .n_samples = 3,
                          .causal = v & CAUSAL,
                          .scale = 0.6};
    if (v & ASKED) {
        a.samples = asked;
        a.n_samples = 2;
        a.q_index = asked_index;
    }
    if (v & LONG) {
        a.samples = longer;
        a.n_samples = 1;
    }
    return op_attention(t, &a);
}

/* One tensor holds rotated and unrotated queries [0,8) and [8,16), keys, and the values. */
static struct tensor *attention_fused(struct tape *t, struct tensor *const x[], int v)
{
    struct attention a = {.part = {{x[0], x[0], 0, 16, 2}, {x[0], x[0], 8, 20, 2}},
                          .parts = 2,
                          .v = x[1],
                          .heads = 4,
                          .groups = 2,
                          .v_width = 2,
                          .samples = samples,
                          .n_samples = 3,
                          .causal = v & CAUSAL,
                          .scale = 0.6};
    return op_attention(t, &a);
}

static struct tensor *swiglu(struct tape *t, struct tensor *const x[], int v)
{
    return op_swiglu(t, x[0], v ? x[0] : x[1]);
}

static struct tensor *activation(struct tape *t, struct tensor *const x[], int v)
{
    return op_activation(t, x[0], (enum activation)v);
}

static struct tensor *cross_entropy(struct tape *t, struct tensor *const x[], int v)
{
    int32_t *labels = tape_new_array(t, int32_t, x[0]->rows);

    for (int64_t i = 0; i < x[0]->rows; i++)
        labels[i] = (int32_t)(i * i * 31 % x[1]->rows);
    return op_cross_entropy(t, x[0], x[1], labels, v ? 0.01 : 1.5);
}

/* ---- the cases ---- */

struct graph_case {
    const char *name;
    const struct op *op;
    build_fn *build;
    int variant;
    int64_t shape[LEAVES][2];
    unsigned weights; /* leaves that may be frozen in another dtype */
    int samples;      /* elements to difference per leaf (0: 64), evenly spread */
};
static const struct graph_case cases[] = {
    {"linear", &linear_op, linear, 0, {{5, 4}, {3, 4}}, 2, 0},
    {"linear, bias", &linear_op, linear, 1, {{5, 4}, {3, 4}, {1, 3}}, 6, 0},
    {"linear, bias, residual", &linear_op, linear, 3, {{5, 4}, {3, 4}, {1, 3}, {5, 3}}, 6, 0},
    {"linear, one row", &linear_op, linear, 1, {{1, 4}, {3, 4}, {1, 3}}, 6, 0},
    {"linear, x and w twice", &linear_op, linear_twice, 0, {{5, 4}, {4, 4}, {1, 4}}, 6, 0},
    {"residual stream", &add_op, residuals, 0, {{5, 4}, {4, 4}, {1, 4}}, 6, 0},
    {"residual stream, longer", &add_op, residuals, 1, {{5, 4}, {4, 4}, {1, 4}}, 6, 0},
    {"modal, text image text",
     &modal_linear_op,
     modal_linear,
     0,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, image text", &modal_linear_op, modal_linear, 1, {{7, 4}, {3, 4}, {3, 4}}, 6, 0},
    {"modal, no image",
     &modal_linear_op,
     modal_linear,
     2,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, no text",
     &modal_linear_op,
     modal_linear,
     3,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, touching runs",
     &modal_linear_op,
     modal_linear,
     4,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, empty run",
     &modal_linear_op,
     modal_linear,
     5,
     {{7, 4}, {3, 4}, {3, 4}, {1, 3}, {1, 3}},
     30,
     0},
    {"modal, one weight", &modal_linear_op, modal_linear_shared, 0, {{7, 4}, {3, 4}, {1, 3}}, 6, 0},
    {"head linear", &head_linear_op, head_linear, 0, {{3, 15}, {6, 5}}, 2, 0},
    {"head linear, one row", &head_linear_op, head_linear, 0, {{1, 14}, {6, 5}}, 2, 0},
    {"head linear, blocks", &head_linear_op, head_linear, 0, {{150, 15}, {6, 5}}, 2, 0},
    {"head linear, transposed", &head_linear_op, head_linear, 1, {{3, 15}, {10, 3}}, 2, 0},
    {"head linear, transposed, one row", &head_linear_op, head_linear, 1, {{1, 15}, {10, 3}}, 2, 0},
    {"patch embed", &patch_embed_op, patch_embed, 0, {{2, 50}, {3, 8}}, 2, 0},
    {"patch embed, bias", &patch_embed_op, patch_embed, 1, {{2, 50}, {3, 8}, {1, 3}}, 6, 0},
    {"embedding", &embedding_op, embedding, 5, {{6, 3}}, 1, 0},
    {"embedding, one row", &embedding_op, embedding, 1, {{6, 3}}, 1, 0},
    {"select rows", &select_rows_op, select_rows, 0, {{4, 3}, {2, 3}}, 2, 0},
    {"select rows, one source", &select_rows_op, select_rows, 1, {{4, 3}}, 0, 0},
    {"select rows, the source twice", &select_rows_op, select_rows, 2, {{4, 3}}, 0, 0},
    {"add", &add_op, add, 0, {{6, 3}, {6, 3}}, 2, 0},
    {"add, repeated", &add_op, add, 0, {{6, 3}, {2, 3}}, 2, 0},
    {"add, one row", &add_op, add, 0, {{6, 3}, {1, 3}}, 2, 0},
    {"add to itself", &add_op, add, 1, {{6, 3}}, 0, 0},
    {"rmsnorm", &rmsnorm_op, rmsnorm, 0, {{4, 5}, {1, 5}}, 2, 0},
    {"rmsnorm, wide", &rmsnorm_op, rmsnorm, 0, {{2, 150}, {1, 150}}, 2, 0},
    {"rmsnorm, x and w twice", &rmsnorm_op, rmsnorm, 1, {{4, 5}, {1, 5}}, 2, 0},
    {"layernorm", &layernorm_op, layernorm, 0, {{4, 5}, {1, 5}, {1, 5}}, 6, 0},
    {"rope", &rope_op, rope, 0, {{5, 10}}, 0, 0},
    {"rope of a norm", &rope_op, rope, 1, {{5, 10}, {1, 10}}, 2, 0},
    {"rope of a norm, kept", &rope_op, rope, 2, {{5, 10}, {1, 10}}, 2, 0},
    {"attention", &attention_op, attention, 0, {{8, 13}, {8, 6}, {8, 4}}, 0, 0},
    {"attention, causal", &attention_op, attention, CAUSAL, {{8, 13}, {8, 6}, {8, 4}}, 0, 0},
    {"attention, two parts",
     &attention_op,
     attention,
     TWO_PARTS,
     {{8, 13}, {8, 6}, {8, 4}, {8, 8}, {8, 5}},
     0,
     0},
    {"attention, two parts, causal",
     &attention_op,
     attention,
     CAUSAL | TWO_PARTS,
     {{8, 13}, {8, 6}, {8, 4}, {8, 8}, {8, 5}},
     0,
     0},
    {"attention, asked rows",
     &attention_op,
     attention,
     CAUSAL | ASKED,
     {{3, 13}, {7, 6}, {7, 4}},
     0,
     0},
    {"attention, one tensor", &attention_op, attention_fused, CAUSAL, {{8, 24}, {8, 4}}, 0, 0},
    {"attention, several tiles",
     &attention_op,
     attention,
     LONG,
     {{70, 13}, {300, 6}, {300, 4}},
     0,
     24},
    {"swiglu", &swiglu_op, swiglu, 0, {{3, 4}, {3, 4}}, 0, 0},
    {"swiglu, one tensor", &swiglu_op, swiglu, 1, {{3, 4}}, 0, 0},
    {"gelu", &activation_op, activation, ACT_GELU, {{6, 5}}, 0, 0},
    {"gelu_tanh", &activation_op, activation, ACT_GELU_TANH, {{6, 5}}, 0, 0},
    {"quick_gelu", &activation_op, activation, ACT_QUICK_GELU, {{6, 5}}, 0, 0},
    {"silu", &activation_op, activation, ACT_SILU, {{6, 5}}, 0, 0},
    {"relu", &activation_op, activation, ACT_RELU, {{6, 5}}, 0, 0},
    {"cross entropy", &cross_entropy_op, cross_entropy, 0, {{5, 4}, {7, 4}}, 2, 0},
    {"cross entropy, one row", &cross_entropy_op, cross_entropy, 0, {{1, 4}, {7, 4}}, 2, 0},
    {"cross entropy, tiles", &cross_entropy_op, cross_entropy, 1, {{1030, 2}, {2100, 2}}, 2, 8},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* ---- the harness ---- */

enum mode {
    DIRECT,        /* the inputs are leaves */
    CONVERTED,     /* and frozen weights are stored as fp32 */
    WRAPPED,       /* the inputs are outputs of nodes */
    SEGMENT,       /* the same, recomputed; the op's output is read outside */
    SEGMENT_INNER, /* the same, but only the segment sees the op's output */
    MODES
};

struct setup {
    const struct graph_case *c;
    struct tape *t;
    int n;
    int64_t count[LEAVES];
    double *value[LEAVES], *grad[LEAVES];
    float *narrow[LEAVES]; /* the same values, which are chosen to fit */
    struct tensor leaf[LEAVES], *loss;
};

static void *zeroed(int64_t n, size_t size)
{
    void *p = calloc((size_t)n, size);

    assert_non_null(p);
    return p;
}

static void setup_open(struct setup *s, const struct graph_case *c)
{
    struct err e = {""};
    struct rng r;

    *s = (struct setup){.c = c, .t = tape_new(&e)};
    assert_non_null(s->t);
    rng_seed(&r, 7, (uint64_t)(c - cases));
    for (; s->n < LEAVES && c->shape[s->n][0]; s->n++) {
        int64_t n = s->count[s->n] = c->shape[s->n][0] * c->shape[s->n][1];
        s->value[s->n] = zeroed(n, sizeof(double));
        s->grad[s->n] = zeroed(n, sizeof(double));
        s->narrow[s->n] = zeroed(n, sizeof(float));
        for (int64_t i = 0; i < n; i++)
            s->value[s->n][i] = s->narrow[s->n][i] = (float)rng_normal(&r);
    }
}

static void setup_close(struct setup *s)
{
    tape_free(s->t);
    for (int i = 0; i < s->n; i++) {
        free(s->value[i]);
        free(s->grad[i]);
        free(s->narrow[i]);
    }
}

/* Records and plans the case's graph with the leaves of `trained`, gradients zeroed. */
static void record(struct setup *s, unsigned trained, enum mode mode)
{
    struct tensor *x[LEAVES] = {NULL}, *y;
    struct err e = {""};

    tape_begin(s->t, true);
    if (mode >= SEGMENT) tape_segment_begin(s->t);
    for (int i = 0; i < s->n; i++) {
        bool needs = trained >> i & 1, narrow = !needs && s->c->weights >> i & 1;
        int64_t rows = s->c->shape[i][0], cols = s->c->shape[i][1];
        s->leaf[i] = mode == CONVERTED && narrow ? tensor_leaf(DT_F32, rows, cols, s->narrow[i])
                                                 : tensor_leaf(DT_F64, rows, cols, s->value[i]);
        s->leaf[i].needs_grad = needs;
        s->leaf[i].grad = needs ? s->grad[i] : NULL;
        memset(s->grad[i], 0, (size_t)s->count[i] * sizeof(double));
        x[i] = mode >= WRAPPED ? copy(s->t, &s->leaf[i]) : &s->leaf[i];
    }
    y = s->c->build(s->t, x, s->c->variant);
    if (mode == SEGMENT_INNER) y = copy(s->t, y);
    if (mode >= SEGMENT) tape_segment_end(s->t);
    s->loss = dot(s->t, y);
    if (!tape_plan(s->t, 0, &e)) fail_msg("%s", e.msg);
    memset(s->t->region, 0xff, s->t->region_size);
}

static double loss_of(struct setup *s)
{
    tape_forward(s->t);
    return tensor_real(s->loss)[0];
}

static void gradients(struct setup *s, unsigned trained, enum mode mode)
{
    record(s, trained, mode);
    tape_forward(s->t);
    tape_backward(s->t, s->loss);
}

/* Central differences with a step h: their error is h^2/6 times the third derivative, about 1e-11,
 * and the rounding of the loss over 2h, about 1e-16 |loss| / 1e-5: the floor grows with the loss.
 */
static void check_differences(struct setup *s)
{
    const double h = 1e-5;
    double *grad[LEAVES];

    gradients(s, (1u << s->n) - 1, DIRECT);
    double floor = 1e-9 * (1 + fabs(tensor_real(s->loss)[0]));
    memcpy(grad, s->grad, sizeof grad);
    for (int i = 0; i < s->n; i++) {
        int64_t most = s->c->samples ? s->c->samples : 64;
        int64_t step = s->count[i] / most > 0 ? s->count[i] / most : 1;
        for (int64_t k = 0; k < s->count[i]; k += step) {
            double kept = s->value[i][k], up, down, slope;
            s->value[i][k] = kept + h;
            up = loss_of(s);
            s->value[i][k] = kept - h;
            down = loss_of(s);
            s->value[i][k] = kept;
            slope = (up - down) / (2 * h);
            if (!(fabs(slope - grad[i][k]) <= 1e-6 * fabs(slope) + floor))
                fail_msg("%s: leaf %d element %d: gradient %.12g, difference %.12g", s->c->name, i,
                         (int)k, grad[i][k], slope);
        }
    }
}

/* The gradients of the trained leaves, one behind the other. */
static double *saved(const struct setup *s, unsigned trained)
{
    int64_t total = 0;
    double *all;

    for (int i = 0; i < s->n; i++)
        total += s->count[i];
    all = zeroed(total, sizeof(double));
    total = 0;
    for (int i = 0; i < s->n; i++) {
        if (trained >> i & 1) memcpy(all + total, s->grad[i], (size_t)s->count[i] * sizeof(double));
        total += s->count[i];
    }
    return all;
}

/* Compares the trained leaves' gradients with `times` those in `all`; tolerance 0: bit for bit. */
static void check_same(const struct setup *s, unsigned trained, const double *all, double times,
                       double tolerance, const char *what)
{
    for (int i = 0; i < s->n; all += s->count[i], i++)
        for (int64_t k = 0; k < s->count[i] && trained >> i & 1; k++)
            if (!(fabs(s->grad[i][k] - times * all[k]) <= tolerance * (1 + fabs(all[k]))))
                fail_msg("%s: %s, trained %x: leaf %d element %d: %.17g, not %.17g", s->c->name,
                         what, trained, i, (int)k, s->grad[i][k], times * all[k]);
}

static void check_modes(struct setup *s)
{
    static const char *const names[MODES] = {"leaves", "frozen in fp32", "outputs of nodes",
                                             "recomputed", "recomputed, inner"};
    unsigned every = (1u << s->n) - 1;
    double *all;

    gradients(s, every, DIRECT);
    all = saved(s, every);
    for (unsigned trained = 1; trained <= every; trained++) {
        double *wrapped = NULL;
        for (int mode = 0; mode < MODES; mode++) {
            gradients(s, trained, (enum mode)mode);
            check_same(s, trained, all, 1, 1e-11, names[mode]);
            if (mode == WRAPPED) wrapped = saved(s, trained);
            if (mode > WRAPPED) check_same(s, trained, wrapped, 1, 0, names[mode]);
            tape_forward(s->t);
            tape_backward(s->t, s->loss);
            check_same(s, trained, all, 2, 1e-11, "two passes");
        }
        free(wrapped);
    }
    free(all);
}

static void test_case(void **state)
{
    struct setup s;

    setup_open(&s, *state);
    check_differences(&s);
    check_modes(&s);
    setup_close(&s);
}

/* Ops without a backward: the test of their forward, and where it is. */
static const struct {
    const struct op *op;
    const char *test, *file;
} forward_only[] = {
    {&rope_table_op, "test_rope_table", "tests/test_ops.c"},
    {&cache_write_op, "test_cache_write", "tests/test_attention.c"},
    {&cached_attention_op, "test_cached_attention", "tests/test_attention.c"},
};

/* The tests are named in their file's main; the file is read to see that they still are. */
static bool file_runs(const char *path, const char *test)
{
    struct err e = {""};
    char *text = NULL, call[128];
    size_t len = 0;

    if (!file_read(path, 1 << 20, &text, &len, &e)) fail_msg("%s", e.msg);
    snprintf(call, sizeof call, "cmocka_unit_test(%s)", test);
    bool found = strstr(text, call) != NULL;
    free(text);
    return found;
}

static bool has_test(const struct op *op)
{
    for (int i = 0; i < CASES && op->backward; i++)
        if (cases[i].op == op) return true;
    for (size_t i = 0; i < sizeof forward_only / sizeof forward_only[0]; i++)
        if (forward_only[i].op == op && !op->backward)
            return file_runs(forward_only[i].file, forward_only[i].test);
    return false;
}

static void test_every_op_has_a_case(void **state)
{
    (void)state;
    assert_true(op_count > 0);
    for (int i = 0; i < op_count; i++) {
        if (!has_test(op_list[i])) fail_msg("%s has no test", op_list[i]->name);
        for (int k = 0; k < i; k++)
            assert_ptr_not_equal(op_list[i], op_list[k]);
    }
}

/* An op that is in no list would escape the test above: the ops defined in the sources are listed.
 */
static void check_listed(const char *file, int *found)
{
    static const char definition[] = "\nconst struct op ";
    struct err e = {""};
    char *text = NULL, name[64];
    size_t len = 0;

    if (!file_read(file, 1 << 20, &text, &len, &e)) fail_msg("%s", e.msg);
    for (char *at = text; (at = strstr(at, definition));) {
        int i = 0;
        at += sizeof definition - 1;
        if (*at == '*') continue; /* the list itself */
        assert_int_equal(sscanf(at, "%*s = {\"%63[^\"]", name), 1);
        while (i < op_count && strcmp(op_list[i]->name, name) != 0)
            i++;
        if (i == op_count) fail_msg("%s: %s is not in op_list", file, name);
        ++*found;
    }
    free(text);
}

static void test_every_op_is_listed(void **state)
{
    DIR *dir = opendir("autograd");
    int found = 0;

    (void)state;
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));) {
        char file[300];
        size_t n = strlen(d->d_name);
        snprintf(file, sizeof file, "autograd/%s", d->d_name);
        if (n > 2 && strcmp(d->d_name + n - 2, ".c") == 0) check_listed(file, &found);
    }
    closedir(dir);
    assert_int_equal(found, op_count);
}

int main(void)
{
    struct CMUnitTest tests[CASES + 2] = {cmocka_unit_test(test_every_op_has_a_case),
                                          cmocka_unit_test(test_every_op_is_listed)};

    for (int i = 0; i < CASES; i++)
        tests[i + 2] =
            (struct CMUnitTest){cases[i].name, test_case, NULL, NULL, (void *)(uintptr_t)&cases[i]};
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
