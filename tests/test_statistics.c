/* test_statistics.c - what attention makes of keys and values, as factors are made from it: the
 * statistics against a slow form in double, token by token, and the same bits, of the factors too,
 * for any number of threads. MHA and GQA, text and mixed samples, several to a batch. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "convert/attended.h"
#include "convert/kv_blocks.h"
#include "convert/kv_stats.h"
#include "model/outline.h"
#include "tests/tiny_convert.h"

#include <omp.h>

enum { SAMPLES = 4, BATCHES = 2, ROPE = 4 };
static const char *const mixed[] = {"tttitt|TTT", "ttt|TTTT", "itti|TT", "t|Ti"};
static const char *const text_only[] = {"tttttttt|TTT", "t|T", "tttt|TTTTTTTTTT", "tt|TT"};

/* 4 kv heads have more rows than inputs (48 to 32), 2 and 1 fewer. own: attention is the partial
 * model's, of two parts, and not the original's. narrow: the width of the inputs of
 * blocks, 0 for all. */
static const struct variant {
    int kv_heads, sets;
    bool text, own;
    int narrow;
} variants[] = {{4, 2, false, false, 0}, {2, 2, false, false, 0},  {1, 2, false, true, 0},
                {2, 1, false, true, 0},  {4, 1, false, false, 0},  {2, 1, true, false, 0},
                {4, 1, true, true, 0},   {4, 2, false, false, 20}, {2, 2, false, true, 9},
                {4, 1, true, false, 16}};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* A layer as it was seen, of all batches: kept in fp32, as the graph computed it. */
struct seen {
    struct model m; /* PARTIAL */
    struct kv_stats s;
    int64_t T;                     /* so far */
    float x[256 * TINY_D];         /* [T, d] */
    double p[TINY_HEADS][256][64]; /* of query t: its sample's keys */
    int64_t begin[256];            /* the row of its sample's first token */
    uint8_t modality[256];
};

static void open_model(struct model *m, const struct variant *v)
{
    if (v->text)
        tiny_text_model(m, "qwen2", v->kv_heads, 6);
    else
        tiny_model(m, v->kv_heads, v->kv_heads == 2, 6);
}

/* The softmax of head h and row t over the keys from `begin` on, the slow way. */
static void slow_softmax(const struct attention *a, int64_t h, int64_t t, int64_t begin, double *p)
{
    const int64_t g = h / (a->heads / a->groups);
    double sum = 0;

    for (int64_t n = begin; n <= t; n++) {
        double logit = 0;
        for (int i = 0; i < a->parts; i++)
            for (int64_t j = 0; j < a->part[i].width; j++)
                logit += (double)tensor_real(
                             a->part[i].q)[t * a->part[i].q->cols + h * a->part[i].width + j] *
                         (double)tensor_real(
                             a->part[i].k)[n * a->part[i].k->cols + g * a->part[i].width + j];
        sum += p[n - begin] = exp(a->scale * logit);
    }
    for (int64_t n = begin; n <= t; n++)
        p[n - begin] /= sum;
}

static void see(struct seen *s, const struct tiny_batch *b, const struct kv_batch *k)
{
    const struct batch *batch = &b->b.batch;

    assert_true(s->T + k->T <= 256);
    memcpy(s->x + s->T * TINY_D, k->x, (size_t)(k->T * TINY_D) * sizeof *k->x);
    for (int64_t i = 0; i < batch->samples; i++)
        for (int64_t t = batch->begin[i]; t < batch->begin[i + 1]; t++) {
            s->begin[s->T + t] = s->T + batch->begin[i];
            s->modality[s->T + t] = k->modality[t];
            for (int64_t h = 0; h < TINY_HEADS; h++)
                slow_softmax(k->attention, h, t, batch->begin[i], s->p[h][s->T + t]);
        }
    s->T += k->T;
}

/* Takes a batch through the model and adds layer 1, which is not the first. */
static void add_batch(struct seen *s, struct model *m, struct tape *t, const struct variant *v,
                      uint64_t seed)
{
    struct attention attention[TINY_LAYERS];
    struct tensor *x[TINY_LAYERS];
    struct taps taps = {.x = x, .attention = attention};
    struct tiny_batch b;
    struct err e = {0};
    uint8_t modality[256] = {0};

    tiny_batch(&b, v->text ? text_only : mixed, SAMPLES, seed);
    b.f.taps = &taps;
    free(tiny_logits(m, t, &b.f));
    for (int64_t i = 0; i < b.b.batch.n_spans; i++)
        memset(modality + b.b.batch.spans[i].begin, (int)b.b.batch.spans[i].modality,
               (size_t)(b.b.batch.spans[i].end - b.b.batch.spans[i].begin));
    const struct kv_batch k = {tensor_real(x[1]), modality, b.b.batch.tokens, SAMPLES,
                               &attention[1]};
    must(kv_stats_add(&s->s, &k, &e), &e);
    see(s, &b, &k);
    tiny_batch_free(&b);
}

/* The sums take over `narrow`. */
static struct seen *gather_narrow(const struct variant *v, const struct kv_how *how,
                                  struct kv_narrow *narrow)
{
    struct seen *s = calloc(1, sizeof *s);
    struct err e = {0};
    struct tape *t = tape_new(&e);
    struct model base;

    assert_true(s && t);
    open_model(&base, v);
    open_model(&s->m, v);
    tiny_partial(&s->m, ROPE);
    must(kv_stats_open(&s->s, &s->m, how, &e), &e);
    kv_stats_layer(&s->s, &s->m, 1);
    s->s.sums.narrow = *narrow;
    must(kv_sums_new(&s->s, &e), &e);
    for (int i = 0; i < BATCHES; i++)
        add_batch(s, v->own ? &s->m : &base, t, v, (uint64_t)(8 + i));
    must(kv_stats_gathered(&s->s, &e), &e);
    kv_stats_finish(&s->s);
    model_close(&base);
    tape_free(t);
    return s;
}

static void drop(struct seen *s)
{
    kv_stats_close(&s->s);
    model_close(&s->m);
    free(s);
}

static struct seen *gather(const struct variant *v, enum kv_statistics kind)
{
    const struct kv_how how = {kind, v->sets, kind == KV_BLOCKS ? v->narrow : 0};
    struct kv_narrow n = {0};
    struct err e = {0};

    if (how.narrow) {
        struct seen *received = gather(v, KV_RECEIVED);
        must(kv_narrow_make(&n, &received->s, how.narrow, &e), &e);
        drop(received);
    }
    return gather_narrow(v, &how, &n);
}

static const float *rows_by(const struct seen *s, int64_t t)
{
    return s->s.narrow ? s->s.sums.narrow.down[s->s.sets > 1 ? s->modality[t] : 0] : s->s.w;
}

/* W x, or x itself, or what it is narrowed to: [T, width]. */
static double *rows_of(const struct seen *s)
{
    const int64_t n = s->s.width;
    const bool by_rows = s->s.outputs || s->s.narrow;
    double *u = calloc((size_t)(s->T * n), sizeof *u);

    assert_non_null(u);
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t i = 0; i < n && by_rows; i++)
            for (int64_t j = 0; j < TINY_D; j++)
                u[t * n + i] +=
                    (double)rows_by(s, t)[i * TINY_D + j] * (double)s->x[t * TINY_D + j];
    for (int64_t i = 0; !by_rows && i < s->T * n; i++)
        u[i] = (double)s->x[i];
    return u;
}

static bool counts(const struct seen *s, int set, int64_t n)
{
    return s->s.sets == 1 || s->modality[n] == set;
}

/* out[width, width] += factor a a^T. */
static void add_outer(double *out, double factor, const double *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            out[i * n + j] += factor * a[i] * a[j];
}

static double largest(const double *a, int64_t n)
{
    double most = 0;

    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(a[i]));
    return most;
}

/* The lower triangle of `got` and `want` to 1e-6 of `size`: y and the weighted rows are rounded to
 * fp32, 6e-8 each, and up to 256 products of them are added in fp32. */
static void assert_same(const char *what, const double *got, const double *want, int64_t n,
                        double size)
{
    double diff = 0;

    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            diff = fmax(diff, fabs(got[i * n + j] - want[i * n + j]));
    assert_true(size > 0);
    if (!(diff <= 1e-6 * size)) fail_msg("%s differs by %g of %g", what, diff, size);
}

static void test_received(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++) {
        struct seen *s = gather(&variants[i], KV_RECEIVED);
        const int64_t n = s->s.width;
        double *u = rows_of(s), *want = calloc((size_t)(n * n), sizeof *want);
        for (int set = 0; set < s->s.sets; set++) {
            double weight = 0, tokens = 0;
            memset(want, 0, (size_t)(n * n) * sizeof *want);
            for (int64_t t = 0; t < s->T; t++)
                for (int64_t k = s->begin[t]; k <= t; k++)
                    for (int h = 0; h < TINY_HEADS && counts(s, set, k); h++) {
                        const double p = s->p[h][t][k - s->begin[t]] / TINY_HEADS;
                        weight += p;
                        add_outer(want, p, u + k * n, n);
                    }
            for (int64_t t = 0; t < s->T; t++)
                tokens += counts(s, set, t);
            assert_same("S", s->s.sums.moments[0].s[set], want, n, largest(want, n * n));
            assert_true(s->s.sums.count[KV_TEXT_TOKENS + set] == tokens);
            assert_true(fabs(weight / tokens - 1) > 1e-3 || s->s.sets == 1); /* not all alike */
            assert_true(fabs(kv_stats_scale(&s->s, set) * weight * BATCHES * SAMPLES - 1) < 1e-9);
        }
        free(want);
        free(u);
        drop(s);
    }
}

/* Every token attends to something: what all receive is their number. */
static void test_attention_is_shared_out(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++)
        for (enum kv_statistics kind = KV_RECEIVED; kind <= KV_BLOCKS; kind++) {
            struct seen *s = gather(&variants[i], kind);
            const double *c = s->s.sums.count;
            assert_true(fabs(c[KV_TEXT_WEIGHT] + c[KV_IMAGE_WEIGHT] - (double)s->T) <
                        1e-9 * (double)s->T);
            drop(s);
        }
}

/* S_k and S_v of a kv head, to width x width each. */
static void slow_blocks(const struct seen *s, const double *u, int set, int64_t g, double *key,
                        double *value)
{
    const int64_t n = s->s.width, R = s->s.H / s->s.G;
    const double over = 1 / (double)(R * s->T);
    double mean[64];

    memset(key, 0, (size_t)(n * n) * sizeof *key);
    memset(value, 0, (size_t)(n * n) * sizeof *value);
    for (int64_t h = g * R; h < (g + 1) * R; h++)
        for (int64_t t = 0; t < s->T; t++) {
            memset(mean, 0, sizeof mean);
            for (int64_t k = s->begin[t]; k <= t; k++) {
                const double p = counts(s, set, k) ? s->p[h][t][k - s->begin[t]] : 0;
                add_outer(key, over * p, u + k * n, n);
                for (int64_t j = 0; j < n; j++)
                    mean[j] += p * u[k * n + j];
            }
            add_outer(value, over, mean, n);
            add_outer(key, -over, mean, n);
        }
}

/* The blocks have 1e-5 of the total and of its mean diagonal besides, the total the latter. S_k is
 * a difference: its size is the total's. */
static void check_blocks(const struct seen *s, const double *u, int set)
{
    const int64_t n = s->s.width, G = s->s.G;
    double *sums = calloc((size_t)(2 * G * n * n), sizeof *sums);
    double *total = calloc((size_t)(n * n), sizeof *total), mean = 0;

    assert_true(sums && total);
    for (int64_t g = 0; g < G; g++)
        slow_blocks(s, u, set, g, sums + g * n * n, sums + (G + g) * n * n);
    for (int64_t i = 0; i < 2 * G * n * n; i++)
        total[i % (n * n)] += sums[i] / (double)G;
    for (int64_t i = 0; i < n; i++)
        mean += total[i * (n + 1)] / (double)n;
    for (int64_t i = 0; i < 2 * G * n * n; i++)
        sums[i] += 1e-5 * (total[i % (n * n)] + (i % (n * n) % (n + 1) ? 0 : mean));
    for (int64_t i = 0; i < n; i++)
        total[i * (n + 1)] += 1e-5 * mean;
    assert_same("the total", s->s.sums.total[set], total, n, largest(total, n * n));
    for (int64_t b = 0; b < 2 * G; b++)
        assert_same(b < G ? "S_k" : "S_v", s->s.sums.moments[b].s[set], sums + b * n * n, n,
                    largest(total, n * n));
    free(sums);
    free(total);
}

static void test_block_moments(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++) {
        struct seen *s = gather(&variants[i], KV_BLOCKS);
        double *u = rows_of(s);
        for (int set = 0; set < s->s.sets; set++)
            check_blocks(s, u, set);
        free(u);
        drop(s);
    }
}

/* The weight of a block by its definition, from the model's weights and the tokens. */
static void slow_weight(const struct seen *s, int set, bool key, int64_t g, double *c)
{
    const int64_t dh = s->s.dh, dc = s->s.dc, R = s->s.H / s->s.G, n = s->s.width;
    const float *w = kv_stats_weights(&s->s, set);
    double *sk = calloc((size_t)(n * n), sizeof *sk), *sv = calloc((size_t)(n * n), sizeof *sv);
    double *u = rows_of(s);

    slow_blocks(s, u, set, g, sk, sv);
    for (int64_t h = g * R; h < (g + 1) * R; h++) {
        double omega = 0, q[64];
        for (int64_t i = 0; i < dh; i++)
            for (int64_t j = 0; j < dh; j++) {
                const int64_t row = s->s.G * dc + g * dh;
                double gram = 0, vv = s->s.outputs ? sk[(row + i) * n + row + j] : 0;
                for (int64_t o = 0; o < TINY_D; o++)
                    gram += (double)s->s.wo[o * s->s.H * dh + h * dh + i] *
                            (double)s->s.wo[o * s->s.H * dh + h * dh + j];
                for (int64_t a = 0; !s->s.outputs && a < n * n; a++)
                    vv +=
                        (double)w[(row + i) * n + a / n] * sk[a] * (double)w[(row + j) * n + a % n];
                omega += gram * vv;
                if (!key) c[i * dh + j] += gram;
            }
        for (int64_t t = 0; key && t < s->T; t++) {
            for (int64_t i = 0; i < dc; i++) {
                q[i] = s->s.bq ? (double)s->s.bq[h * dc + i] : 0;
                for (int64_t j = 0; j < TINY_D; j++)
                    q[i] +=
                        (double)s->s.wq[(h * dc + i) * TINY_D + j] * (double)s->x[t * TINY_D + j];
            }
            add_outer(c, 0.25 * omega / (double)(dh * s->T), q, dc);
        }
    }
    free(sk);
    free(sv);
    free(u);
}

/* All blocks, and those of one part: rows and moments are the part's. */
static void test_block_weights(void **state)
{
    struct err e = {0};

    (void)state;
    for (int i = 0; i < VARIANTS; i++) {
        struct seen *s = gather(&variants[i], KV_BLOCKS);
        const int64_t G = s->s.G, keys = G * s->s.dc;
        for (int set = 0; set < s->s.sets; set++) {
            struct kv_blocks all, values;
            must(kv_blocks_of(&all, &s->s, set, 0, s->s.rows, &e), &e);
            must(kv_blocks_of(&values, &s->s, set, keys, s->s.rows - keys, &e), &e);
            assert_int_equal(all.n, 2 * G);
            assert_int_equal(values.n, G);
            for (int64_t b = 0; b < all.n; b++) {
                double c[64] = {0}, top = 0;
                slow_weight(s, set, b < G, b % G, c);
                assert_int_equal(all.block[b].row0, b < G ? b * s->s.dc : keys + (b - G) * s->s.dh);
                /* 1e-4 of the largest: (S_k)_vv has the ridge, 1e-5 of what is a
                 * few times as large */
                for (int64_t j = 0; j < 64; j++)
                    top = fmax(top, fabs(c[j]));
                for (int64_t j = 0; j < all.block[b].rows * all.block[b].rows; j++)
                    assert_true(fabs(all.block[b].c[j] - c[j]) < 1e-4 * top);
            }
            for (int64_t b = 0; b < G; b++) {
                assert_int_equal(values.block[b].row0, b * s->s.dh);
                assert_true(values.block[b].s ==
                            all.block[G + b].s + (s->s.outputs ? keys * (s->s.width + 1) : 0));
            }
            kv_blocks_free(&all);
            kv_blocks_free(&values);
        }
        drop(s);
    }
}

/* ---- memory ---- */

/* LLaVA-1.5-7B's 32 kv heads: over 16 GiB at 4096 inputs, and 2 GiB at the 1375 that these have
 * room for, or at least the latents'. Llama-3-8B's 8 are below 1 GiB as they are. */
static void test_room(void **state)
{
    const double room = 2147483648.0;
    struct hf_config c = {0};
    struct model m, shape;
    struct err e = {0};

    (void)state;
    must(hf_config_read(&c, "bench/llava7b/config.json", &e) && model_declare(&m, &c, &e), &e);
    for (int heads = 32; heads >= 8; heads -= 24) {
        const bool narrow = heads == 32;
        m.cfg.text.num_key_value_heads = heads;
        must(model_outline(&shape, &m, &(struct model_state){.state = ATTN_PARTIAL, .rope_dim = 32},
                           0, &e),
             &e);
        const int64_t n = kv_stats_narrow(&shape, room, 512);
        assert_int_equal(n, narrow ? 1375 : 0);
        assert_int_equal(kv_stats_narrow(&shape, room, 1500), narrow ? 1500 : 0);
        const double whole = kv_stats_bytes(&shape, &(struct kv_how){KV_BLOCKS, 2, 0}, 0).sums;
        const double less = kv_stats_bytes(&shape, &(struct kv_how){KV_BLOCKS, 2, n}, 0).sums;
        if (narrow) assert_true(whole > 16 * 1073741824.0 && less < 1.2 * room);
        if (!narrow) assert_true(whole < 1073741824.0 && less <= whole && less >= whole);
        model_close(&shape);
    }
    m.cfg.text.num_key_value_heads = 32;
    model_close(&m);
}

/* ---- threads ---- */

static void same_bits(const void *a, const void *b, size_t bytes)
{
    assert_int_equal(memcmp(a, b, bytes), 0);
}

static void same_sums(const struct seen *a, const struct seen *b)
{
    const size_t n = (size_t)(a->s.width * a->s.width) * sizeof(double);

    for (int64_t i = 0; i < a->s.sums.n; i++)
        for (int k = 0; k < 2; k++)
            same_bits(a->s.sums.moments[i].s[k], b->s.sums.moments[i].s[k], n);
    same_bits(a->s.sums.count, b->s.sums.count, sizeof a->s.sums.count);
    if (a->s.sums.queries)
        same_bits(a->s.sums.queries, b->s.sums.queries,
                  (size_t)(a->s.H * a->s.dc * a->s.dc) * sizeof(double));
}

static struct mdsvd_out factors_with(int threads, struct seen **seen, const struct variant *v)
{
    struct mdsvd_out out;
    struct kv_blocks k;
    struct blocks b;
    struct err e = {0};

    omp_set_num_threads(threads);
    *seen = gather(v, KV_BLOCKS);
    const struct kv_stats *s = &(*seen)->s;
    must(kv_blocks_of(&k, s, 0, 0, s->rows, &e), &e);
    const struct blocks_in in = {.w = kv_stats_weights(s, 0),
                                 .n = s->rows,
                                 .d = s->inputs,
                                 .outputs = s->outputs,
                                 .ld = s->width,
                                 .block = k.block,
                                 .blocks = k.n,
                                 .s = s->sums.total[0],
                                 .scale = kv_stats_scale(s, 0)};
    must(blocks_open(&b, &in, 6, &e), &e);
    must(blocks_factor(&out, &b, 6, 10, &e), &e);
    blocks_close(&b);
    kv_blocks_free(&k);
    return out;
}

static void test_threads(void **state)
{
    const int most = omp_get_max_threads();

    (void)state;
    for (int i = 0; i < VARIANTS; i++) {
        struct seen *first, *other;
        struct mdsvd_out want = factors_with(1, &first, &variants[i]);
        for (int threads = 2; threads <= 3; threads++) {
            struct mdsvd_out got = factors_with(threads, &other, &variants[i]);
            same_sums(first, other);
            same_bits(got.up, want.up, (size_t)(first->s.rows * 6) * sizeof(float));
            same_bits(got.down, want.down, (size_t)(first->s.inputs * 6) * sizeof(float));
            mdsvd_free(&got);
            drop(other);
            omp_set_num_threads(1);
            struct seen *a = gather(&variants[i], KV_RECEIVED);
            omp_set_num_threads(threads);
            struct seen *b = gather(&variants[i], KV_RECEIVED);
            same_sums(a, b);
            drop(a);
            drop(b);
        }
        mdsvd_free(&want);
        drop(first);
    }
    omp_set_num_threads(most);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_received),      cmocka_unit_test(test_attention_is_shared_out),
        cmocka_unit_test(test_block_moments), cmocka_unit_test(test_block_weights),
        cmocka_unit_test(test_room),          cmocka_unit_test(test_threads)};

    return cmocka_run_group_tests_name("statistics", tests, NULL, NULL);
}
