/* test_ops.c - the forward of every op, as used in training (fp32), against references in double;
 * weights in every dtype; large numbers; no rows; sums that must not depend on the number of
 * threads; and exp. For attention see test_attention.c, for gradients test_gradients.c. */
#include "autograd/mathfun.h"
#include "tests/ops_bench.h"

#include <omp.h>

static const enum dtype dtypes[] = {DT_F32, DT_BF16, DT_F16, DT_F64};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

/* ---- linear and its kin ---- */

static void test_linear(void **state)
{
    static const int64_t rows[] = {1, 37, 300};

    (void)state;
    for (int k = 0; k < DTYPES * 3; k++) {
        struct bench b;
        bench_open(&b);
        int64_t T = rows[k % 3], I = 65, O = 130;
        struct matrix *x = fresh(&b, DT_F32, T, I, 1), *w = fresh(&b, dtypes[k / 3], O, I, 1);
        struct matrix *bias = fresh(&b, dtypes[k / 3], 1, O, 1), *r = fresh(&b, DT_F32, T, O, 1);
        struct tensor *y = op_linear(b.t, &x->leaf, &w->leaf, &bias->leaf, &r->leaf);
        compute(&b);
        for (int64_t i = 0; i < T * O; i++)
            r->ref[i] += bias->ref[i % O];
        product(T, O, I, x->ref, I, w->ref, true, r->ref, O);
        check_close(y, r->ref, 1e-5);
        bench_close(&b);
    }
}

static void test_modal_linear(void **state)
{
    static const struct span spans[] = {
        {0, 3, TEXT}, {3, 40, IMAGE}, {40, 40, TEXT}, {40, 44, IMAGE}, {44, 50, TEXT}};

    (void)state;
    for (int k = 0; k < DTYPES; k++) {
        struct bench b;
        bench_open(&b);
        struct matrix *x = fresh(&b, DT_F32, 50, 33, 1), *w[2],
                      *bias = fresh(&b, dtypes[k], 1, 20, 1);
        w[TEXT] = fresh(&b, dtypes[k], 20, 33, 1);
        w[IMAGE] = fresh(&b, dtypes[(k + 1) % DTYPES], 20, 33, 1);
        struct tensor *y =
            op_modal_linear(b.t, &x->leaf, (struct tensor *[]){&w[TEXT]->leaf, &w[IMAGE]->leaf},
                            (struct tensor *[]){&bias->leaf, NULL}, spans, 5);
        double *ref = zeroed(50 * 20, sizeof *ref);
        compute(&b);
        for (int64_t i = 0; i < 50; i++) {
            enum modality m = i >= 3 && i < 44 ? IMAGE : TEXT;
            for (int64_t j = 0; j < 20 && m == TEXT; j++)
                ref[i * 20 + j] = bias->ref[j];
            product(1, 20, 33, x->ref + i * 33, 33, w[m]->ref, true, ref + i * 20, 20);
        }
        check_close(y, ref, 1e-5);
        free(ref);
        bench_close(&b);
    }
}

static void test_head_linear(void **state)
{
    enum { HEADS = 6, GROUPS = 2, A = 5, C = 7, X_COL = 3 };
    static const int64_t rows[] = {1, 2, 5, 300};

    (void)state;
    for (int k = 0; k < DTYPES * 4 * 2; k++) {
        struct bench b;
        bool trans = k % 2;
        int64_t T = rows[k / 2 % 4], cols = X_COL + HEADS * A + 2;
        bench_open(&b);
        struct matrix *x = fresh(&b, DT_F32, T, cols, 1);
        struct matrix *w =
            fresh(&b, dtypes[k / 8], trans ? GROUPS * C : GROUPS * A, trans ? A : C, 1);
        struct tensor *y = op_head_linear(b.t, &x->leaf, X_COL, &w->leaf, HEADS, GROUPS, trans);
        double *ref = zeroed(T * HEADS * C, sizeof *ref);
        assert_int_equal(y->cols, HEADS * C);
        compute(&b);
        for (int64_t h = 0; h < HEADS; h++)
            product(T, C, A, x->ref + X_COL + h * A, cols, w->ref + h / (HEADS / GROUPS) * A * C,
                    trans, ref + h * C, HEADS * C);
        check_close(y, ref, 1e-5);
        free(ref);
        bench_close(&b);
    }
}

/* A convolution with stride = kernel = 3 of 2 images of 2 channels, 8x8: the last 2
 * pixels are ignored. */
static void test_patch_embed(void **state)
{
    enum { N = 2, C = 2, S = 8, P = 3, SIDE = 2, D = 5 };

    (void)state;
    for (int k = 0; k < DTYPES; k++) {
        struct bench b;
        double ref[N * SIDE * SIDE * D];
        bench_open(&b);
        struct matrix *x = fresh(&b, DT_F32, N, C * S * S, 1);
        struct matrix *w = fresh(&b, dtypes[k], D, C * P * P, 1),
                      *v = fresh(&b, dtypes[k], 1, D, 1);
        struct tensor *y = op_patch_embed(b.t, &x->leaf, &w->leaf, &v->leaf, C, S, P);
        compute(&b);
        for (int i = 0; i < N * SIDE * SIDE * D; i++) {
            int d = i % D, px = i / D % SIDE, py = i / D / SIDE % SIDE, image = i / D / SIDE / SIDE;
            ref[i] = v->ref[d];
            for (int c = 0; c < C * P * P; c++)
                ref[i] +=
                    w->ref[d * C * P * P + c] *
                    x->ref[((image * C + c / P / P) * S + py * P + c / P % P) * S + px * P + c % P];
        }
        assert_int_equal(y->rows, N * SIDE * SIDE);
        check_close(y, ref, 1e-5);
        bench_close(&b);
    }
}

/* ---- rows ---- */

static void test_rows(void **state)
{
    static const int32_t ids[] = {5, 0, 5, 3}, index[] = {-1, 2, -2, 2, 0};

    (void)state;
    for (int k = 0; k < DTYPES; k++) {
        struct bench b;
        double ref[6 * 3];
        bench_open(&b);
        struct matrix *w = fresh(&b, dtypes[k], 6, 3, 1), *a = fresh(&b, DT_F32, 6, 3, 1);
        struct matrix *p = fresh(&b, dtypes[k], 2, 3, 1);
        struct tensor *e = op_embedding(b.t, &w->leaf, ids, 4, -1);
        struct tensor *s = op_select_rows(b.t, &a->leaf, &p->leaf, index, 5);
        struct tensor *sum = op_add(b.t, &a->leaf, &p->leaf);
        struct tensor *join = op_join(b.t, &a->leaf, &w->leaf);
        compute(&b);
        for (int i = 0; i < 4 * 3; i++)
            ref[i] = w->ref[ids[i / 3] * 3 + i % 3];
        check_close(e, ref, 1e-7);
        for (int i = 0; i < 5 * 3; i++)
            ref[i] = index[i / 3] < 0 ? p->ref[(-index[i / 3] - 1) * 3 + i % 3]
                                      : a->ref[index[i / 3] * 3 + i % 3];
        check_close(s, ref, 1e-7);
        for (int i = 0; i < 6 * 3; i++)
            ref[i] = a->ref[i] + p->ref[i % 6];
        check_close(sum, ref, 1e-7);
        double both[6 * 6];
        for (int i = 0; i < 6 * 6; i++)
            both[i] = (i % 6 < 3 ? a : w)->ref[i / 6 * 3 + i % 3];
        check_close(join, both, 1e-7);
        bench_close(&b);
    }
}

/* ---- norms, rope, activations ---- */

static void norm_reference(const struct matrix *x, const double *w, const double *v, double eps,
                           double *ref)
{
    int64_t d = x->leaf.cols;

    for (int64_t i = 0; i < x->leaf.rows; i++) {
        const double *row = x->ref + i * d;
        double mean = 0, square = 0;
        for (int64_t j = 0; j < d && v; j++)
            mean += row[j] / (double)d;
        for (int64_t j = 0; j < d; j++)
            square += (row[j] - mean) * (row[j] - mean) / (double)d;
        for (int64_t j = 0; j < d; j++)
            ref[i * d + j] = (row[j] - mean) / sqrt(square + eps) * w[j] + (v ? v[j] : 0);
    }
}

static void test_norms(void **state)
{
    static const double sizes[] = {1, 1e-4, 1e4};

    (void)state;
    for (int k = 0; k < DTYPES * 3; k++) {
        struct bench b;
        double ref[9 * 70];
        bench_open(&b);
        struct matrix *x = fresh(&b, DT_F32, 9, 70, sizes[k % 3]);
        struct matrix *w = fresh(&b, dtypes[k / 3], 1, 70, 1),
                      *v = fresh(&b, dtypes[k / 3], 1, 70, 1);
        struct tensor *rms = op_rmsnorm(b.t, &x->leaf, &w->leaf, 1e-6);
        struct tensor *layer = op_layernorm(b.t, &x->leaf, &w->leaf, &v->leaf, 1e-5);
        compute(&b);
        norm_reference(x, w->ref, NULL, 1e-6, ref);
        check_close(rms, ref, 2e-6);
        norm_reference(x, w->ref, v->ref, 1e-5, ref);
        check_close(layer, ref, 2e-6);
        bench_close(&b);
    }
}

/* The angle is the fp32 product: at position 100,000 the exact one differs by 1e-3 and more. */
static void test_rope_table(void **state)
{
    static const int32_t positions[] = {0, 7, 100000, 4, 5, 99999};
    static const float freq[] = {1, 0.7498942f, 0.0021544f, 0.5f, 0.25f, 0.125f};
    static const uint8_t axis[] = {0, 1, 0};
    static const int32_t set[] = {0, 1, 0};
    struct bench b;

    (void)state;
    bench_open(&b);
    for (int k = 0; k < 3; k++) {
        double ref[3 * 6];
        struct rope_table r = {
            .positions = positions, .n = 3, .inv_freq = freq, .pairs = 3, .scale = 1};
        if (k == 1) r.axis = axis;
        if (k == 1) r.scale = 1.3;
        if (k == 2) r.set = set;
        tape_begin(b.t, false);
        struct tensor *y = op_rope_table(b.t, &r);
        compute(&b);
        for (int i = 0; i < 3 * 3; i++) {
            volatile float angle = (float)positions[(k == 1 ? axis[i % 3] : 0) * 3 + i / 3] *
                                   freq[(k == 2 ? set[i / 3] : 0) * 3 + i % 3];
            ref[i / 3 * 6 + i % 3] = cos((double)angle) * r.scale;
            ref[i / 3 * 6 + 3 + i % 3] = sin((double)angle) * r.scale;
        }
        check_close(y, ref, 1e-7);
    }
    bench_close(&b);
}

/* Two heads of 2 pairs that use the table's pairs (2,0) and (1,1), from column 3 on. */
static void test_rope(void **state)
{
    static const int32_t positions[] = {0, 3, 9, 20}, index[] = {2, 0, 1, 1};
    static const float freq[] = {1, 0.5f, 0.1f};
    struct bench b;

    (void)state;
    bench_open(&b);
    for (int k = 0; k < 2; k++) {
        struct rope_table r = {
            .positions = positions, .n = 4, .inv_freq = freq, .pairs = 3, .scale = 1};
        struct matrix *x = fresh(&b, DT_F32, 4, 13, 1), *zero = fresh(&b, DT_F32, 1, 13, 0);
        tape_begin(b.t, false);
        struct tensor *y = op_add(b.t, &x->leaf, &zero->leaf);
        y = op_rope(b.t, y, op_rope_table(b.t, &r), 3, 2, 2, k ? index : NULL);
        compute(&b);
        for (int i = 0; i < 4 * 4; i++) {
            int h = i / 2 % 2, j = i % 2;
            double *at = x->ref + i / 4 * 13 + 3 + h * 4 + j, u = at[0], v = at[2];
            double angle = positions[i / 4] * (double)freq[k ? index[h * 2 + j] : j];
            at[0] = u * cos(angle) - v * sin(angle);
            at[2] = v * cos(angle) + u * sin(angle);
        }
        check_close(y, x->ref, 1e-6);
    }
    bench_close(&b);
}

static double activation_reference(enum activation kind, double x)
{
    switch (kind) {
    case ACT_GELU:
        return x * 0.5 * (1 + erf(x / sqrt(2)));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_RELU:
        return x > 0 ? x : 0;
    }
    return NAN;
}

/* Relative to each value, or absolute below 1: from tiny values to where exp overflows. */
static void test_activations(void **state)
{
    static const double sizes[] = {0.01, 1, 10, 1000};
    struct bench b;

    (void)state;
    bench_open(&b);
    for (int k = 0; k < 5 * 4; k++) {
        struct matrix *x = fresh(&b, DT_F32, 10, 1000, sizes[k % 4]);
        tape_begin(b.t, false);
        struct tensor *y = op_activation(b.t, &x->leaf, (enum activation)(k / 4));
        compute(&b);
        for (int64_t i = 0; i < 10000; i++) {
            double ref = activation_reference((enum activation)(k / 4), x->ref[i]);
            double diff = fabs((double)tensor_real(y)[i] - ref);
            if (!(diff <= 2e-6 * fmin(1, fabs(x->ref[i])) + 1e-6 * fabs(ref)))
                fail_msg("activation %d of %g: %g, not %g", k / 4, x->ref[i],
                         (double)tensor_real(y)[i], ref);
        }
    }
    bench_close(&b);
}

static void test_swiglu(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b);
    struct matrix *g = fresh(&b, DT_F32, 20, 1000, 5), *u = fresh(&b, DT_F32, 20, 1000, 1);
    struct tensor *y = op_swiglu(b.t, &g->leaf, &u->leaf);
    compute(&b);
    for (int64_t i = 0; i < 20000; i++)
        g->ref[i] = activation_reference(ACT_SILU, g->ref[i]) * u->ref[i];
    check_close(y, g->ref, 1e-6);
    bench_close(&b);
}

/* ---- cross entropy ---- */

/* The loss, and d loss / d h unless dh is NULL. */
static double loss_reference(const struct matrix *h, const struct matrix *w, const int32_t *labels,
                             double scale, double *dh)
{
    int64_t d = h->leaf.cols, V = w->leaf.rows;
    double loss = 0, *z = zeroed(V, sizeof *z);

    for (int64_t i = 0; i < h->leaf.rows; i++) {
        double top = -INFINITY, sum = 0;
        memset(z, 0, (size_t)V * sizeof *z);
        product(1, V, d, h->ref + i * d, d, w->ref, true, z, V);
        for (int64_t j = 0; j < V; j++)
            top = fmax(top, z[j]);
        for (int64_t j = 0; j < V; j++)
            sum += exp(z[j] - top);
        loss += scale * (top + log(fmax(sum, 1)) - z[labels[i]]); /* the largest adds 1 */
        for (int64_t j = 0; j < V && dh; j++)
            for (int64_t c = 0; c < d; c++)
                dh[i * d + c] +=
                    scale * (exp(z[j] - top) / sum - (j == labels[i])) * w->ref[j * d + c];
    }
    free(z);
    return loss;
}

struct loss_case {
    int64_t rows, vocab, d;
    double size, tolerance;
};
/* The last but one needs tiles over rows and vocabulary, the last has logits of about 1e5. */
static const struct loss_case loss_cases[] = {
    {1, 17, 8, 1, 1e-5}, {30, 3000, 8, 1, 1e-5}, {1100, 2100, 4, 1, 1e-5}, {20, 50, 8, 300, 1e-4}};

static void test_cross_entropy(void **state)
{
    (void)state;
    for (int k = 0; k < DTYPES * 4; k++) {
        const struct loss_case *c = &loss_cases[k % 4];
        struct bench b;
        bench_open(&b);
        tape_begin(b.t, true);
        struct matrix *h = fresh(&b, DT_F32, c->rows, c->d, c->size);
        struct matrix *w = fresh(&b, dtypes[k / 4], c->vocab, c->d, c->size);
        int32_t *labels = zeroed(c->rows, sizeof *labels);
        double *dh = zeroed(c->rows * c->d, sizeof *dh), want;
        for (int64_t i = 0; i < c->rows; i++)
            labels[i] = (int32_t)rng_below(&b.rng, (uint64_t)c->vocab);
        h->leaf.needs_grad = true;
        h->leaf.grad = zeroed(c->rows * c->d, sizeof(real));
        struct tensor *loss =
            op_cross_entropy(b.t, &h->leaf, &w->leaf, labels, 1.0 / (double)c->rows);
        compute(&b);
        tape_backward(b.t, loss);
        want = loss_reference(h, w, labels, 1.0 / (double)c->rows, dh);
        check_close(loss, &want, c->tolerance);
        struct tensor got = tensor_leaf(DT_F32, c->rows, c->d, h->leaf.grad);
        /* In fp32, an lse of 1e5 is accurate to 1e-2, so probabilities are off by that much. */
        check_close(&got, dh, c->size > 1 ? 3e-2 : 1e-5);
        free(labels);
        free(dh);
        bench_close(&b);
    }
}

/* A frozen bf16 weight of several conversion blocks: dx = dy w in slices of the sum. */
static void test_linear_backward_bf16(void **state)
{
    enum { T = 3, I = 2100, O = 2000 };
    static const int32_t labels[T] = {0, 5, 1};
    struct bench b;

    (void)state;
    bench_open(&b);
    tape_begin(b.t, true);
    struct matrix *x = fresh(&b, DT_F32, T, I, 1), *w = fresh(&b, DT_BF16, O, I, 0.02);
    struct matrix *head = fresh(&b, DT_F32, 6, O, 0.1);
    x->leaf.needs_grad = true;
    x->leaf.grad = zeroed(T * I, sizeof(real));
    struct tensor *y = op_linear(b.t, &x->leaf, &w->leaf, NULL, NULL);
    struct tensor *loss = op_cross_entropy(b.t, y, &head->leaf, labels, 1);
    compute(&b);
    tape_backward(b.t, loss);
    struct matrix mid = {tensor_leaf(DT_F32, T, O, NULL), zeroed(T * O, sizeof(double))};
    double *dy = zeroed(T * O, sizeof *dy), *dx = zeroed(T * I, sizeof *dx);
    product(T, O, I, x->ref, I, w->ref, true, mid.ref, O);
    loss_reference(&mid, head, labels, 1, dy);
    product(T, I, O, dy, O, w->ref, false, dx, I);
    struct tensor got = tensor_leaf(DT_F32, T, I, x->leaf.grad);
    check_close(&got, dx, 1e-5);
    free(mid.ref);
    free(dy);
    free(dx);
    bench_close(&b);
}

/* ---- edges ---- */

/* No rows at all: a batch without labels, a step without images. */
static void test_no_rows(void **state)
{
    struct bench b;
    float cache[3] = {1, 2, 3};

    (void)state;
    bench_open(&b);
    tape_begin(b.t, true);
    struct matrix *m = fresh(&b, DT_F32, 3, 3, 1), *v = fresh(&b, DT_BF16, 1, 3, 1);
    m->leaf.needs_grad = true;
    m->leaf.grad = zeroed(9, sizeof(real));
    struct tensor *w = &m->leaf, *vec = &v->leaf, *x = op_embedding(b.t, w, NULL, 0, -1);
    struct attention a = {.part = {{x, x, 0, 0, 3}},
                          .parts = 1,
                          .v = x,
                          .heads = 1,
                          .groups = 1,
                          .v_width = 3,
                          .scale = 1,
                          .causal = true};
    x = op_linear(b.t, op_rmsnorm(b.t, x, vec, 1e-5), w, vec, NULL);
    x = op_modal_linear(b.t, x, (struct tensor *[]){w, w}, (struct tensor *[]){vec, NULL}, NULL, 0);
    x = op_head_linear(b.t, x, 0, w, 1, 1, true);
    x = op_layernorm(b.t, x, vec, vec, 1e-5);
    x = op_swiglu(b.t, op_activation(b.t, x, ACT_GELU), x);
    x = op_add(b.t, op_select_rows(b.t, x, NULL, NULL, 0), op_attention(b.t, &a)->rows ? x : vec);
    struct tensor *loss = op_cross_entropy(b.t, x, w, NULL, 1);
    compute(&b);
    tape_backward(b.t, loss);
    assert_true(tensor_real(loss)[0] == 0);
    for (int i = 0; i < 9; i++)
        assert_true(m->leaf.grad[i] == 0);
    tape_begin(b.t, false);
    x = op_embedding(b.t, w, NULL, 0, -1);
    const struct cache_store one = {.data = cache, .rows = 1};
    struct cached_attention c = {.part = {{{x}, op_cache_write(b.t, x, &one, NULL), 0, 3, 1}},
                                 .parts = 1,
                                 .heads = 1,
                                 .v_groups = 1,
                                 .v_width = 3,
                                 .scale = 1};
    c.v = c.part[0].k;
    assert_int_equal(op_cached_attention(b.t, &c)->rows, 0);
    compute(&b);
    bench_close(&b);
}

/* A loss without a matrix product: d loss / d x[i] = sin(i). */
static void wave_forward(struct node *n)
{
    tensor_real(n->out)[0] = 0;
}

static void wave_backward(struct node *n)
{
    bool adds = tape_grad_adds(n->in[0]);

    for (int64_t i = 0; i < tensor_count(n->in[0]); i++)
        n->in[0]->grad[i] = (adds ? n->in[0]->grad[i] : 0) + (real)sin((double)i);
}

static const struct op wave_op = {"wave", wave_forward, wave_backward};

/* The gradients of everything that sums over rows, large enough for the threads to divide. */
static void row_sums(int threads, float *grads, int64_t *n_grads)
{
    enum { T = 301, D = 600 };
    static const struct span spans[] = {{0, 100, TEXT}, {100, T, IMAGE}};
    int32_t ids[T];
    struct bench b;

    bench_open(&b);
    omp_set_num_threads(threads);
    tape_begin(b.t, true);
    struct matrix *table = fresh(&b, DT_F32, 9, D, 1), *w = fresh(&b, DT_F32, 1, D, 1);
    struct matrix *v = fresh(&b, DT_F32, 1, D, 1), *row = fresh(&b, DT_F32, 1, D, 1);
    struct matrix *bias = fresh(&b, DT_F32, 1, D, 1);
    int trained = b.n;
    struct matrix *zero = fresh(&b, DT_F32, D, D, 0);
    for (int i = 0; i < trained; i++) {
        b.m[i].leaf.needs_grad = true;
        b.m[i].leaf.grad = zeroed(tensor_count(&b.m[i].leaf), sizeof(real));
    }
    for (int i = 0; i < T; i++)
        ids[i] = i * i % 9;
    struct tensor *x = op_embedding(b.t, &table->leaf, ids, T, -1);
    x = op_add(b.t, op_rmsnorm(b.t, x, &w->leaf, 1e-5), &row->leaf);
    x = op_layernorm(b.t, x, &v->leaf, &w->leaf, 1e-5);
    struct tensor *y = op_modal_linear(b.t, x, (struct tensor *[]){&zero->leaf, &zero->leaf},
                                       (struct tensor *[]){&bias->leaf, &bias->leaf}, spans, 2);
    x = op_add(b.t, y, x);
    struct tensor *loss = tape_node(b.t, &wave_op, &x, 1, 1, 1)->out;
    compute(&b);
    tape_backward(b.t, loss);
    *n_grads = 0;
    for (int i = 0; i < trained; i++) {
        int64_t n = tensor_count(&b.m[i].leaf);
        memcpy(grads + *n_grads, b.m[i].leaf.grad, (size_t)n * sizeof(float));
        *n_grads += n;
    }
    bench_close(&b);
}

/* The only matrix is zero, because BLAS may round a row differently if threads cut the rows
 * elsewhere. */
static void test_threads(void **state)
{
    static float one[13 * 600], three[13 * 600];
    int usual = omp_get_max_threads();
    int64_t n = 0;

    (void)state;
    row_sums(1, one, &n);
    row_sums(3, three, &n);
    omp_set_num_threads(usual);
    assert_int_equal(n, 13 * 600);
    assert_memory_equal(one, three, sizeof one);
    assert_true(one[0] != 0);
}

/* Ulps between a float and a value in double. */
static double ulps(float got, double want)
{
    const float near = (float)want;

    return fabs((double)got - want) / (double)(nextafterf(near, INFINITY) - near);
}

static void test_exp(void **state)
{
    const float least = -86.98F;

    (void)state;
    for (int i = -86980; i <= 88720; i++) {
        const float x = (float)i / 1000;
        if (ulps(real_exp(x), exp((double)x)) > 2)
            fail_msg("exp(%g) is %.9g", (double)x, (double)real_exp(x));
    }
    assert_true(real_exp(0) == 1 && real_exp(-0.0F) == 1);
    assert_true(real_exp(-INFINITY) == 0 && real_exp(-1e30F) == 0 && real_exp(-88) == 0);
    assert_true(real_exp(least) > 0 && real_exp(nextafterf(least, -88)) == 0);
    assert_true(isinf(real_exp(88.73F)));
    assert_true(isinf(real_exp(89)) && isinf(real_exp(1e30F)) && isinf(real_exp(INFINITY)));
    assert_true(isnan(real_exp(NAN)) && isnan(real_exp(-NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),        cmocka_unit_test(test_modal_linear),
        cmocka_unit_test(test_head_linear),   cmocka_unit_test(test_patch_embed),
        cmocka_unit_test(test_rows),          cmocka_unit_test(test_norms),
        cmocka_unit_test(test_rope_table),    cmocka_unit_test(test_rope),
        cmocka_unit_test(test_activations),   cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_cross_entropy), cmocka_unit_test(test_linear_backward_bf16),
        cmocka_unit_test(test_no_rows),       cmocka_unit_test(test_threads),
        cmocka_unit_test(test_exp),
    };
    return cmocka_run_group_tests_name("ops", tests, NULL, NULL);
}
