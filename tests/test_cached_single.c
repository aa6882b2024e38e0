/* test_cached_single.c - one query a sequence over a cache of latents, against the definition in
 * double: over several chunks, with modalities, biases and weights; the same bits in any company.
 * With TEST_COMPUTE=bf16 all that is multiplied is what bf16 holds, but for the weights of keys. */
#include "autograd/narrow.h"
#include "tests/backend.h"
#include "tests/ops_bench.h"

#include <omp.h>

enum { LONG = 2333, SHORT = 7, ROWS = LONG + SHORT, W = 5, R = 21 };

static bool in_bf16(void)
{
    return strcmp(backend_compute(), "bf16") == 0;
}

static struct matrix *held(struct bench *b, int64_t rows, int64_t cols)
{
    struct matrix *x = fresh(b, DT_F32, rows, cols, 1);

    for (int64_t i = 0; in_bf16() && i < rows * cols; i++)
        x->ref[i] = tensor_real(&x->leaf)[i] = bf16_round((float)x->ref[i]);
    return x;
}

/* fp32 sums of scores of up to 20, of 2,333 keys. In bf16 a weight is off by up to 2^-9 of itself,
 * and a sum by as much of the largest value, which in these shapes is up to 5 times the largest
 * sum. */
static double tolerance(void)
{
    return in_bf16() ? 5 * 0x1p-9 : 1e-5;
}

/* A model of H heads with its cache: rotated keys of each head, a latent for all. */
struct latents {
    int64_t H;
    bool one; /* the queries of text serve all keys */
    struct matrix *qr, *q[MODALITIES], *kr, *c, *bias[MODALITIES];
};

/* The image crosses the border of two chunks. */
static const struct span spans[] = {{0, 3, TEXT}, {3, 1100, IMAGE}, {1100, LONG, TEXT}};
static const struct cached_sequence sequences[] = {{0, 1, 0, LONG - 1, spans, 3},
                                                   {1, 2, LONG, SHORT - 1, NULL, 0}};

static struct latents latents_new(struct bench *b, int64_t H)
{
    struct latents l = {
        .H = H, .qr = held(b, 2, H * W), .kr = held(b, ROWS, H * W), .c = held(b, ROWS, R)};

    for (int m = 0; m < MODALITIES; m++) {
        l.q[m] = held(b, 2, H * R);
        l.bias[m] = held(b, 2, H);
    }
    return l;
}

static struct tensor *attention(struct bench *b, const struct latents *l,
                                const struct cached_sequence *seq, int64_t n)
{
    return op_cached_attention(
        b->t,
        &(struct cached_attention){
            .part =
                {{{&l->qr->leaf}, &l->kr->leaf, 0, W, l->H},
                 {{&l->q[TEXT]->leaf, l->one ? NULL : &l->q[IMAGE]->leaf}, &l->c->leaf, 0, R, 1}},
            .parts = 2,
            .v = &l->c->leaf,
            .heads = l->H,
            .v_groups = 1,
            .v_width = R,
            .split_modalities = true,
            .key_bias = {&l->bias[TEXT]->leaf, &l->bias[IMAGE]->leaf},
            .weights = true,
            .seq = seq,
            .n_seq = n,
            .scale = 0.7});
}

static enum modality modality_of(const struct cached_sequence *s, int64_t key)
{
    return s->spans && key >= spans[1].begin && key < spans[1].end ? IMAGE : TEXT;
}

static double score_of(const struct latents *l, const struct cached_sequence *s, int64_t h,
                       int64_t key)
{
    const enum modality m = modality_of(s, key);
    const int64_t row = s->q_begin, at = s->k_begin + key;
    double x = l->bias[m]->ref[row * l->H + h];

    for (int64_t c = 0; c < W; c++)
        x += l->qr->ref[(row * l->H + h) * W + c] * l->kr->ref[(at * l->H + h) * W + c];
    for (int64_t c = 0; c < R; c++)
        x += l->q[l->one ? TEXT : m]->ref[(row * l->H + h) * R + c] * l->c->ref[at * R + c];
    return 0.7 * x;
}

/* out: the row of a sequence, its sums by modality, then their weights. */
static void define(const struct latents *l, const struct cached_sequence *s, double *out)
{
    const int64_t keys = s->position + 1;

    for (int64_t h = 0; h < l->H; h++) {
        double top = -INFINITY, all = 0;
        for (int64_t k = 0; k < keys; k++)
            top = fmax(top, score_of(l, s, h, k));
        for (int64_t k = 0; k < keys; k++)
            all += exp(score_of(l, s, h, k) - top);
        for (int64_t k = 0; k < keys; k++) {
            const double p = exp(score_of(l, s, h, k) - top) / all;
            const int64_t at = modality_of(s, k) * l->H + h;
            for (int64_t c = 0; c < R; c++)
                out[at * R + c] += p * l->c->ref[(s->k_begin + k) * R + c];
            out[MODALITIES * l->H * R + at] += p;
        }
    }
}

/* Few heads, whose scores are dot products, and many, which are turned; both with a rest. */
static void test_defined(void **state)
{
    static const int64_t heads[] = {1, 6, 13};

    (void)state;
    for (int i = 0; i < 2 * 3; i++) {
        struct bench b;
        bench_open(&b);
        struct latents l = latents_new(&b, heads[i % 3]);
        l.one = i >= 3;
        struct tensor *y = attention(&b, &l, sequences, 2);
        double *ref = zeroed(2 * y->cols, sizeof *ref);
        compute(&b);
        for (int s = 0; s < 2; s++)
            define(&l, &sequences[s], ref + s * y->cols);
        check_close(y, ref, tolerance());
        free(ref);
        bench_close(&b);
    }
}

/* MHA and GQA: keys and values of G groups; rows of 6 groups are too long for many at a time. */
static void check_groups(int64_t H, int64_t G, int64_t width, int64_t v_width)
{
    struct bench b;

    bench_open(&b);
    struct matrix *q = held(&b, 2, H * width);
    struct matrix *k = held(&b, ROWS, G * width);
    struct matrix *v = held(&b, ROWS, G * v_width);
    struct tensor *y = op_cached_attention(
        b.t, &(struct cached_attention){.part = {{{&q->leaf}, &k->leaf, 0, width, G}},
                                        .parts = 1,
                                        .v = &v->leaf,
                                        .heads = H,
                                        .v_groups = G,
                                        .v_width = v_width,
                                        .seq = sequences,
                                        .n_seq = 2,
                                        .scale = 0.1});
    double *ref = zeroed(2 * y->cols, sizeof *ref), *p = zeroed(LONG, sizeof *p);
    compute(&b);
    for (int64_t i = 0; i < 2 * H; i++) {
        const struct cached_sequence *s = &sequences[i / H];
        const int64_t h = i % H, g = h / (H / G);
        double all = 0;
        for (int64_t t = 0; t <= s->position; t++) {
            p[t] = 0;
            for (int64_t c = 0; c < width; c++)
                p[t] += 0.1 * q->ref[i / H * H * width + h * width + c] *
                        k->ref[((s->k_begin + t) * G + g) * width + c];
            all += p[t] = exp(p[t]);
        }
        for (int64_t t = 0; t <= s->position; t++)
            for (int64_t c = 0; c < v_width; c++)
                ref[(i / H * H + h) * v_width + c] +=
                    p[t] / all * v->ref[((s->k_begin + t) * G + g) * v_width + c];
    }
    check_close(y, ref, tolerance());
    free(ref);
    free(p);
    bench_close(&b);
}

static void test_groups(void **state)
{
    (void)state;
    check_groups(6, 6, 37, 20);
    check_groups(6, 3, 32, 53);
    check_groups(16, 2, 20, 37); /* values that many heads share */
    check_groups(6, 6, 16, 3000);
}

/* With another sequence or alone, on one thread or three. */
static void test_same_bits(void **state)
{
    static const struct cached_sequence alone = {0, 1, 0, LONG - 1, spans, 3};
    const int threads = omp_get_max_threads();
    struct bench b;

    (void)state;
    bench_open(&b);
    struct latents l = latents_new(&b, 9), first;
    omp_set_num_threads(3);
    struct tensor *all = attention(&b, &l, sequences, 2);
    omp_set_num_threads(1);
    first = l; /* its queries alone */
    struct matrix one[4] = {*l.qr, *l.q[TEXT], *l.q[IMAGE]}, bias[2] = {*l.bias[0], *l.bias[1]};
    for (int i = 0; i < 3; i++)
        one[i].leaf.rows = 1;
    for (int i = 0; i < 2; i++)
        bias[i].leaf.rows = 1;
    first.qr = &one[0];
    first.q[TEXT] = &one[1];
    first.q[IMAGE] = &one[2];
    first.bias[TEXT] = &bias[0];
    first.bias[IMAGE] = &bias[1];
    struct tensor *some = attention(&b, &first, &alone, 1);
    tape_keep(all);
    compute(&b);
    assert_memory_equal(tensor_real(all), tensor_real(some), (size_t)all->cols * sizeof(real));
    omp_set_num_threads(threads);
    bench_close(&b);
}

/* Products of all small shapes: rests of tiles in every direction, A as it is and transposed. */
static void test_sums(void **state)
{
    enum { M = 15, N = 150, K = 130 };
    static const int64_t Ms[] = {1, 2, 6, 7, 15}, Ns[] = {1, 17, 128, 150}, Ks[] = {1, 64, 130};
    struct bench b;

    (void)state;
    bench_open(&b);
    struct matrix *a = fresh(&b, DT_F32, K, K, 1), *x = fresh(&b, DT_F32, K, N, 1);
    struct matrix *c = fresh(&b, DT_F32, M, N, 1);
    for (int i = 0; i < 5 * 4 * 3 * 4; i++) {
        const int64_t m = Ms[i % 5], n = Ns[i / 5 % 4], k = Ks[i / 20 % 3];
        const bool trans = i / 60 % 2, add = i / 120;
        for (int64_t j = 0; j < M * N; j++)
            tensor_real(&c->leaf)[j] = (real)c->ref[j];
        narrow_sums(m, n, k, 2, mat_of(a->leaf.data, K, trans), mat_of(x->leaf.data, N, false), add,
                    tensor_real(&c->leaf), N);
        for (int64_t r = 0; r < m; r++)
            for (int64_t s = 0; s < n; s++) {
                double want = add ? c->ref[r * N + s] : 0;
                for (int64_t t = 0; t < k; t++)
                    want += 2 * a->ref[trans ? t * K + r : r * K + t] * x->ref[t * N + s];
                assert_true(fabs(want - (double)tensor_real(&c->leaf)[r * N + s]) < 2e-4);
            }
    }
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defined), cmocka_unit_test(test_groups),
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_sums)};

    return cmocka_run_group_tests_name("cached_single", tests, NULL, NULL);
}
