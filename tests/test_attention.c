/* test_attention.c - attention in fp32 against a reference in double, and cached attention against
 * the same and against plain attention: prefill, decoding, absorbed with factors per modality. */
#include "tests/ops_bench.h"

enum { H = 4, G = 2, DR = 6, DC = 5, DV = 7 }; /* query and kv heads; widths of parts and values */

/* softmax(q k^T scale) v of one query and head over keys [0, seen), given the scores. */
static void attend(const double *score, int64_t seen, const double *v, int64_t v_ld, double *out)
{
    double top = -INFINITY, sum = 0;

    for (int64_t j = 0; j < seen; j++)
        top = fmax(top, score[j]);
    for (int64_t j = 0; j < seen; j++)
        sum += exp(score[j] - top);
    for (int64_t c = 0; c < DV; c++) {
        out[c] = 0;
        for (int64_t j = 0; j < seen; j++)
            out[c] += exp(score[j] - top) / sum * v[j * v_ld + c];
    }
}

struct qkv {
    struct matrix *q, *k,
        *v; /* q [T, H*(DR+DC)], its parts side by side, k likewise, v [T, G*DV] */
};

static void attention_reference(const struct qkv *m, const struct attention_sample *s, int64_t n,
                                bool causal, double scale, double *ref)
{
    double *score = zeroed(m->k->leaf.rows, sizeof *score);

    for (; n-- > 0; s++)
        for (int64_t i = s->q_begin; i < s->q_end; i++)
            for (int64_t h = 0; h < H; h++) {
                int64_t seen = s->k_end - s->k_begin, g = h / (H / G);
                if (causal && i - s->q_begin + 1 < seen) seen = i - s->q_begin + 1;
                for (int64_t j = 0; j < seen; j++) {
                    const double *q = m->q->ref + i * H * (DR + DC);
                    const double *k = m->k->ref + (s->k_begin + j) * G * (DR + DC);
                    score[j] = 0;
                    for (int64_t c = 0; c < DR; c++)
                        score[j] += scale * q[h * DR + c] * k[g * DR + c];
                    for (int64_t c = 0; c < DC; c++)
                        score[j] += scale * q[H * DR + h * DC + c] * k[G * DR + g * DC + c];
                }
                attend(score, seen, m->v->ref + (s->k_begin * G + g) * DV, G * DV,
                       ref + (i * H + h) * DV);
            }
    free(score);
}

static struct tensor *plain(struct bench *b, struct tensor *q, struct tensor *k, struct tensor *v,
                            const struct attention_sample *s, int64_t n, bool causal, double scale)
{
    struct attention a = {.part = {{q, k, 0, 0, DR}, {q, k, H * DR, G * DR, DC}},
                          .parts = 2,
                          .v = v,
                          .heads = H,
                          .groups = G,
                          .v_width = DV,
                          .samples = s,
                          .n_samples = n,
                          .causal = causal,
                          .scale = scale};
    return op_attention(b->t, &a);
}

static const struct attention_sample samples[] = {
    {0, 1, 0, 1}, {1, 601, 1, 601}, {601, 610, 601, 610}};

/* A scale of 3,000 makes scores of about 10,000: exp overflows unless the maximum is subtracted. */
static void test_attention(void **state)
{
    static const double scales[] = {0.3, 3000};

    (void)state;
    for (int k = 0; k < 4; k++) {
        struct bench b;
        bench_open(&b);
        struct qkv m = {fresh(&b, DT_F32, 610, H * (DR + DC), 1),
                        fresh(&b, DT_F32, 610, G * (DR + DC), 1),
                        fresh(&b, DT_F32, 610, G * DV, 1)};
        struct tensor *y =
            plain(&b, &m.q->leaf, &m.k->leaf, &m.v->leaf, samples, 3, k & 1, scales[k / 2]);
        double *ref = zeroed(610 * H * DV, sizeof *ref);
        compute(&b);
        attention_reference(&m, samples, 3, k & 1, scales[k / 2], ref);
        /* In fp32, scores of 1e4 are accurate to 1e-3, and so are the weights made from them. */
        check_close(y, ref, k / 2 ? 2e-2 : 1e-5);
        free(ref);
        bench_close(&b);
    }
}

/* Columns [col, col + cols) of m as a separate matrix: a cache holds the parts separately. */
static struct matrix *columns(struct bench *b, const struct matrix *m, int64_t col, int64_t cols)
{
    struct matrix *out = fresh(b, DT_F32, m->leaf.rows, cols, 0);

    for (int64_t i = 0; i < m->leaf.rows * cols; i++)
        store(&out->leaf, i, m->ref[i / cols * m->leaf.cols + col + i % cols]);
    return out;
}

/* The same over a cache that holds the keys' parts separately; q [rows, H*(DR+DC)]. */
static struct tensor *cached(struct bench *b, const struct qkv *m, struct tensor *q,
                             const struct cached_sequence *seq, int64_t n, double scale)
{
    struct matrix *kr = columns(b, m->k, 0, G * DR), *kn = columns(b, m->k, G * DR, G * DC);
    struct cached_attention a = {
        .part = {{{q}, &kr->leaf, 0, DR, G}, {{q}, &kn->leaf, H * DR, DC, G}},
        .parts = 2,
        .v = &m->v->leaf,
        .heads = H,
        .v_groups = G,
        .v_width = DV,
        .seq = seq,
        .n_seq = n,
        .scale = scale};
    return op_cached_attention(b->t, &a);
}

/* A NaN query has a NaN answer, not that of a query that sees nothing: otherwise bad weights would
 * go unnoticed. Its neighbours are unaffected. */
static void test_not_a_number(void **state)
{
    static const struct attention_sample s[] = {{0, 600, 0, 600}};
    static const struct cached_sequence seq[] = {{0, 600, 0, 0, NULL, 0}};
    enum { BAD = 590, W = H * (DR + DC) };
    struct bench b;

    (void)state;
    bench_open(&b);
    struct qkv m = {fresh(&b, DT_F32, 600, W, 1), fresh(&b, DT_F32, 600, G * (DR + DC), 1),
                    fresh(&b, DT_F32, 600, G * DV, 1)};
    struct tensor *y[] = {plain(&b, &m.q->leaf, &m.k->leaf, &m.v->leaf, s, 1, true, 0.3),
                          cached(&b, &m, &m.q->leaf, seq, 1, 0.3)};
    for (int64_t k = 0; k < W; k++)
        ((float *)m.q->leaf.data)[BAD * W + k] = NAN;
    compute(&b);
    for (int64_t i = 0; i < 2 * 600 * H * DV; i++) {
        int64_t at = i % (600 * H * DV);
        assert_int_equal(isnan(tensor_real(y[i / (600 * H * DV)])[at]), at / (H * DV) == BAD);
    }
    bench_close(&b);
}

static void test_cache_write(void **state)
{
    static const int32_t rows[] = {4, 0, 3};
    struct bench b;
    float cache[6 * 2];

    (void)state;
    bench_open(&b);
    struct matrix *x = fresh(&b, DT_F32, 3, 2, 1);
    for (int i = 0; i < 12; i++)
        cache[i] = 100;
    struct tensor *c =
        op_cache_write(b.t, &x->leaf, &(struct cache_store){.data = cache, .rows = 6}, rows);
    compute(&b);
    assert_true(c->data == cache && c->rows == 6 && c->cols == 2 && !c->needs_grad);
    for (int i = 0; i < 12; i++) {
        double want = 100;
        for (int k = 0; k < 3; k++)
            if (rows[k] == i / 2) want = x->ref[k * 2 + i % 2];
        assert_true((double)cache[i] == want);
    }
    bench_close(&b);
}

/* Prefill: three sequences that start in the cache where their samples do. */
static void test_cached_attention(void **state)
{
    static const struct cached_sequence seq[] = {
        {0, 1, 0, 0, NULL, 0}, {1, 601, 1, 0, NULL, 0}, {601, 610, 601, 0, NULL, 0}};
    struct bench b;

    (void)state;
    bench_open(&b);
    struct qkv m = {fresh(&b, DT_F32, 610, H * (DR + DC), 1),
                    fresh(&b, DT_F32, 610, G * (DR + DC), 1), fresh(&b, DT_F32, 610, G * DV, 1)};
    struct tensor *y = cached(&b, &m, &m.q->leaf, seq, 3, 0.3);
    double *ref = zeroed(610 * H * DV, sizeof *ref);
    compute(&b);
    attention_reference(&m, samples, 3, true, 0.3, ref);
    check_close(y, ref, 1e-5);
    free(ref);
    bench_close(&b);
}

/* Decoding: the last 3 tokens of the second sample and the last of the third are added alone. */
static void test_cached_decode(void **state)
{
    static const struct cached_sequence seq[] = {{0, 3, 1, 597, NULL, 0}, {3, 4, 601, 8, NULL, 0}};
    static const int32_t asked[] = {598, 599, 600, 609};
    struct bench b;
    double some[4 * H * DV];

    (void)state;
    bench_open(&b);
    struct qkv m = {fresh(&b, DT_F32, 610, H * (DR + DC), 1),
                    fresh(&b, DT_F32, 610, G * (DR + DC), 1), fresh(&b, DT_F32, 610, G * DV, 1)};
    struct tensor *q = op_select_rows(b.t, &m.q->leaf, NULL, asked, 4);
    struct tensor *y = cached(&b, &m, q, seq, 2, 0.3);
    double *ref = zeroed(610 * H * DV, sizeof *ref);
    compute(&b);
    attention_reference(&m, samples, 3, true, 0.3, ref);
    for (int i = 0; i < 4; i++)
        memcpy(some + i * H * DV, ref + asked[i] * H * DV, H * DV * sizeof *ref);
    check_close(y, some, 1e-5);
    free(ref);
    bench_close(&b);
}

/* Latent attention: rotated keys for all heads, a latent of R per token, factors per modality. Once
 * with keys and values made from it (and op_attention), once absorbed, from the cache. */
enum { R = 16 };
struct latent {
    struct matrix *qr, *qn, *kr, *c, *up_k[MODALITIES], *up_v[MODALITIES];
};

static struct tensor *unabsorbed(struct bench *b, struct latent *l, const struct span *spans,
                                 int64_t n_spans, const struct attention_sample *s)
{
    struct tensor *none[MODALITIES] = {NULL, NULL};
    struct tensor *up_k[] = {&l->up_k[TEXT]->leaf, &l->up_k[IMAGE]->leaf};
    struct tensor *up_v[] = {&l->up_v[TEXT]->leaf, &l->up_v[IMAGE]->leaf};
    struct tensor *kn = op_modal_linear(b->t, &l->c->leaf, up_k, none, spans, n_spans);
    struct tensor *v = op_modal_linear(b->t, &l->c->leaf, up_v, none, spans, n_spans);
    struct attention a = {
        .part = {{&l->qr->leaf, &l->kr->leaf, 0, 0, DR}, {&l->qn->leaf, kn, 0, 0, DC}},
        .parts = 2,
        .v = v,
        .heads = H,
        .groups = G,
        .v_width = DV,
        .samples = s,
        .n_samples = 2,
        .causal = true,
        .scale = 0.2};
    return op_attention(b->t, &a);
}

static struct tensor *absorbed(struct bench *b, struct latent *l, const struct cached_sequence *seq,
                               int64_t n_seq, const int32_t *asked, int64_t n)
{
    struct tensor *qr = op_select_rows(b->t, &l->qr->leaf, NULL, asked, n);
    struct tensor *qn = op_select_rows(b->t, &l->qn->leaf, NULL, asked, n), *q[MODALITIES];

    for (int m = 0; m < MODALITIES; m++)
        q[m] = op_head_linear(b->t, qn, 0, &l->up_k[m]->leaf, H, G, false);
    struct cached_attention a = {
        .part = {{{qr}, &l->kr->leaf, 0, DR, G}, {{q[TEXT], q[IMAGE]}, &l->c->leaf, 0, R, 1}},
        .parts = 2,
        .v = &l->c->leaf,
        .heads = H,
        .v_groups = 1,
        .v_width = R,
        .split_modalities = true,
        .seq = seq,
        .n_seq = n_seq,
        .scale = 0.2};
    struct tensor *o = op_cached_attention(b->t, &a);
    assert_int_equal(o->cols, MODALITIES * H * R);
    return op_add(b->t, op_head_linear(b->t, o, 0, &l->up_v[TEXT]->leaf, H, G, true),
                  op_head_linear(b->t, o, H * R, &l->up_v[IMAGE]->leaf, H, G, true));
}

static void test_cached_latent(void **state)
{
    /* Two samples of 150 and 30 tokens; the second has no image. */
    static const struct span spans[] = {
        {0, 20, TEXT}, {20, 130, IMAGE}, {130, 150, TEXT}, {150, 180, TEXT}};
    static const struct span of_first[] = {{0, 20, TEXT}, {20, 130, IMAGE}};
    static const struct attention_sample s[] = {{0, 150, 0, 150}, {150, 180, 150, 180}};
    static const struct cached_sequence all[] = {{0, 150, 0, 0, of_first, 2},
                                                 {150, 180, 150, 0, NULL, 0}};
    static const struct cached_sequence last[] = {{0, 2, 0, 148, of_first, 2},
                                                  {2, 3, 150, 29, NULL, 0}};
    int32_t every[180], few[] = {148, 149, 179};
    struct bench b;

    (void)state;
    bench_open(&b);
    struct latent l = {.qr = fresh(&b, DT_F32, 180, H * DR, 1),
                       .qn = fresh(&b, DT_F32, 180, H * DC, 1),
                       .kr = fresh(&b, DT_F32, 180, G * DR, 1),
                       .c = fresh(&b, DT_F32, 180, R, 1)};
    for (int m = 0; m < MODALITIES; m++) {
        l.up_k[m] = fresh(&b, m ? DT_BF16 : DT_F32, G * DC, R, 0.5);
        l.up_v[m] = fresh(&b, m ? DT_F32 : DT_BF16, G * DV, R, 0.5);
    }
    for (int i = 0; i < 180; i++)
        every[i] = i;
    struct tensor *want = unabsorbed(&b, &l, spans, 4, s);
    struct tensor *prefill = absorbed(&b, &l, all, 2, every, 180);
    struct tensor *decode = absorbed(&b, &l, last, 2, few, 3);
    tape_keep(want);
    compute(&b);
    double *ref = zeroed(180 * H * DV, sizeof *ref);
    for (int i = 0; i < 180 * H * DV; i++)
        ref[i] = (double)tensor_real(want)[i];
    check_close(prefill, ref, 1e-5);
    for (int i = 0; i < 3; i++)
        memmove(ref + i * H * DV, ref + few[i] * H * DV, H * DV * sizeof *ref);
    check_close(decode, ref, 1e-5);
    free(ref);
    bench_close(&b);
}

/* What keys receive, added to what is there: of all queries, over several rounds and blocks; and of
 * each sequence's last one. 1e-4: 1,200 weights summed in fp32. */
static void test_received(void **state)
{
    enum { N = 1200, T = 1210, HEADS = 8, D = 4 };
    static const struct cached_sequence seq[] = {{0, N, 0, 0, NULL, 0}, {N, T, N + 3, 7, NULL, 0}};

    (void)state;
    for (int last = 0; last < 2; last++) {
        struct bench b;
        bench_open(&b);
        struct matrix *q = fresh(&b, DT_F32, T, HEADS * D, 1);
        struct matrix *k = fresh(&b, DT_F32, T + 20, HEADS * D, 1);
        struct matrix *v = fresh(&b, DT_F32, T + 20, HEADS * D, 1);
        const int64_t rows = k->leaf.rows;
        real *received = zeroed(HEADS * rows, sizeof *received);
        double *want = zeroed(HEADS * rows, sizeof *want), *p = zeroed(rows, sizeof *p);
        for (int64_t i = 0; i < HEADS * rows; i++)
            want[i] = (double)(received[i] = (real)(i % 3));
        op_cached_attention(
            b.t, &(struct cached_attention){.part = {{{&q->leaf}, &k->leaf, 0, D, HEADS}},
                                            .parts = 1,
                                            .v = &v->leaf,
                                            .heads = HEADS,
                                            .v_groups = HEADS,
                                            .v_width = D,
                                            .received = received,
                                            .received_by_last = last,
                                            .seq = seq,
                                            .n_seq = 2,
                                            .scale = 0.3});
        compute(&b);
        for (int s = 0; s < 2; s++)
            for (int64_t i = last ? seq[s].q_end - 1 : seq[s].q_begin; i < seq[s].q_end; i++)
                for (int64_t h = 0; h < HEADS; h++) {
                    const int64_t seen = seq[s].position + i - seq[s].q_begin + 1;
                    double sum = 0;
                    for (int64_t j = 0; j < seen; j++) {
                        double score = 0;
                        for (int64_t c = 0; c < D; c++)
                            score += 0.3 * q->ref[(i * HEADS + h) * D + c] *
                                     k->ref[((seq[s].k_begin + j) * HEADS + h) * D + c];
                        sum += p[j] = exp(score);
                    }
                    for (int64_t j = 0; j < seen; j++)
                        want[h * rows + seq[s].k_begin + j] += p[j] / sum;
                }
        for (int64_t i = 0; i < HEADS * rows; i++)
            assert_true(fabs((double)received[i] - want[i]) < 1e-4 * (1 + want[i]));
        free(received);
        free(want);
        free(p);
        bench_close(&b);
    }
}

/* More scores than fit in one round: 8 heads, 1,200 queries and as many keys. */
static void test_cached_rounds(void **state)
{
    enum { N = 1200, HEADS = 8, D = 4 };
    static const struct cached_sequence seq[] = {{0, N, 0, 0, NULL, 0}};
    static const struct attention_sample s[] = {{0, N, 0, N}};
    struct bench b;

    (void)state;
    bench_open(&b);
    struct matrix *q = fresh(&b, DT_F32, N, HEADS * D, 1), *k = fresh(&b, DT_F32, N, HEADS * D, 1);
    struct matrix *v = fresh(&b, DT_F32, N, HEADS * D, 1);
    struct attention a = {.part = {{&q->leaf, &k->leaf, 0, 0, D}},
                          .parts = 1,
                          .v = &v->leaf,
                          .heads = HEADS,
                          .groups = HEADS,
                          .v_width = D,
                          .samples = s,
                          .n_samples = 1,
                          .causal = true,
                          .scale = 0.5};
    struct cached_attention c = {.part = {{{&q->leaf}, &k->leaf, 0, D, HEADS}},
                                 .parts = 1,
                                 .v = &v->leaf,
                                 .heads = HEADS,
                                 .v_groups = HEADS,
                                 .v_width = D,
                                 .seq = seq,
                                 .n_seq = 1,
                                 .scale = 0.5};
    struct tensor *want = op_attention(b.t, &a), *got = op_cached_attention(b.t, &c);
    compute(&b);
    for (int64_t i = 0; i < N * HEADS * D; i++)
        q->ref[i] = (double)tensor_real(want)[i];
    check_close(got, q->ref, 1e-5);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),     cmocka_unit_test(test_not_a_number),
        cmocka_unit_test(test_cache_write),   cmocka_unit_test(test_cached_attention),
        cmocka_unit_test(test_cached_decode), cmocka_unit_test(test_cached_latent),
        cmocka_unit_test(test_received),      cmocka_unit_test(test_cached_rounds),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
