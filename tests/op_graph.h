/* op_graph.h - the graph of a case in op_cases.h: leaves with random values, recorded and planned
 * in several ways that must not matter. A fixed dot product turns the case's output into a loss.
 * The tape's memory is filled with NaN before each run, to expose reads of uninitialised memory. */
#ifndef TESTS_OP_GRAPH_H
#define TESTS_OP_GRAPH_H

#include "autograd/tape_parts.h"
#include "base/rng.h"
#include "tests/op_cases.h"

enum mode {
    DIRECT,        /* the inputs are leaves */
    CONVERTED,     /* and frozen weights are stored as fp32 */
    WRAPPED,       /* the inputs are outputs of nodes */
    SEGMENT,       /* the same, recomputed; the op's output is read outside the segment */
    SEGMENT_INNER, /* the same, but the op's output is only read inside */
    MODES
};

struct setup {
    const struct graph_case *c;
    int64_t scale;
    struct tape *t;
    int n;
    int64_t rows[LEAVES], cols[LEAVES], count[LEAVES];
    real *value[LEAVES], *grad[LEAVES];
    float *narrow[LEAVES]; /* the same values, chosen to be representable */
    struct tensor leaf[LEAVES], *out, *loss;
    bool keep; /* whether the test reads the output */
};

static void *zeroed(int64_t n, size_t size)
{
    void *p = calloc((size_t)n, size);

    assert_non_null(p);
    return p;
}

/* Matrices that are weights get smaller values when scaled, so that products do not grow. */
static void setup_open(struct setup *s, const struct graph_case *c, int64_t scale)
{
    struct err e = {0};
    struct rng r;

    *s = (struct setup){.c = c, .scale = scale, .t = tape_new(&e)};
    assert_non_null(s->t);
    rng_seed(&r, 7, (uint64_t)(c - cases));
    for (; s->n < LEAVES && c->shape[s->n][0]; s->n++) {
        int i = s->n;
        s->rows[i] = scaled(c->shape[i][0], scale);
        s->cols[i] = scaled(c->shape[i][1], scale);
        s->count[i] = s->rows[i] * s->cols[i];
        s->value[i] = zeroed(s->count[i], sizeof(real));
        s->grad[i] = zeroed(s->count[i], sizeof(real));
        s->narrow[i] = zeroed(s->count[i], sizeof(float));
        double deviation = c->weights >> i & 1 && s->rows[i] > 1 ? 1 / sqrt((double)scale) : 1;
        for (int64_t k = 0; k < s->count[i]; k++)
            s->value[i][k] = s->narrow[i][k] = (float)(deviation * rng_normal(&r));
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

/* Records and plans the case's graph with the leaves in `trained`, gradients zeroed. */
static void record(struct setup *s, unsigned trained, enum mode mode)
{
    struct tensor *x[LEAVES] = {NULL};
    struct err e = {0};

    tape_begin(s->t, true);
    if (mode >= SEGMENT) tape_segment_begin(s->t);
    for (int i = 0; i < s->n; i++) {
        bool needs = trained >> i & 1, narrow = !needs && s->c->weights >> i & 1;
        s->leaf[i] = mode == CONVERTED && narrow
                         ? tensor_leaf(DT_F32, s->rows[i], s->cols[i], s->narrow[i])
                         : tensor_leaf(DT_REAL, s->rows[i], s->cols[i], s->value[i]);
        s->leaf[i].needs_grad = needs;
        s->leaf[i].grad = needs ? s->grad[i] : NULL;
        memset(s->grad[i], 0, (size_t)s->count[i] * sizeof(real));
        x[i] = mode >= WRAPPED ? copy(s->t, &s->leaf[i]) : &s->leaf[i];
    }
    s->out = s->c->build(s->t, x, s->c->variant, s->scale);
    if (mode == SEGMENT_INNER) s->out = copy(s->t, s->out);
    if (mode >= SEGMENT) tape_segment_end(s->t);
    if (s->keep) tape_keep(s->out);
    s->loss = dot(s->t, s->out);
    if (!tape_plan(s->t, 0, &e)) fail_msg("%s", e.msg);
    memset(s->t->region, 0xff, s->t->region_size);
}

static void gradients(struct setup *s, unsigned trained, enum mode mode)
{
    record(s, trained, mode);
    tape_forward(s->t);
    tape_backward(s->t, s->loss);
}

#endif
