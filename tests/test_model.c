/* test_model.c - the model's three states of attention are the same function: split up it gives the
 * same logits, the same over a cache as without, and in pieces the same gradients. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/family/llava.h"
#include "model/generate.h"

#include <math.h>

#include "tests/tiny_convert.h"

/* Samples of different lengths: text only, images in the middle, at the start and at the end. */
static const char *const mixed[] = {"tttitt|TTT", "ttt|TTTT", "itti|TT", "t|Ti"};
enum { MIXED = 4 };

/* MHA and GQA, with and without biases. */
static const struct variant {
    int kv_heads;
    bool bias;
} variants[] = {{4, false}, {2, false}, {4, true}, {1, true}};
enum { VARIANTS = sizeof variants / sizeof *variants };

static struct tape *new_tape(void)
{
    struct err e = {0};
    struct tape *t = tape_new(&e);

    must(t, &e);
    return t;
}

/* If every pair is kept, PARTIAL is FULL with its rows reordered. 1e-5: only the order of sums of 8
 * products changes, in fp32, over two layers. */
static void test_all_pairs_kept(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        struct tape *t = new_tape();
        struct tiny_batch b;
        struct model m;

        tiny_model(&m, variants[v].kv_heads, variants[v].bias, 5);
        tiny_batch(&b, mixed, MIXED, 7);
        float *full = tiny_logits(&m, t, &b.f);
        tiny_partial(&m, 8);
        assert_int_equal(m.state, ATTN_PARTIAL);
        float *partial = tiny_logits(&m, t, &b.f);
        assert_true(tiny_distance(full, partial, b.b.batch.tokens * TINY_VOCAB) < 1e-5);
        model_close(&m);
        /* The test is sensitive: with one pair fewer the logits differ. */
        tiny_model(&m, variants[v].kv_heads, variants[v].bias, 5);
        tiny_partial(&m, 6);
        free(partial);
        partial = tiny_logits(&m, t, &b.f);
        assert_true(tiny_distance(full, partial, b.b.batch.tokens * TINY_VOCAB) > 1e-3);
        free(full);
        free(partial);
        tiny_batch_free(&b);
        model_close(&m);
        tape_free(t);
    }
}

/* At full rank the factors reproduce W, whatever the moments. 1e-5: the factors are fp32, the
 * factorisation runs in double. */
static void test_full_rank(void **state)
{
    struct tape *t = new_tape();

    (void)state;
    for (int i = 0; i < VARIANTS * KV_METHODS * 2; i++) {
        const struct variant *v = &variants[i / (2 * KV_METHODS)];
        enum kv_method method = (enum kv_method)(i / 2 % KV_METHODS);
        struct tiny_batch b;
        struct model m;

        if (method == KV_NONE && i % 2 == 0) continue; /* same as PARTIAL */
        tiny_model(&m, v->kv_heads, v->bias, 6);
        tiny_batch(&b, mixed, MIXED, 8);
        tiny_partial(&m, 4);
        float *partial = tiny_logits(&m, t, &b.f);
        tiny_mla(&m, method, i % 2, TINY_D);
        assert_int_equal(m.state, ATTN_MLA);
        float *mla = tiny_logits(&m, t, &b.f);
        double d = tiny_distance(partial, mla, b.b.batch.tokens * TINY_VOCAB);
        if (!(d < 1e-5))
            fail_msg("%s%s, %d kv heads%s: %g", kv_method_names[method], i % 2 ? " decoupled" : "",
                     v->kv_heads, v->bias ? ", biases" : "", d);
        free(partial);
        free(mla);
        tiny_batch_free(&b);
        model_close(&m);
    }
    tape_free(t);
}

/* Decoupled factors belong to one modality: changing the images' leaves text-only
 * samples unchanged. */
static void test_factors_by_modality(void **state)
{
    static const char *const text[] = {"tt|TTT"}, *const picture[] = {"tit|TT"};
    struct tape *t = new_tape();
    struct tiny_batch a, b;
    struct model m;
    float *was[2], *now[2];

    (void)state;
    tiny_model(&m, 2, false, 9);
    tiny_batch(&a, text, 1, 1);
    tiny_batch(&b, picture, 1, 1);
    tiny_partial(&m, 4);
    tiny_mla(&m, KV_JOINT, true, 6);
    was[0] = tiny_logits(&m, t, &a.f);
    was[1] = tiny_logits(&m, t, &b.f);
    struct param *p = m.layers[0].attn.set[IMAGE].down[0];
    for (int64_t i = 0; i < tensor_count(&p->t); i++)
        tensor_real(&p->t)[i] += 0.1f;
    now[0] = tiny_logits(&m, t, &a.f);
    now[1] = tiny_logits(&m, t, &b.f);
    assert_memory_equal(was[0], now[0], (size_t)(a.b.batch.tokens * TINY_VOCAB) * sizeof(float));
    assert_true(tiny_distance(was[1], now[1], b.b.batch.tokens * TINY_VOCAB) > 1e-3);
    for (int i = 0; i < 2; i++) {
        free(was[i]);
        free(now[i]);
    }
    tiny_batch_free(&a);
    tiny_batch_free(&b);
    model_close(&m);
    tape_free(t);
}

/* The next 1 to 5 tokens of each sample that has any left, as a batch. */
struct piece {
    struct sample s[MIXED];
    int64_t from[MIXED]; /* row of the whole batch where the piece's sample begins */
    int64_t seq[MIXED];
    int n;
    struct batch_buffer b;
    float features[MIXED * 64 * TINY_TOWER];
    struct tensor leaf;
    struct forward f;
};

static bool next_piece(struct piece *p, const struct tiny_batch *all, int64_t done[MIXED],
                       const float *by_row, struct rng *r)
{
    int64_t image = 0;
    struct err e = {0};

    p->n = 0;
    for (int s = 0; s < all->n; s++) {
        int64_t left = all->s[s].n - done[s], k = 1 + (int64_t)rng_below(r, 5);
        if (left == 0) continue;
        if (k > left) k = left;
        p->from[p->n] = all->b.batch.begin[s] + done[s];
        p->seq[p->n] = all->n - 1 - s; /* not in sample order */
        p->s[p->n++] = (struct sample){.n = k,
                                       .ids = all->s[s].ids + done[s],
                                       .trained = all->s[s].trained + done[s],
                                       .kind = all->s[s].kind + done[s]};
        done[s] += k;
    }
    if (p->n == 0) return false;
    must(batch_fill(&p->b, p->s, p->n, false, &e), &e);
    for (int s = 0; s < p->n; s++)
        for (int64_t i = 0; i < p->s[s].n; i++) {
            int64_t row = p->from[s] + i, out = p->b.batch.begin[s] + i;
            p->b.positions[out] = all->b.positions[row];
            if (p->s[s].kind[i] == IMAGE)
                memcpy(p->features + image++ * TINY_TOWER, by_row + row * TINY_TOWER,
                       TINY_TOWER * sizeof *by_row);
        }
    p->leaf = tensor_leaf(DT_F32, image, TINY_TOWER, p->features);
    p->f = (struct forward){.batch = &p->b.batch, .features = image ? &p->leaf : NULL};
    return true;
}

/* Every value of a row in use is non-zero, all others are zero. */
static void check_rows(const struct kv_cache *c)
{
    const int64_t rows = c->sequences * c->capacity, size = sizeof(real);

    for (int kind = 0; kind < CACHE_ROWS; kind++)
        for (int64_t i = 0; i < rows * c->before[c->layers][kind]; i += size) {
            const real *value = (const real *)(const void *)(c->data[kind] + i);
            int64_t l = 0;
            while (i >= rows * c->before[l + 1][kind])
                l++;
            const int64_t width = c->before[l + 1][kind] - c->before[l][kind];
            const int64_t row = (i - rows * c->before[l][kind]) / width;
            const bool used = row % c->capacity < c->length[row / c->capacity];
            assert_int_equal(*value != 0, used);
        }
}

/* Pieces of all samples through the cache; the logits after each equal those of the whole. */
static void check_cached(struct model *m, struct tape *t, const char *name)
{
    struct piece *p = calloc(1, sizeof *p);
    struct kv_cache cache = {0};
    struct tiny_batch all;
    struct err e = {0};
    struct rng r;
    int64_t done[MIXED] = {0}, image = 0;

    assert_non_null(p);
    rng_seed(&r, 31, 0);
    tiny_batch(&all, mixed, MIXED, 8);
    float *want = tiny_logits(m, t, &all.f);
    float *by_row = tiny_values(&r, all.b.batch.tokens * TINY_TOWER, 0);
    for (int s = 0; s < MIXED; s++)
        for (int64_t i = 0; i < all.s[s].n; i++)
            if (all.s[s].kind[i] == IMAGE)
                memcpy(by_row + (all.b.batch.begin[s] + i) * TINY_TOWER,
                       all.features + image++ * TINY_TOWER, TINY_TOWER * sizeof *by_row);
    must(kv_cache_new(&cache, m, NULL, MIXED, 20, &e), &e);
    while (next_piece(p, &all, done, by_row, &r)) {
        tape_begin(t, false);
        p->f.cache = &cache;
        p->f.seq = p->seq;
        struct tensor *got = model_extend(m, t, &p->f, &e);
        must(got && tape_plan(t, 0, &e), &e);
        tape_forward(t);
        for (int s = 0; s < p->n; s++) {
            const float *row = want + (p->from[s] + p->s[s].n - 1) * TINY_VOCAB;
            double d = tiny_distance(row, (float *)got->data + s * TINY_VOCAB, TINY_VOCAB);
            /* 1e-4: absorbing changes the order of products, (q U) c for q (U c) */
            if (!(d < 1e-4)) fail_msg("%s: %g after %d tokens", name, d, (int)cache.length[0]);
        }
    }
    int64_t tokens = all.b.batch.tokens;
    assert_int_equal(kv_cache_bytes(&cache), model_cache_values(m) * TINY_LAYERS * tokens * 4);
    check_rows(&cache);
    kv_cache_free(&cache);
    batch_free(&p->b);
    free(p);
    free(want);
    free(by_row);
    tiny_batch_free(&all);
}

/* Token scores over the cache, against the softmax of the whole batch's logits; returns
 * how many were right. */
static int check_scores(struct model *m, struct tape *t, const char *name)
{
    int right = 0;

    struct generate_stats stats = {0};
    struct token_score each[100];
    struct tiny_batch all;
    struct err e = {0};

    tiny_batch(&all, mixed, MIXED, 8);
    const struct batch *b = &all.b.batch;
    float *logits = tiny_logits(m, t, &all.f);
    assert_in_range(b->labels, 1, 100);
    must(model_score(&(struct generator){.m = m, .t = t, .stats = &stats}, &all.f, each, &e), &e);
    for (int64_t k = 0; k < b->labels; k++) {
        const float *x = logits + b->label_rows[k] * TINY_VOCAB;
        double sum = 0, other = -INFINITY, label = x[b->label_ids[k]];
        for (int v = 0; v < TINY_VOCAB; v++) {
            sum += exp(x[v]);
            if (v != b->label_ids[k] && x[v] > other) other = x[v];
        }
        /* 1e-3: the logits agree to 1e-4 of their largest value, about 4 (check_cached) */
        if (!(fabs(each[k].loss - (log(sum) - label)) < 1e-3))
            fail_msg("%s: label %d: %g", name, (int)k, each[k].loss);
        if (fabs(label - other) > 1e-3) assert_int_equal(each[k].right, label > other);
        right += each[k].right;
    }
    assert_int_equal(stats.cached_tokens, b->tokens);
    assert_int_equal(stats.cache_bytes, model_cache_values(m) * TINY_LAYERS * b->tokens * 4);
    free(logits);
    tiny_batch_free(&all);
    return right;
}

/* Makes the modalities' biases, equal at first, differ as training would. */
static void shake_biases(struct model *m)
{
    struct rng r;

    rng_seed(&r, 41, 0);
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = &m->params[i];
        if (p->ndim != 1 || (p->kind != PARAM_UP_K && p->kind != PARAM_UP_V)) continue;
        for (int64_t k = 0; k < tensor_count(&p->t); k++)
            tensor_real(&p->t)[k] += (float)(0.3 * rng_normal(&r));
    }
}

/* Every state, method and sharing, at ranks that truncate: cached and absorbed is the same
 * function. */
static void test_cached(void **state)
{
    struct tape *t = new_tape();
    int right = 0;

    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        for (int i = -2; i < 2 * KV_METHODS; i++) { /* FULL, PARTIAL, then the methods */
            enum kv_method method = i < 0 ? KV_NONE : (enum kv_method)(i / 2);
            bool decoupled = i >= 0 && i % 2;
            char name[100];
            struct model m;

            snprintf(name, sizeof name, "variant %d, state %d: %s%s", v, i, kv_method_names[method],
                     decoupled ? " decoupled" : "");
            tiny_model(&m, variants[v].kv_heads, variants[v].bias, 12);
            if (i > -2) tiny_partial(&m, 4);
            /* one kv head has 4 unrotated dims: a wider latent would contain zeros */
            if (i >= 0) tiny_mla(&m, method, decoupled, variants[v].kv_heads == 1 ? 4 : 6);
            if (i >= 0) shake_biases(&m);
            check_cached(&m, t, name);
            right += check_scores(&m, t, name);
            model_close(&m);
        }
    }
    assert_true(right > 0);
    tape_free(t);
}

/* Latents that differ by layer: the mean counts. */
static void test_cached_uneven(void **state)
{
    static const int64_t latents[TINY_LAYERS] = {3, 7};
    struct tape *t = new_tape();

    (void)state;
    for (int i = 2; i < 2 * KV_METHODS; i++) {
        const enum kv_method method = (enum kv_method)(i / 2);
        struct model m;

        tiny_model(&m, 2, true, 12);
        tiny_partial(&m, 4);
        tiny_mla_of(&m, method, i % 2, 7, latents);
        shake_biases(&m);
        assert_int_equal(m.latent, 5);
        for (int l = 0; l < TINY_LAYERS; l++)
            assert_int_equal(m.layers[l].attn.set[TEXT].up_v->t.cols,
                             kv_methods[method].value ? latents[l] : TINY_D);
        check_cached(&m, t, kv_method_names[method]);
        check_scores(&m, t, kv_method_names[method]);
        model_close(&m);
    }
    tape_free(t);
}

/* Every pair rotated and still a latent: the keys have no unrotated part. */
static void test_cached_all_rotated(void **state)
{
    static const enum kv_method methods[] = {KV_JOINT, KV_ONLY_VALUE};
    struct tape *t = new_tape();

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct model m;

        tiny_model(&m, 2, false, 12);
        tiny_partial(&m, 8);
        tiny_mla(&m, methods[i / 2], i % 2, 6);
        check_cached(&m, t, "all rotated");
        model_close(&m);
    }
    tape_free(t);
}

/* What the cache holds, calculated by hand for 2 kv heads of 8 dims, 4 rotated, latents of 6. */
static void test_cache_values(void **state)
{
    static const int64_t want[KV_METHODS] = {[KV_NONE] = 8 + 8 + 16,
                                             [KV_JOINT] = 8 + 6,
                                             [KV_SPLIT] = 8 + 6 + 6,
                                             [KV_ONLY_KEY] = 8 + 6 + 16,
                                             [KV_ONLY_VALUE] = 8 + 8 + 6};

    (void)state;
    for (int i = 0; i < KV_METHODS; i++) {
        struct model m;

        tiny_model(&m, 2, false, 12);
        assert_int_equal(model_cache_values(&m), 32);
        tiny_partial(&m, 4);
        assert_int_equal(model_cache_values(&m), 32);
        tiny_mla(&m, (enum kv_method)i, true, 6);
        assert_int_equal(model_cache_values(&m), want[i]);
        assert_int_equal(model_cache_values_full(&m), 32);
        model_close(&m);
    }
}

/* Extends the positions by yarn: cos and sin have the factor f, q k has f^2. */
static void stretch(struct model *m)
{
    m->cfg.text.rope_scaling = (struct rope_scaling){.type = ROPE_YARN,
                                                     .factor = 4,
                                                     .original_max_position_embeddings = 16,
                                                     .attention_factor = 1.4,
                                                     .truncate = true};
}

static void scale_keys(struct model *m, double by)
{
    for (int64_t i = 0; i < m->n_params; i++)
        for (int64_t k = 0; m->params[i].kind == PARAM_UP_K && k < tensor_count(&m->params[i].t);
             k++)
            tensor_real(&m->params[i].t)[k] *= (float)by;
}

/* If all tokens are at the same position nothing turns: whichever pairs are rotated, the logits are
 * the original's, because the unrotated ones keep f^2. 1e-5 as for all pairs. */
static void test_yarn_without_distance(void **state)
{
    struct tape *t = new_tape();

    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        struct tiny_batch b;
        struct model m;

        tiny_model(&m, variants[v].kv_heads, variants[v].bias, 5);
        stretch(&m);
        tiny_batch(&b, mixed, MIXED, 7);
        for (int64_t i = 0; i < b.b.batch.tokens; i++)
            b.b.positions[i] = 3;
        int64_t n = b.b.batch.tokens * TINY_VOCAB;
        float *full = tiny_logits(&m, t, &b.f);
        tiny_partial(&m, v % 2 ? 4 : 2);
        float *partial = tiny_logits(&m, t, &b.f);
        assert_true(tiny_distance(full, partial, n) < 1e-5);
        scale_keys(&m, 1 / (1.4 * 1.4)); /* the test is sensitive */
        free(partial);
        partial = tiny_logits(&m, t, &b.f);
        assert_true(tiny_distance(full, partial, n) > 1e-3);
        free(full);
        free(partial);
        tiny_batch_free(&b);
        model_close(&m);
    }
    tape_free(t);
}

/* With distances, and over the cache. */
static void test_yarn(void **state)
{
    struct tape *t = new_tape();
    struct tiny_batch b;
    struct model m;

    (void)state;
    tiny_model(&m, 2, true, 5);
    tiny_batch(&b, mixed, MIXED, 7);
    int64_t n = b.b.batch.tokens * TINY_VOCAB;
    float *plain = tiny_logits(&m, t, &b.f);
    stretch(&m);
    float *full = tiny_logits(&m, t, &b.f);
    assert_true(tiny_distance(full, plain, n) > 1e-2); /* yarn makes a difference */
    check_cached(&m, t, "yarn");
    tiny_partial(&m, 8);
    float *all = tiny_logits(&m, t, &b.f);
    assert_true(tiny_distance(full, all, n) < 1e-5);
    model_close(&m);
    tiny_model(&m, 2, true, 5);
    stretch(&m);
    tiny_partial(&m, 4);
    check_cached(&m, t, "yarn, partial");
    tiny_mla(&m, KV_JOINT, true, 6);
    check_cached(&m, t, "yarn, MLA");
    free(plain);
    free(full);
    free(all);
    tiny_batch_free(&b);
    model_close(&m);
    tape_free(t);
}

static int32_t argmax(const float *x)
{
    int32_t best = 0;

    for (int32_t i = 1; i < TINY_VOCAB; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* Greedy decoding over the cache produces what full forward passes would, token by token. */
static void check_generate(struct model *m, struct tape *t)
{
    enum { NEW = 6, STOP = 3 };
    struct generate_stats stats = {0};
    struct generation out[MIXED];
    struct tiny_batch b;
    struct err e = {0};
    int64_t cached = 0;

    tiny_batch(&b, mixed, MIXED, 8);
    struct generator g = {
        .m = m, .t = t, .max_new = NEW, .stop = (int32_t[]){STOP}, .n_stop = 1, .stats = &stats};
    must(model_generate(&g, &b.f, out, &e), &e);
    for (int64_t s = 0, image = 0; s < MIXED; s++) {
        struct batch_buffer one = {0};
        struct sample *sample = &b.s[s];
        int64_t first = image, n = sample->n, given = n;

        for (int64_t i = 0; i < sample->n; i++)
            image += sample->kind[i] == IMAGE;
        struct tensor leaf =
            tensor_leaf(DT_F32, image - first, TINY_TOWER, b.features + first * TINY_TOWER);
        for (; n - given < out[s].n + out[s].stopped; n++) {
            sample->n = n;
            must(batch_fill(&one, sample, 1, false, &e), &e);
            struct forward f = {.batch = &one.batch, .features = image > first ? &leaf : NULL};
            float *logits = tiny_logits(m, t, &f);
            int32_t want = argmax(logits + (n - 1) * TINY_VOCAB);
            assert_int_equal(want, n - given < out[s].n ? out[s].ids[n - given] : STOP);
            free(logits);
            sample->ids[n] = want;
            sample->kind[n] = TEXT;
        }
        assert_true(out[s].stopped || out[s].n == NEW);
        cached += n - 1; /* the last token is never fed */
        batch_free(&one);
    }
    assert_int_equal(stats.prompt_tokens, b.b.batch.tokens);
    assert_int_equal(stats.cached_tokens, cached);
    assert_int_equal(stats.cache_bytes, cached * TINY_LAYERS * model_cache_values(m) * 4);
    generation_free(out, MIXED);
    tiny_batch_free(&b);
}

static void test_generate(void **state)
{
    struct tape *t = new_tape();
    struct model m;

    (void)state;
    tiny_model(&m, 2, true, 13);
    check_generate(&m, t);
    tiny_partial(&m, 4);
    check_generate(&m, t);
    tiny_mla(&m, KV_JOINT, true, 6);
    check_generate(&m, t);
    model_close(&m);
    tape_free(t);
}

/* NaN weights are reported, not decoded. */
static void test_generate_nan(void **state)
{
    struct generation out[1];
    static const char *const one[] = {"ttt|T"};
    struct tape *t = new_tape();
    struct tiny_batch b;
    struct err e = {0};
    struct model m;

    (void)state;
    tiny_model(&m, 2, false, 13);
    tiny_batch(&b, one, 1, 8);
    tensor_real(&m.norm->t)[3] = NAN;
    assert_false(model_generate(&(struct generator){.m = &m, .t = t, .max_new = 4}, &b.f, out, &e));
    assert_non_null(strstr(e.msg, "not numbers"));
    tiny_batch_free(&b);
    model_close(&m);
    tape_free(t);
}

enum { SAMPLES = 16 };
static const char *const lengths[SAMPLES] = {
    "t|T",     "tt|TTTT", "it|T",     "tit|TTT", "t|TTTTTTTTT", "iit|T", "ttt|T", "ttiti|TT",
    "tt|T|tT", "t|Ti",    "titt|TTT", "tt|TT",   "itttttt|T",   "t|TTT", "ti|TT", "ttttttttttt|TT"};

/* Gradients of the loss over all samples, `micro` at a time. The images' features come from one
 * list, so that cutting the batch changes only the order. */
static void gradients(struct model *m, struct tape *t, const struct tiny_batch *all, int micro,
                      int64_t recompute)
{
    struct batch_buffer b = {0};
    struct err e = {0};
    int64_t image = 0;

    must(model_train(m, ~0u & ~(1u << PARAM_VISION), &e), &e);
    for (int i = 0; i < SAMPLES; i += micro) {
        must(batch_fill(&b, all->s + i, micro, false, &e), &e);
        struct tensor leaf = tensor_leaf(DT_F32, b.batch.image_tokens, TINY_TOWER,
                                         all->features + image * TINY_TOWER);
        struct forward f = {.batch = &b.batch,
                            .features = b.batch.image_tokens ? &leaf : NULL,
                            .recompute = recompute};
        tape_begin(t, true);
        struct tensor *loss = model_loss(m, t, &f, 1 / (double)all->b.batch.labels);
        must(tape_plan(t, 0, &e), &e);
        tape_forward(t);
        tape_backward(t, loss);
        image += b.batch.image_tokens;
    }
    batch_free(&b);
}

static void check_gradients(struct model *m, struct tape *t)
{
    static const int micro[] = {8, 4, 1};
    struct tiny_batch all;
    int64_t n, same;

    tiny_batch(&all, lengths, SAMPLES, 17);
    gradients(m, t, &all, SAMPLES, 0);
    float *want = tiny_gradients(m, &n), *got;
    for (int i = 0; i < 3; i++) {
        gradients(m, t, &all, micro[i], 0);
        got = tiny_gradients(m, &same);
        assert_int_equal(same, n);
        /* 1e-5: sums of a few hundred fp32 terms in a different order */
        assert_true(tiny_distance(want, got, n) < 1e-5);
        free(got);
    }
    for (int64_t layers = 1; layers <= TINY_LAYERS; layers++) { /* bit-identical, however many */
        gradients(m, t, &all, SAMPLES, layers);
        got = tiny_gradients(m, &same);
        assert_int_equal(same, n);
        assert_memory_equal(want, got, (size_t)n * sizeof *got);
        free(got);
    }
    free(want);
    tiny_batch_free(&all);
}

static void test_accumulation_and_recompute(void **state)
{
    struct tape *t = new_tape();
    struct model m;

    (void)state;
    tiny_model(&m, 2, true, 15);
    check_gradients(&m, t);
    model_close(&m);
    tiny_model(&m, 2, true, 15);
    tiny_partial(&m, 4);
    check_gradients(&m, t);
    tiny_mla(&m, KV_SPLIT, true, 6);
    check_gradients(&m, t);
    model_close(&m);
    tape_free(t);
}

/* The key of cached features changes with everything that changes a feature. */
static void test_vision_hash(void **state)
{
    char hex[6][65];
    struct model m;

    (void)state;
    tiny_model(&m, 2, false, 13);
    model_vision_hash(&m, hex[0]);
    m.cfg.vision.num_attention_heads = 4;
    model_vision_hash(&m, hex[1]);
    m.cfg.vision.num_attention_heads = 2;
    m.cfg.vision_feature_layer[0] = -1;
    model_vision_hash(&m, hex[2]);
    m.cfg.vision_feature_layer[m.cfg.feature_count++] = -2;
    model_vision_hash(&m, hex[5]);
    m.cfg.feature_count = 1;
    m.cfg.vision_feature_layer[0] = -2;
    float was = tensor_real(&((struct llava *)m.tower)->clip.patch->t)[0];
    tensor_real(&((struct llava *)m.tower)->clip.patch->t)[0] += 1;
    model_vision_hash(&m, hex[3]);
    tensor_real(&((struct llava *)m.tower)->clip.patch->t)[0] = was;
    tensor_real(&m.embed->t)[0] += 1; /* not the tower's */
    model_vision_hash(&m, hex[4]);
    assert_string_equal(hex[0], hex[4]);
    for (int i = 1; i < 6; i++)
        for (int k = 0; k < i; k++)
            if (i != 4) assert_string_not_equal(hex[i], hex[k]);
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_pairs_kept),
        cmocka_unit_test(test_full_rank),
        cmocka_unit_test(test_factors_by_modality),
        cmocka_unit_test(test_cached),
        cmocka_unit_test(test_cached_uneven),
        cmocka_unit_test(test_cached_all_rotated),
        cmocka_unit_test(test_cache_values),
        cmocka_unit_test(test_yarn_without_distance),
        cmocka_unit_test(test_yarn),
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_generate_nan),
        cmocka_unit_test(test_vision_hash),
        cmocka_unit_test(test_accumulation_and_recompute),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
