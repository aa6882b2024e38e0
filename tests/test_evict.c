/* test_evict.c - token eviction (model/evict.h) against the definitions written down plainly: a
 * decoder in double precision that computes every token anew, and asks of every earlier one whether
 * it is still there. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/generate.h"
#include "tests/tiny_reference.h"

#include <stdio.h>
#include <string.h>

enum { NEW = 12, MOST = 64, SAMPLES = 3 };

/* ---- the slow form ---- */

/* What one layer of one sequence still has. */
struct held {
    bool h2o;
    double share, sum[TINY_HEADS][MOST]; /* attention received */
    bool gone[TINY_HEADS][MOST];         /* by query head */
};

/* Row i's attention of query head h over what is there: p[0 .. i], and the output. */
static void attend(const struct model *m, const struct held *s, const double *const qkv[3],
                   int64_t i, int64_t h, double *p, double *o)
{
    const int64_t H = TINY_HEADS, G = m->cfg.text.num_key_value_heads, dh = TINY_D / H;
    const int64_t g = h / (H / G);
    double sum = 0;

    for (int64_t j = 0; j <= i; j++) {
        double score = 0;
        for (int64_t c = 0; c < dh; c++)
            score += qkv[0][(i * H + h) * dh + c] * qkv[1][(j * G + g) * dh + c];
        sum += p[j] = s->gone[h][j] ? 0 : exp(score / sqrt((double)dh));
    }
    for (int64_t j = 0; j <= i; j++)
        p[j] /= sum;
    for (int64_t c = 0; c < dh; c++) {
        o[c] = 0;
        for (int64_t j = 0; j <= i; j++)
            o[c] += p[j] * qkv[2][(j * G + g) * dh + c];
    }
}

/* Takes one token away from the heads [h0, h1), which have the same: of those before the newest
 * `safe` that are there, the one with the least sum. */
static void take_one(struct held *s, int64_t h0, int64_t h1, int64_t given, int64_t safe)
{
    int64_t at = -1, end = given;
    double least = INFINITY;

    for (; safe > 0; end--)
        safe -= !s->gone[h0][end - 1];
    for (int64_t j = 0; j < end; j++) {
        double sum = 0;
        for (int64_t h = h0; h < h1; h++)
            sum += s->sum[h][j];
        if (s->gone[h0][j] || sum >= least) continue;
        least = sum;
        at = j;
    }
    for (int64_t h = h0; h < h1; h++)
        s->gone[h][at] = true;
}

/* Behind token `given` - 1. */
static void take_away(struct held *s, int64_t G, int64_t given)
{
    const int64_t units = s->h2o ? G : 1, per = TINY_HEADS / units;
    const int64_t keep = (int64_t)ceil(s->share * (double)given - 1e-9);

    for (int64_t u = 0; u < units; u++) {
        int64_t there = 0;
        for (int64_t j = 0; j < given; j++)
            there += !s->gone[u * per][j];
        for (; there > keep; there--)
            take_one(s, u * per, (u + 1) * per, given, s->h2o ? keep / 2 : 0);
    }
}

/* A layer on the rows x of one sequence, of which the first `prompt` come at once. */
static void slow_layer(const struct model *m, const struct tiny_batch *t, int64_t l, double *x,
                       int64_t prompt, struct held *s)
{
    const struct text_config *c = &m->cfg.text;
    const struct layer *w = &m->layers[l];
    const int64_t T = t->b.batch.tokens, f = c->intermediate_size, dh = TINY_D / TINY_HEADS;
    double *q = reference_new(T, TINY_D), *k = reference_new(T, TINY_D);
    double *v = reference_new(T, TINY_D), *h = reference_new(T, TINY_D), p[MOST];
    double *gate = reference_new(T, f), *up = reference_new(T, f);

    reference_norm(h, w->norm1, x, T, c->rms_norm_eps);
    reference_qkv(m, t, NULL, l, h, q, k, v);
    for (int64_t i = 0; i < T; i++) {
        for (int64_t head = 0; head < TINY_HEADS; head++) {
            attend(m, s, (const double *[]){q, k, v}, i, head, p, h + i * TINY_D + head * dh);
            for (int64_t j = 0; j <= i; j++)
                s->sum[head][j] = (s->h2o ? s->sum[head][j] : 0) + p[j];
        }
        if (i + 1 >= prompt) take_away(s, c->num_key_value_heads, i + 1);
    }
    reference_linear(q, w->attn.o, w->attn.o_b, h, T);
    for (int64_t i = 0; i < T * TINY_D; i++)
        x[i] += q[i];
    reference_norm(h, w->norm2, x, T, c->rms_norm_eps);
    reference_linear(gate, w->gate, NULL, h, T);
    reference_linear(up, w->up, NULL, h, T);
    for (int64_t i = 0; i < T * f; i++)
        gate[i] *= up[i] / (1 + exp(-gate[i]));
    reference_linear(q, w->down, NULL, gate, T);
    for (int64_t i = 0; i < T * TINY_D; i++)
        x[i] += q[i];
    for (int i = 0; i < 6; i++)
        free((double *[]){q, k, v, h, gate, up}[i]);
}

/* Logits of every row [T, V]; *there: how many tokens the last layer's first head still has. */
static float *slow_logits(const struct model *m, const struct tiny_batch *t, int64_t prompt,
                          bool h2o, double share, int64_t *there)
{
    const int64_t T = t->b.batch.tokens;
    double *x = reference_embeddings(m, t), *y = reference_new(T, TINY_D);
    double *logits = reference_new(T, TINY_VOCAB);
    float *out = calloc((size_t)(T * TINY_VOCAB), sizeof *out);

    assert_non_null(out);
    for (int64_t l = 0; l < TINY_LAYERS; l++) {
        struct held s = {.h2o = h2o, .share = share};
        slow_layer(m, t, l, x, prompt, &s);
        *there = 0;
        for (int64_t j = 0; j < T; j++)
            *there += !s.gone[0][j];
    }
    reference_norm(y, m->norm, x, T, m->cfg.text.rms_norm_eps);
    reference_linear(logits, m->head, NULL, y, T);
    for (int64_t i = 0; i < T * TINY_VOCAB; i++)
        out[i] = (float)logits[i];
    free(x);
    free(y);
    free(logits);
    return out;
}

/* ---- the cache ---- */

/* The logits that the tokens of a generation were taken from. */
struct seen {
    float logits[SAMPLES][NEW][TINY_VOCAB];
    int64_t n[SAMPLES];
};

static int32_t pick(void *arg, int64_t seq, real *logits, int64_t n)
{
    struct seen *s = arg;
    int32_t best = 0;

    for (int64_t i = 0; i < n; i++) {
        s->logits[seq][s->n[seq]][i] = (float)logits[i];
        if (logits[i] > logits[best]) best = (int32_t)i;
    }
    s->n[seq]++;
    return best;
}

static const char *const prompts[SAMPLES] = {"ttittttt", "ttttttttttttittttttt", "tt"};

static void generate(struct model *m, const struct tiny_batch *t, const struct cache_kind *kind,
                     struct seen *seen, struct generation *out, struct generate_stats *stats)
{
    const struct chooser chooser = {.pick = pick, .arg = seen};
    struct err e = {0};
    struct tape *tape = tape_new(&e);
    struct cache_how cache;
    struct generator g = {
        .m = m, .t = tape, .max_new = NEW, .cache = &cache, .chooser = &chooser, .stats = stats};

    assert_non_null(tape);
    must(cache_how_new(&cache, m, kind, &e), &e);
    memset(seen, 0, sizeof *seen);
    memset(stats, 0, sizeof *stats);
    must(model_generate(&g, &t->f, out, &e), &e);
    cache_how_free(&cache);
    tape_free(tape);
}

/* Sample s with what was generated to it, which the last token was not computed for. */
static void whole(struct tiny_batch *w, const struct tiny_batch *t, int s,
                  const struct generation *g)
{
    const int64_t prompt = t->s[s].n;
    char drawing[MOST];
    int64_t before = 0;

    snprintf(drawing, sizeof drawing, "%s%.*s", prompts[s], (int)g->n - 1, "tttttttttttt");
    tiny_batch(w, (const char *const[]){drawing}, 1, 1);
    int32_t *ids = (int32_t *)(uintptr_t)w->b.batch.ids;
    memcpy(ids, t->s[s].ids, (size_t)prompt * sizeof *ids);
    memcpy(ids + prompt, g->ids, (size_t)(g->n - 1) * sizeof *ids);
    for (int i = 0; i < s; i++)
        before += t->s[i].images;
    if (t->s[s].images)
        memcpy(w->features, t->features + before * TINY_PICTURE * TINY_TOWER,
               TINY_PICTURE * TINY_TOWER * sizeof *w->features);
}

static const struct {
    const char *text;
    bool h2o;
    double share;
} rules[] = {{"h2o:0.25", true, 0.25},   {"h2o:0.6", true, 0.6},   {"h2o:1", true, 1},
             {"tova:0.25", false, 0.25}, {"tova:0.6", false, 0.6}, {"tova:1", false, 1}};

/* 1e-4 of the largest logit: fp32 against double, in two layers; a token more
 * or less moves more. */
static void test_slow_form(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        const int kv_heads = i % 2 ? 2 : 4;
        struct generation out[SAMPLES];
        struct generate_stats stats;
        struct tiny_batch t;
        struct cache_kind how;
        struct model m = {0};
        struct err e = {0};
        struct seen seen;
        int64_t tokens = 0, rows = 0;

        must(cache_kind_read(&how, rules[i / 2].text, &e), &e);
        tiny_model(&m, kv_heads, true, 5);
        tiny_batch(&t, prompts, SAMPLES, 6);
        generate(&m, &t, &how, &seen, out, &stats);
        for (int s = 0; s < SAMPLES; s++) {
            struct tiny_batch w;
            int64_t there;
            assert_int_equal(out[s].n, NEW);
            whole(&w, &t, s, &out[s]);
            float *want =
                slow_logits(&m, &w, t.s[s].n, rules[i / 2].h2o, rules[i / 2].share, &there);
            const double d = tiny_distance(want + (t.s[s].n - 1) * TINY_VOCAB, seen.logits[s][0],
                                           NEW * TINY_VOCAB);
            if (!(d < 1e-4))
                fail_msg("%s, %d kv heads, sample %d: %g", rules[i / 2].text, kv_heads, s, d);
            tokens += w.b.batch.tokens;
            rows += there;
            tiny_batch_free(&w);
            free(want);
        }
        /* counted: what is held, of the tokens that were given */
        assert_int_equal(stats.cached_tokens, tokens);
        assert_int_equal(stats.cache_bytes,
                         (size_t)(rows * TINY_LAYERS * 2 * kv_heads * TINY_D / TINY_HEADS) *
                             sizeof(real));
        generation_free(out, SAMPLES);
        tiny_batch_free(&t);
        model_close(&m);
    }
}

/* All tokens: the logits of a cache that gives none back, but for the order of sums, as weights
 * that are counted are computed by themselves; and others with fewer. */
static void test_all(void **state)
{
    static const char *const texts[] = {"f32", "h2o:1", "tova:1", "h2o:0.5", "tova:0.5"};
    struct seen first, seen;

    (void)state;
    for (int i = 0; i < 5; i++) {
        struct generation out[SAMPLES];
        struct generate_stats stats;
        struct tiny_batch t;
        struct cache_kind how;
        struct model m = {0};
        struct err e = {0};

        must(cache_kind_read(&how, texts[i], &e), &e);
        tiny_model(&m, 2, true, 5);
        tiny_batch(&t, prompts, SAMPLES, 6);
        generate(&m, &t, &how, i ? &seen : &first, out, &stats);
        const double d =
            tiny_distance(first.logits[0][0], seen.logits[0][0], SAMPLES * NEW * TINY_VOCAB);
        if (i) assert_int_equal(d < 1e-5, i < 3);
        generation_free(out, SAMPLES);
        tiny_batch_free(&t);
        model_close(&m);
    }
}

static void test_read(void **state)
{
    static const struct {
        const char *text, *says; /* as a name, or why it is none */
        bool ok;
    } cases[] = {
        {"h2o:0.25", "h2o:0.25", true},
        {"h2o:0.250", "h2o:0.25", true},
        {"tova:1", "tova:1", true},
        {"h2o:0", "\"h2o:0\": the share of the tokens that stay must be above 0 and at", false},
        {"h2o:1.01", "above 0 and at most 1", false},
        {"tova:-0.5", "above 0 and at most 1", false},
        {"tova:", "above 0 and at most 1", false},
        {"tova:0.5x", "nothing can follow the share", false},
        {"h2o:0,25", "a share has a point: as in h2o:0.25", false},
        {"h2o:0.25+exact", "nothing can follow the share", false},
        {"tova:nan", "above 0 and at most 1", false},
        {"h2o", "\"h2o\" is no kind of cache; there are f32", false},
        {"h2:0.5", "of the original alone h2o:SHARE and tova:SHARE", false},
        {":0.5", "is no kind of cache", false},
        {"f32+h2o:0.5", "is no kind of cache", false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[CACHE_KIND_TEXT];
        struct cache_kind k;
        struct err e = {0};
        if (cache_kind_read(&k, cases[i].text, &e) != cases[i].ok)
            fail_msg("%s: %s", cases[i].text, e.msg);
        if (!strstr(cases[i].ok ? cache_kind_text(text, &k) : e.msg, cases[i].says))
            fail_msg("%s: %s", cases[i].text, cases[i].ok ? text : e.msg);
    }
}

/* The latents of a converted model are refused. */
static void test_converted(void **state)
{
    struct cache_kind k;
    struct model m = {.state = ATTN_MLA};
    struct err e = {0};

    (void)state;
    must(cache_kind_read(&k, "tova:0.5", &e), &e);
    assert_false(cache_kind_suits(&k, &m, &e));
    assert_non_null(strstr(e.msg, "\"tova:0.5\" takes tokens out of the original's"));
    m.state = ATTN_FULL;
    assert_true(cache_kind_suits(&k, &m, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_slow_form), cmocka_unit_test(test_all),
                                       cmocka_unit_test(test_read),
                                       cmocka_unit_test(test_converted)};

    return cmocka_run_group_tests_name("evict", tests, NULL, NULL);
}
