/* test_bf16.c - what run.compute bf16 does to every op: its output and each of its gradients
 * compared with those of fp32, in the graphs of op_cases.h. bf16 products (gemm_setup) and bf16
 * between the passes (tape_stash_bf16) are tested separately and together.
 *
 * A difference is |bf16 - fp32| / |fp32|, of a whole output or gradient, in the Frobenius norm.
 * bf16 has 8 bits: the nearest value is off by up to 2^-8, and normally distributed values by 0.85
 * * 2^-9 in that norm; k independent roundings by sqrt(k) times as much. So the size of these
 * differences can be predicted, and thousands of values leave little to chance: a bound is at most
 * twice what is measured, and less than what truncation instead of rounding, or one bit fewer,
 * would give. A different order of sums, as on CPUs that multiply bf16 themselves, contributes a
 * thousandth of that. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "autograd/gemm.h"
#include "tests/backend.h"
#include "tests/op_graph.h"

/* Upper bounds for the output and all gradients, in units of 2^-9; 0: bit-identical. Rows for a
 * named case precede the one for the other cases of their op. */
static const struct bound {
    const char *op; /* its name */
    const char *name;
    double products, stashed;
} bounds[] = {
    /* Rounded: the two factors, for the output and for either gradient. A bias is only added.
     * Stashed factors were rounded when made: then the products only round the gradients. */
    {"linear", "linear, x and w twice", 2.0, 2.0}, /* two layers: up to 4 roundings */
    {"linear", NULL, 1.5, 1.5},
    {"modal_linear", NULL, 1.6, 1.5},
    {"patch_embed", NULL, 1.5, 1.5},
    /* Its products stay fp32, as they are small: the difference comes from what was stashed. */
    {"head_linear", NULL, 0, 1.5},
    /* Rounded: q, k, v, dO, and the probabilities P and dS when they are multiplied. dq has the
     * errors of dS, which are those of dO, v and P, and k's: five roundings or so. Over many keys
     * dq and dk are small differences. Stashed: q, k, v and the output. */
    {"attention", "attention, several tiles", 4.1, 3.9},
    {"attention", NULL, 2.7, 2.3},
    /* Nothing is multiplied, and the backward reads nothing; but the graphs of two cases contain
     * other ops, of 3 and 4 layers. */
    {"embedding", NULL, 0, 0},
    {"select_rows", NULL, 0, 0},
    {"group_rows", NULL, 0, 0},
    {"repeat", NULL, 0, 0},
    {"as_cached", NULL, 0, 0},
    {"join", NULL, 0, 0},
    {"add", "residual stream", 3.0, 3.3},
    {"add", "residual stream, longer", 3.6, 4.1},
    {"add", NULL, 0, 0},
    /* The input is stashed, and the weight unless it is a leaf. Removing the mean, and the part
     * parallel to x, leaves less. */
    {"rmsnorm", NULL, 0, 1.5},
    {"layernorm", NULL, 0, 1.3},
    /* The table of cos and sin is stashed. */
    {"rope", "rope of a norm", 0, 1.8},
    {"rope", "rope of a norm, kept", 0, 2.6}, /* and the activation's input */
    {"rope", NULL, 0, 1.6},
    /* The inputs. If gate and up are the same tensor, both have the same error. */
    {"swiglu", "swiglu, one tensor", 0, 2.6},
    {"swiglu", NULL, 0, 1.6},
    {"activation", NULL, 0, 1.3},
    /* For the gradients: two factors; the logits in them are off as well. With many tokens nearly
     * all of a gradient is the label's, which is off by the same amount in every row. */
    {"cross_entropy", "cross entropy, tiles", 2.3, 2.2},
    {"cross_entropy", NULL, 1.7, 1.5},
    /* The same. With many tokens the gradient of w is a sum of differences of two distributions, of
     * either sign: smaller than its terms. */
    {"distill", "distill, tiles", 4.9, 4.9},
    {"distill", NULL, 1.8, 1.7},
    /* The backward reads differences, which stay as they are. */
    {"row_distance", NULL, 0, 0},
};
static const double unit = 0x1p-9;

static const struct bound *bound_of(const struct graph_case *c)
{
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (strcmp(bounds[i].op, c->op) == 0 &&
            (!bounds[i].name || strcmp(bounds[i].name, c->name) == 0))
            return &bounds[i];
    fail_msg("%s: a case without bounds", c->name);
    return NULL;
}

/* ---- a graph's output and gradients ---- */

enum { PRODUCTS = 1, STASHED = 2, BOTH = 3 };

/* Enough values that chance matters little, and that they are stashed. Cases with only some
 * elements differentiated are already large. */
static int64_t scale_of(const struct graph_case *c)
{
    return c->samples ? 2 : 16;
}

static void compute_in(struct tape *t, unsigned bf16)
{
    gemm_setup(backend_library(), bf16 & PRODUCTS ? GEMM_BF16 : GEMM_F32);
    tape_stash_bf16(t, bf16 & STASHED);
}

/* The output, then the gradients: untrained ones have 0. */
struct result {
    real *value[1 + LEAVES];
    int64_t count[1 + LEAVES];
    int n;
};

static struct result compute(struct setup *s, unsigned trained, enum mode mode, unsigned bf16)
{
    struct result r = {.n = 1 + s->n};

    compute_in(s->t, bf16);
    gradients(s, trained, mode);
    for (int i = 0; i < r.n; i++) {
        const real *from = i ? s->grad[i - 1] : tensor_real(s->out);
        r.count[i] = i ? s->count[i - 1] : tensor_count(s->out);
        r.value[i] = zeroed(r.count[i], sizeof(real));
        memcpy(r.value[i], from, (size_t)r.count[i] * sizeof(real));
    }
    return r;
}

static void result_free(struct result *r)
{
    for (int i = 0; i < r->n; i++)
        free(r->value[i]);
}

/* a - b| / |a|; 0 if all values are equal. */
static double distance(const real *a, const real *b, int64_t n)
{
    double diff = 0, size = 0;

    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        diff += d * d;
        size += (double)a[i] * (double)a[i];
    }
    return diff == 0 ? 0 : sqrt(diff / size);
}

/* Fails if any of them differs from fp32's by more than `bound` units; returns the
 * largest difference. */
static double check_near(struct setup *s, unsigned trained, enum mode mode, unsigned bf16,
                         double bound)
{
    struct result want = compute(s, trained, mode, 0), got = compute(s, trained, mode, bf16);
    double most = 0;

    for (int i = 0; i < got.n; i++) {
        double d = distance(want.value[i], got.value[i], want.count[i]) / unit;
        if (!(d <= bound))
            fail_msg("%s: trained %x, mode %d, bf16 %u: %s %d differs by %.3f * 2^-9, not %.3f",
                     s->c->name, trained, mode, bf16, i ? "gradient" : "output", i ? i - 1 : 0, d,
                     bound);
        if (d > most) most = d;
    }
    result_free(&want);
    result_free(&got);
    return most;
}

/* ---- the tests ---- */

/* A bound of more than twice the measured difference would mean little. */
static void check_bound(struct setup *s, unsigned bf16, double bound)
{
    double most = check_near(s, (1u << s->n) - 1, WRAPPED, bf16, bound);

    if (most < bound / 2)
        fail_msg("%s, bf16 %u: at most %.3f * 2^-9 seen, the bound is %.3f", s->c->name, bf16, most,
                 bound);
    check_near(s, (1u << s->n) - 1, DIRECT, bf16, bound);
}

/* Run again, and recomputed in the backward pass: the same bits. */
static void check_bits(struct setup *s)
{
    static const enum mode modes[] = {WRAPPED, SEGMENT, SEGMENT_INNER};
    unsigned every = (1u << s->n) - 1;
    struct result want = compute(s, every, WRAPPED, BOTH);

    for (size_t k = 0; k < sizeof modes / sizeof *modes; k++) {
        struct result got = compute(s, every, modes[k], BOTH);
        for (int i = 0; i < want.n; i++)
            if (memcmp(want.value[i], got.value[i], (size_t)want.count[i] * sizeof(real)) != 0)
                fail_msg("%s: mode %d has other bits in %d", s->c->name, modes[k], i);
        result_free(&got);
    }
    result_free(&want);
}

/* If both are on, stashed values are already bf16 when multiplied: the larger bound applies. What
 * is rounded depends on what is trained. */
static void test_case(void **state)
{
    const struct bound *b = bound_of(*state);
    double larger = b->products > b->stashed ? b->products : b->stashed;
    struct setup s;

    setup_open(&s, *state, scale_of(*state));
    s.keep = true;
    check_bound(&s, PRODUCTS, b->products);
    check_bound(&s, STASHED, b->stashed);
    check_near(&s, (1u << s.n) - 1, WRAPPED, BOTH, larger);
    for (int i = 0; i < s.n; i++)
        check_near(&s, 1u << i, WRAPPED, BOTH, larger);
    check_bits(&s);
    setup_close(&s);
    gemm_setup(backend_library(), GEMM_F32);
}

/* ---- ops for inference: neither setting changes a bit, but of products ---- */

enum { ROWS = 70, KEYS = 300, WIDTH = 48, HEADS = 4, PAIRS = 24 };

struct inference {
    struct tensor q, src;
    real cache[KEYS * WIDTH];
    int32_t rows[ROWS];
    struct tensor head, logits;
    struct top_logits top;
    real by[WIDTH];
};

static struct tensor *table_of(struct tape *t, struct inference *in)
{
    static const float freq[PAIRS] = {1, 0.3f, 0.1f};

    return op_rope_table(
        t, &(struct rope_table){
               .positions = in->rows, .n = ROWS, .inv_freq = freq, .pairs = PAIRS, .scale = 1});
}

static struct tensor *written(struct tape *t, struct inference *in)
{
    return op_cache_write(t, &in->src, &(struct cache_store){.data = in->cache, .rows = KEYS},
                          in->rows);
}

static struct tensor *over_cache(struct tape *t, struct inference *in)
{
    static const struct cached_sequence seq = {0, ROWS, 0, KEYS - ROWS, NULL, 0};
    struct tensor *c = written(t, in);

    return op_cached_attention(t, &(struct cached_attention){.part = {{{&in->q}, c, 0, WIDTH, 1}},
                                                             .parts = 1,
                                                             .v = c,
                                                             .heads = HEADS,
                                                             .v_groups = 1,
                                                             .v_width = WIDTH,
                                                             .seq = &seq,
                                                             .n_seq = 1,
                                                             .scale = 0.1});
}

static struct tensor *mixed(struct tape *t, struct inference *in)
{
    for (int i = 0; i < WIDTH; i++)
        in->by[i] = (real)(1 + i) / 4;
    return op_hadamard(
        t, &in->src,
        &(struct hadamard){.heads = 1, .width = WIDTH, .block = WIDTH & -WIDTH, .by = {in->by}});
}

/* All logits, so that the order of two does not matter. */
static struct tensor *top_of(struct tape *t, struct inference *in)
{
    in->head = tensor_leaf(DT_REAL, KEYS, WIDTH, in->cache);
    in->top =
        (struct top_logits){KEYS, 1, tape_new_array(t, int32_t, ROWS * KEYS),
                            tape_new_array(t, real, ROWS * KEYS), tape_new_array(t, real, ROWS)};
    in->logits = tensor_leaf(DT_REAL, ROWS, KEYS, in->top.logits);
    op_top_logits(t, &in->src, &in->head, &in->top);
    return &in->logits;
}

static struct tensor *out_of(struct tape *t, struct inference *in)
{
    in->logits = tensor_leaf(DT_REAL, ROWS, WIDTH, tape_new_array(t, real, ROWS * WIDTH));
    op_rows_out(t, &in->src, tensor_real(&in->logits));
    return &in->logits;
}

static const struct inference_case {
    const char *op; /* its name */
    struct tensor *(*build)(struct tape *t, struct inference *in);
    double products; /* as of bounds */
} inference_cases[] = {
    {"rope_table", table_of, 0}, {"cache_write", written, 0},
    {"hadamard", mixed, 0},      {"cached_attention", over_cache, 0},
    {"top_logits", top_of, 1.5}, /* two factors */
    {"rows_out", out_of, 0},
};
enum { INFERENCE = sizeof inference_cases / sizeof *inference_cases };

static real *infer(const struct inference_case *c, unsigned bf16, int64_t *n)
{
    static real q[ROWS * HEADS * WIDTH], src[ROWS * WIDTH];
    static struct inference in;
    struct err e = {0};
    struct tape *t = tape_new(&e);
    struct rng r;

    assert_non_null(t);
    rng_seed(&r, 8, 0);
    for (int i = 0; i < ROWS * HEADS * WIDTH; i++)
        q[i] = (real)rng_normal(&r);
    for (int i = 0; i < ROWS * WIDTH; i++)
        src[i] = (real)rng_normal(&r);
    for (int i = 0; i < KEYS * WIDTH; i++)
        in.cache[i] = (real)rng_normal(&r);
    for (int i = 0; i < ROWS; i++)
        in.rows[i] = 4 * i;
    in.q = tensor_leaf(DT_REAL, ROWS, HEADS * WIDTH, q);
    in.src = tensor_leaf(DT_REAL, ROWS, WIDTH, src);
    compute_in(t, bf16);
    tape_begin(t, false);
    struct tensor *out = c->build(t, &in);
    if (!tape_plan(t, 0, &e)) fail_msg("%s", e.msg);
    tape_forward(t);
    *n = tensor_count(out);
    real *copied = zeroed(*n, sizeof *copied);
    memcpy(copied, out->data, (size_t)*n * sizeof *copied);
    tape_free(t);
    gemm_setup(backend_library(), GEMM_F32);
    return copied;
}

static void test_inference(void **state)
{
    (void)state;
    for (int i = 0; i < INFERENCE; i++) {
        int64_t n, m;
        real *want = infer(&inference_cases[i], 0, &n), *got = infer(&inference_cases[i], BOTH, &m);
        assert_true(n > 1000 && n == m);
        const double bound = inference_cases[i].products, d = distance(want, got, n) / unit;
        if (!(d <= bound) || d < bound / 2)
            fail_msg("%s differs by %.3f * 2^-9, the bound is %.3f", inference_cases[i].op, d,
                     bound);
        free(want);
        free(got);
    }
}

static bool has_case(const struct op *op)
{
    for (int i = 0; i < CASES && op->backward; i++)
        if (strcmp(cases[i].op, op->name) == 0) return true;
    for (int i = 0; i < INFERENCE && !op->backward; i++)
        if (strcmp(inference_cases[i].op, op->name) == 0) return true;
    return false;
}

/* test_gradients.c makes sure that the list is complete. */
static void test_every_op_has_a_case(void **state)
{
    (void)state;
    assert_non_null(op_at(0));
    for (int i = 0; op_at(i); i++)
        if (!has_case(op_at(i))) fail_msg("%s has no test", op_at(i)->name);
}

int main(void)
{
    struct CMUnitTest tests[CASES + 2] = {cmocka_unit_test(test_every_op_has_a_case),
                                          cmocka_unit_test(test_inference)};

    for (int i = 0; i < CASES; i++)
        tests[i + 2] =
            (struct CMUnitTest){cases[i].name, test_case, NULL, NULL, (void *)(uintptr_t)&cases[i]};
    return cmocka_run_group_tests_name("bf16", tests, NULL, NULL);
}
