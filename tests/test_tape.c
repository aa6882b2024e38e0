/* test_tape.c - what the tape promises about memory and work: no allocation after the first step,
 * gradients only above something trained, no T x T matrix, no logits of all rows, less memory if
 * layers are recomputed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "autograd/tape_parts.h"
#include "optim/adamw.h"
#include "tests/sanitized.h"
#include "tests/tiny_convert.h"

/* ---- counting allocations: a program's own malloc takes precedence over the C library's, for its
 * libraries too. With the address sanitizer, which does the same, nothing can be counted. ---- */

static long allocations;
static bool counting;

#if !SANITIZED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

static void count(void)
{
    if (counting) __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t n)
{
    count();
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    count();
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    count();
    return __libc_memalign(align, n);
}
#endif

static struct tape *new_tape(void)
{
    struct err e = {0};
    struct tape *t = tape_new(&e);

    must(t, &e);
    return t;
}

static const unsigned kv_rope = 1u << PARAM_DOWN | 1u << PARAM_UP_K | 1u << PARAM_UP_V |
                                1u << PARAM_K_ROPE | 1u << PARAM_Q_ROPE;

static void adamw_of(struct adamw *o, struct model *m)
{
    struct tensor *trained[256];
    struct err e = {0};
    int64_t n = 0;

    for (int64_t i = 0; i < m->n_params; i++)
        if (m->params[i].t.needs_grad) trained[n++] = &m->params[i].t;
    must(adamw_init(o, trained, NULL, n, MOMENT_F32, &e), &e);
}

/* A small MLA model whose factors are trained, and its optimiser. */
static void trained_mla(struct model *m, struct adamw *o)
{
    struct err e = {0};

    tiny_model(m, 2, true, 3);
    tiny_partial(m, 4);
    tiny_mla(m, KV_JOINT, true, 6);
    must(model_train(m, kv_rope, &e), &e);
    adamw_of(o, m);
}

/* The gradients of the first `samples` samples of `all`. */
static void differentiate(struct model *m, struct tape *t, struct batch_buffer *b,
                          const struct tiny_batch *all, int samples, int recompute)
{
    struct forward f = {.batch = &b->batch, .features = NULL, .recompute = recompute};
    struct tensor leaf, *loss;
    struct err e = {0};

    must(batch_fill(b, all->s, samples, false, &e), &e);
    leaf = tensor_leaf(DT_F32, b->batch.image_tokens, TINY_TOWER, all->features);
    if (b->batch.image_tokens) f.features = &leaf;
    tape_begin(t, true);
    loss = model_loss(m, t, &f, 1 / (double)b->batch.labels);
    must(tape_plan(t, 0, &e), &e);
    tape_forward(t);
    tape_backward(t, loss);
}

/* A whole optimiser step on them. */
static void step(struct model *m, struct tape *t, struct adamw *o, struct batch_buffer *b,
                 const struct tiny_batch *all, int samples, int recompute)
{
    differentiate(m, t, b, all, samples, recompute);
    adamw_step(o, 1e-3, 1 / fmax(1, sqrt(adamw_grad_squares(o))));
}

/* After the first step, later ones of the same size or smaller allocate nothing. */
static void test_no_allocation_after_the_first_step(void **state)
{
    static const char *const texts[] = {"tttitt|TTT", "ttt|TTTT", "itti|TT", "t|Ti"};

    (void)state;
    if (SANITIZED) skip();
    for (int recompute = 0; recompute <= TINY_LAYERS; recompute++) {
        struct batch_buffer b = {0};
        struct tape *t = new_tape();
        struct tiny_batch all;
        struct adamw o;
        struct model m;

        trained_mla(&m, &o);
        tiny_batch(&all, texts, 4, 5);
        allocations = 0;
        counting = true;
        step(&m, t, &o, &b, &all, 4, recompute);
        long first = allocations;
        char *region = t->region;
        for (int samples = 4; samples > 0; samples--)
            step(&m, t, &o, &b, &all, samples, recompute);
        counting = false;
        assert_true(first > 0); /* the counter counts */
        assert_int_equal(allocations, first);
        assert_ptr_equal(t->region, region);
        adamw_free(&o);
        batch_free(&b);
        tiny_batch_free(&all);
        model_close(&m);
        tape_free(t);
    }
}

/* ---- gradients ---- */

/* Whether node i depends on a trained leaf, found by walking the graph, not from the flags. */
static void find_reached(const struct tape *t, bool *reached)
{
    for (int i = 0; i < t->n_nodes; i++)
        for (int k = 0; k < NODE_IN; k++) {
            const struct tensor *x = t->nodes[i]->in[k];
            if (!x) continue;
            reached[i] |= x->maker ? reached[x->maker->index] : x->grad != NULL;
        }
}

/* Plans the loss with the given kinds trained in the second layer only (both: in both layers) and
 * returns its bytes. Each node that depends on a trained leaf runs backward once; no other node
 * runs backward or has a gradient. */
static size_t check_paths(struct model *m, struct tape *t, struct tiny_batch *b, unsigned kinds,
                          bool both)
{
    bool reached[512] = {false};
    int runs[512] = {0}, backward = 0;
    struct err e = {0};

    must(model_train(m, kinds, &e), &e);
    for (int64_t i = 0; i < m->n_params && !both; i++) {
        struct tensor *p = &m->params[i].t;
        if (strstr(m->params[i].name, "layers.1.")) continue;
        free(p->grad);
        p->grad = NULL;
        p->needs_grad = false;
    }
    tape_begin(t, true);
    model_loss(m, t, &b->f, 1);
    must(tape_plan(t, 0, &e), &e);
    assert_true(t->n_nodes < 512);
    find_reached(t, reached);
    for (int i = 0; i < t->n_steps; i++)
        if (t->steps[i].kind == STEP_BACKWARD) runs[t->steps[i].node->index]++;
    for (int i = 0; i < t->n_nodes; i++) {
        assert_int_equal(runs[i], reached[i]);
        assert_int_equal(t->nodes[i]->out->grad != NULL, reached[i]);
        backward += runs[i];
    }
    assert_true(backward > 0 && backward < t->n_nodes);
    return tape_bytes(t);
}

static void test_gradients_only_where_trained(void **state)
{
    static const char *const texts[] = {"tttitt|TTT", "ttt|TTTT"};
    struct tape *t = new_tape();
    struct tiny_batch b;
    struct model m;

    (void)state;
    tiny_model(&m, 2, true, 3);
    tiny_partial(&m, 4);
    tiny_batch(&b, texts, 2, 5);
    size_t top = check_paths(&m, t, &b, kv_rope, false);
    size_t both = check_paths(&m, t, &b, kv_rope, true);
    size_t all = check_paths(&m, t, &b, ~0u & ~(1u << PARAM_VISION | 1u << PARAM_EMBED), true);
    assert_true(top < both && both < all);
    tape_begin(t, true); /* nothing trained: nothing to do */
    for (int64_t i = 0; i < m.n_params; i++)
        m.params[i].t.needs_grad = false;
    model_loss(&m, t, &b.f, 1);
    tape_bytes(t);
    assert_int_equal(t->n_steps, t->n_forward);
    tiny_batch_free(&b);
    model_close(&m);
    tape_free(t);
}

/* ---- what is never stored ---- */

/* Plans only: the leaves' values are never read. */
static struct tensor shape(int64_t rows, int64_t cols, bool trained)
{
    static real nothing;
    struct tensor x = tensor_leaf(DT_REAL, rows, cols, &nothing);

    x.needs_grad = trained;
    x.grad = trained ? &nothing : NULL;
    return x;
}

/* What tape_on_final has said of a backward pass. */
struct finals {
    struct tensor *leaf[256];
    double sum[256];
    int n;
};

static double sum_of(const struct tensor *leaf)
{
    double sum = 0;

    for (int64_t i = 0; i < tensor_count(leaf); i++)
        sum += fabs((double)leaf->grad[i]) * (double)(i % 7 + 1);
    return sum;
}

static void note_final(void *arg, struct tensor *leaf)
{
    struct finals *f = arg;

    f->sum[f->n] = sum_of(leaf);
    f->leaf[f->n++] = leaf;
}

/* Each trained leaf is called final once, and does not change from then on: in text, with pictures,
 * with recomputed layers. Most are final before the last. */
static void test_final_gradients(void **state)
{
    static const char *const texts[] = {"tttitt|TTT", "tttt|TTTT"};

    (void)state;
    for (int k = 0; k < 4; k++) {
        struct batch_buffer b = {0};
        struct tape *t = new_tape();
        struct finals f = {.n = 0};
        struct tiny_batch all;
        struct adamw o;
        struct model m;

        trained_mla(&m, &o);
        tiny_batch(&all, texts + k % 2, 1, 5);
        tape_on_final(t, note_final, &f);
        differentiate(&m, t, &b, &all, 1, k / 2 ? TINY_LAYERS : 0);
        assert_true(f.n > 2 &&
                    (k % 2 == 0 ? f.n == o.n : f.n < o.n)); /* no image factors in text */
        for (int i = 0; i < f.n; i++) {
            assert_true(f.sum[i] > 0 && f.sum[i] == sum_of(f.leaf[i]));
            for (int j = 0; j < i; j++)
                assert_ptr_not_equal(f.leaf[i], f.leaf[j]);
        }
        adamw_free(&o);
        batch_free(&b);
        tiny_batch_free(&all);
        model_close(&m);
        tape_free(t);
    }
}

/* 8,192 tokens: the scores of one head would be 256 MiB. Planned are the output, its gradient, one
 * number per row, and tiles; twice the tokens take twice that, not four times. */
static void test_attention_stores_no_scores(void **state)
{
    struct tape *t = new_tape();
    size_t bytes[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        int64_t T = 8192 << i, W = 8;
        struct tensor q = shape(T, W, true), k = shape(T, W, true), v = shape(T, W, true);
        struct attention_sample s = {0, T, 0, T};
        struct attention a = {.part = {{&q, &k, 0, 0, W}},
                              .parts = 1,
                              .v = &v,
                              .heads = 1,
                              .groups = 1,
                              .v_width = W,
                              .samples = &s,
                              .n_samples = 1,
                              .causal = true,
                              .scale = 1};
        tape_begin(t, true);
        op_attention(t, &a);
        size_t tiles = t->nodes[0]->scratch_bytes;
        bytes[i] = tape_bytes(t) - tiles;
        assert_true(tiles < (size_t)(T * T) * sizeof(real) / 4);
        assert_true(bytes[i] <= 2 * (size_t)(T * (W + 1)) * sizeof(real));
    }
    assert_true(bytes[1] <= 2 * bytes[0]);
    tape_free(t);
}

/* Prefill of 4,096 tokens into a cache, 8 heads: all scores would be 512 MiB, a round has 16. */
static void test_cached_attention_stores_rounds(void **state)
{
    enum { T = 4096, H = 8, W = 4 };
    struct tape *t = new_tape();
    struct tensor q = shape(T, H * W, false), k = shape(T, W, false);
    struct cached_sequence seq = {0, T, 0, 0, NULL, 0};
    struct cached_attention a = {.part = {{{&q}, &k, 0, W, 1}},
                                 .parts = 1,
                                 .v = &k,
                                 .heads = H,
                                 .v_groups = 1,
                                 .v_width = W,
                                 .seq = &seq,
                                 .n_seq = 1,
                                 .scale = 1};

    (void)state;
    op_cached_attention(t, &a);
    assert_true(tape_bytes(t) <= (16u << 20) + T * H * W * sizeof(real));
    tape_free(t);
}

/* 4,096 rows of 32,000 tokens: 500 MiB of logits; a tile has 8. Only labelled rows are computed. */
static void test_loss_stores_no_logits(void **state)
{
    static const char *const texts[] = {"tttitt|TTT", "ttt|TTTT"};
    struct tape *t = new_tape();
    struct tensor h = shape(4096, 16, true), w = shape(32000, 16, false);
    int32_t *labels = calloc(4096, sizeof *labels);
    struct tiny_batch b;
    struct model m;

    (void)state;
    assert_non_null(labels);
    tape_begin(t, true);
    op_cross_entropy(t, &h, &w, labels, 1);
    assert_true(tape_bytes(t) < 10u << 20);
    free(labels);
    tiny_model(&m, 2, true, 3);
    tiny_batch(&b, texts, 2, 5);
    tape_begin(t, true);
    struct tensor *loss = model_loss(&m, t, &b.f, 1);
    assert_string_equal(loss->maker->op->name, "cross_entropy");
    assert_int_equal(loss->maker->in[0]->rows, b.b.batch.labels);
    assert_int_equal(b.b.batch.labels, 7);
    tiny_batch_free(&b);
    model_close(&m);
    tape_free(t);
}

/* ---- recomputation ---- */

/* A stack of 16 layers of small MLPs, each a segment or not. */
static size_t stack_bytes(struct tape *t, bool recompute)
{
    struct tensor x = shape(256, 32, false), up = shape(128, 32, true), down = shape(32, 128, true);
    struct tensor norm = shape(1, 32, true), head = shape(10, 32, true), *h = &x;
    int32_t labels[256] = {0};

    tape_begin(t, true);
    for (int l = 0; l < 16; l++) {
        if (recompute) tape_segment_begin(t);
        struct tensor *y = op_linear(t, op_rmsnorm(t, h, &norm, 1e-5), &up, NULL, NULL);
        h = op_linear(t, op_activation(t, y, ACT_SILU), &down, NULL, h);
        if (recompute) tape_segment_end(t);
    }
    op_cross_entropy(t, h, &head, labels, 1);
    return tape_bytes(t);
}

/* Values per row of a layer: 32 + 128 + 128 without recomputation, its output of 32 with it. */
static void test_recomputing_takes_less_memory(void **state)
{
    struct tape *t = new_tape();
    size_t kept = stack_bytes(t, false), again = stack_bytes(t, true);

    (void)state;
    assert_true(again < kept / 3);
    tape_free(t);
}

/* ---- values stored as bf16 between the passes ---- */

static void test_stashing_halves_memory(void **state)
{
    struct tape *t = new_tape();
    size_t f32 = stack_bytes(t, false), again = stack_bytes(t, true), bf16;

    (void)state;
    tape_stash_bf16(t, true);
    bf16 = stack_bytes(t, false);
    assert_true(bf16 < f32 * 6 / 10 && bf16 > f32 * 4 / 10);
    assert_true(stack_bytes(t, true) < again);
    tape_free(t);
}

enum { DEEP = 6, ROWS = 512, WIDE = 8 };

/* Gradients of a stack of linears whose values are small integers, which bf16
 * represents exactly. */
static void whole_gradients(bool stash, bool recompute, real grad[DEEP][WIDE * WIDE])
{
    real x[ROWS * WIDE], w[DEEP][WIDE * WIDE];
    struct tape *t = new_tape();
    struct tensor in = tensor_leaf(DT_REAL, ROWS, WIDE, x), leaf[DEEP], *h = &in;
    int32_t labels[ROWS];
    struct rng r;
    struct err e;

    rng_seed(&r, 3, 0);
    for (int i = 0; i < ROWS * WIDE; i++)
        x[i] = (real)rng_below(&r, 3) - 1;
    for (int i = 0; i < ROWS; i++)
        labels[i] = (int32_t)rng_below(&r, WIDE);
    memset(grad, 0, sizeof(real) * DEEP * WIDE * WIDE);
    memset(w, 0, sizeof w);
    tape_stash_bf16(t, stash);
    tape_begin(t, true);
    for (int l = 0; l < DEEP; l++) {
        for (int i = 0; i < WIDE; i++) { /* two inputs each: values up to 2^l */
            w[l][i * WIDE + (int)rng_below(&r, WIDE)] = 1;
            w[l][i * WIDE + (int)rng_below(&r, WIDE)] = -1;
        }
        leaf[l] = tensor_leaf(DT_REAL, WIDE, WIDE, w[l]);
        leaf[l].needs_grad = true;
        leaf[l].grad = grad[l];
        if (recompute) tape_segment_begin(t);
        h = op_activation(t, op_linear(t, h, &leaf[l], NULL, NULL), ACT_RELU);
        if (recompute) tape_segment_end(t);
    }
    struct tensor *loss = op_cross_entropy(t, h, &leaf[0], labels, 1.0 / ROWS);
    if (!tape_plan(t, 0, &e)) fail_msg("%s", e.msg);
    tape_forward(t);
    assert_true(tensor_real(loss)[0] > 0.1);
    tape_backward(t, loss);
    tape_free(t);
}

/* Packed, unpacked and read from another place: the same bits, also with recomputation. */
static void test_stashing_loses_nothing(void **state)
{
    static real plain[DEEP][WIDE * WIDE], stashed[DEEP][WIDE * WIDE], both[DEEP][WIDE * WIDE];

    (void)state;
    whole_gradients(false, false, plain);
    whole_gradients(true, false, stashed);
    whole_gradients(true, true, both);
    for (int l = 0; l < DEEP; l++) {
        double size = 0;
        for (int i = 0; i < WIDE * WIDE; i++)
            size += fabs((double)plain[l][i]);
        assert_true(size > 1e-3);
    }
    assert_memory_equal(plain, stashed, sizeof plain);
    assert_memory_equal(plain, both, sizeof plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_allocation_after_the_first_step),
        cmocka_unit_test(test_gradients_only_where_trained),
        cmocka_unit_test(test_final_gradients),
        cmocka_unit_test(test_attention_stores_no_scores),
        cmocka_unit_test(test_cached_attention_stores_rounds),
        cmocka_unit_test(test_loss_stores_no_logits),
        cmocka_unit_test(test_recomputing_takes_less_memory),
        cmocka_unit_test(test_stashing_halves_memory),
        cmocka_unit_test(test_stashing_loses_nothing),
    };

    return cmocka_run_group_tests_name("tape", tests, NULL, NULL);
}
