/* test_factors.c - factors as a run makes them, from calibration to the MLA model, for every choice
 * of svd.statistics and svd.method: at full rank nothing changes, and the points of a sweep have
 * the factors that each would have alone. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "convert/kv_stats.h"
#include "tests/tmpdir.h"
#include "train/factors.h"
#include "train/refit.h"

#include "tests/tiny_run.h"

static const char *const statistics[] = {KV_STATISTICS_NAMES};

enum { PICTURES = 8, SIDE = 32 };

/* Samples with pictures of noise: enough tokens that differ for a full rank of 32. */
static void spill_samples(void **state)
{
    unsigned char bmp[54 + 3 * SIDE * SIDE] = {
        'B', 'M', [10] = 54, [14] = 40, [18] = SIDE, [22] = SIDE, [26] = 1, [28] = 24};
    char text[4000] = "[", name[32];
    size_t n = 1;
    struct rng rng;

    rng_seed(&rng, 1, 1);
    for (int i = 0; i < PICTURES; i++) {
        for (int k = 54; k < (int)sizeof bmp; k++)
            bmp[k] = (unsigned char)rng_below(&rng, 256);
        bmp[2] = sizeof bmp & 255;
        bmp[3] = sizeof bmp >> 8;
        snprintf(name, sizeof name, "%d.bmp", i);
        spill(tmpdir_path(state, name), (char *)bmp, sizeof bmp);
        n += (size_t)snprintf(
            text + n, sizeof text - n,
            "%s{\"id\":\"%d\",\"image\":\"%s\",\"conversations\":[{\"from\":\"human\",\"value\":"
            "\"<image>\\nWhat may %d and %d be?\"},{\"from\":\"gpt\",\"value\":\"word %c of "
            "%d\"}]}",
            i ? "," : "", i, name, i, 7 * i + 3, 'a' + 3 * i, 11 * i);
    }
    snprintf(text + n, sizeof text - n, "]");
    spill(tmpdir_path(state, "train.json"), text, strlen(text));
}

/* A run with its data open, and the settings besides, KEY=VALUE divided by '|'. */
static void open_run(struct run *r, void **state, const char *line)
{
    const char *more[16] = {"data.eval=[]"};
    struct model m = {0};
    char text[600], *rest = text;
    struct err e;
    int n = 1;

    snprintf(text, sizeof text, "%s", line);
    while (n < 15 && (more[n] = strsep(&rest, "|")))
        n++;
    tiny_run(r, state, more);
    spill_samples(state);
    r->only_point = -1;
    if (!file_mkdirs(r->c.run.dir, &e) || !make_baseline_model(r, &m, &e) ||
        !run_open_data(r, &m.cfg, &e) || !run_open_pictures(r, &m, false, &e))
        fail_msg("%s: %s", line, e.msg);
    model_close(&m);
}

/* The original, the same from each call, and with the first pairs rotated. */
static void original(struct run *r, struct model *m)
{
    struct err e;

    if (!make_baseline_model(r, m, &e)) fail_msg("%s", e.msg);
    for (int64_t i = 0; i < m->n_params; i++) /* scores that are not all the same */
        for (int64_t j = 0; m->params[i].kind == PARAM_Q && j < tensor_count(&m->params[i].t); j++)
            tensor_real(&m->params[i].t)[j] *= 8;
}

static void partial(struct run *r, struct model *m, int64_t rope_dim)
{
    const struct mha2mla_config c = {
        .partial_rope_version = "high", .rope_dim_for_mla = rope_dim, .svd_init_method = "none"};
    int32_t pairs[64];
    struct err e;

    original(r, m);
    for (int i = 0; i < 64; i++)
        pairs[i] = i % (int32_t)(rope_dim / 2);
    if (!model_to_partial(m, pairs, rope_dim, &e) || !hf_config_set_mha2mla(&m->cfg, &c, &e))
        fail_msg("%s", e.msg);
}

/* Logits of all training samples at once. */
static float *logits(struct run *r, struct model *m, int64_t *n)
{
    struct batch_buffer b = {0};
    struct sample s[PICTURES];
    struct forward f = {.batch = &b.batch};
    struct tensor *out;
    struct err e;
    bool ok = true;
    float *copy;

    for (int i = 0; ok && i < PICTURES; i++)
        ok = dataset_sample(&r->train, i, &s[i], &e);
    ok = ok && batch_fill(&b, s, PICTURES, false, &e);
    tape_begin(r->tape, false);
    ok = ok && run_pictures(r, m, &r->train, &b, &f.features, &e);
    if (!ok) fail_msg("%s", e.msg);
    out = model_logits(m, r->tape, &f, NULL, 0);
    if (!tape_plan(r->tape, 0, &e)) fail_msg("%s", e.msg);
    tape_forward(r->tape);
    *n = tensor_count(out);
    copy = malloc((size_t)*n * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, out->data, (size_t)*n * sizeof *copy);
    for (int i = 0; i < PICTURES; i++)
        sample_free(&s[i]);
    batch_free(&b);
    return copy;
}

static double distance(const float *a, const float *b, int64_t n)
{
    double most = 0, diff = 0;

    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i]));
        diff = fmax(diff, fabs((double)a[i] - (double)b[i]));
        if (!isfinite(b[i])) return HUGE_VAL;
    }
    return diff / most;
}

/* Those of p and the points that share its pairs, or of the only one that is asked for; by run, the
 * bytes for sums (0: as a run has). */
static double room;

static bool make(struct made_factors *f, struct run *r, struct model *m, struct model *base,
                 const struct point *p, struct err *e)
{
    struct factors_for what = {.samples = r->c.svd.samples, .room = room};
    bool ok =
        factors_points(r, p, r->only_point >= 0, &what, e) && factors_make(f, r, m, base, &what, e);

    free(what.point);
    return ok;
}

/* How far the logits of point i are from the partial model's; attention and calibration are the
 * original's. */
static double loss_of(struct run *r, int64_t i)
{
    const struct point p = config_point(&r->c, i);
    struct made_factors f = {0};
    struct model base = {0}, m = {0};
    struct err e;
    int64_t n;

    original(r, &base);
    partial(r, &m, p.rope_dim);
    float *want = logits(r, &m, &n);
    if (!make(&f, r, &m, &base, &p, &e) || !factors_apply(&f, r, &p, true, &m, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(m.state, ATTN_MLA);
    float *got = logits(r, &m, &n);
    const double lost = distance(want, got, n);
    factors_free(&f);
    model_close(&m);
    model_close(&base);
    free(want);
    free(got);
    return lost;
}

/* 1e-5 of the largest logit: two layers of fp32, and factors rounded to it; with latents of a half
 * much more is lost. 48 rows of 32 inputs, and 24 rows. */
static void test_full_rank(void **state)
{
    static const struct {
        const char *settings;
        double full[KV_METHODS]; /* low_rank of full rank; 0: no such thing */
    } shapes[] = {
        {"sweep.partial_rope=[8]", {[KV_JOINT] = 16, [KV_ONLY_KEY] = 8, [KV_ONLY_VALUE] = 16}},
        {"sweep.partial_rope=[4]|baseline.heads=4",
         {[KV_JOINT] = 12, [KV_ONLY_KEY] = 4, [KV_ONLY_VALUE] = 8}},
    };
    static const char *const methods[] = {KV_METHOD_NAMES};

    for (int i = 0; i < 2 * KV_METHODS * KV_STATISTICS * 2; i++) {
        const int shape = i % 2, kind = i / 4 % KV_STATISTICS, method = i / 4 / KV_STATISTICS;
        const double full = shapes[shape].full[method];
        char line[400];
        struct run r;

        if (full == 0) continue;
        snprintf(line, sizeof line,
                 "%s|svd.method=%s|svd.statistics=%s|svd.decoupled=%s|svd.steps=2|"
                 "sweep.low_rank=[%g,%g]",
                 shapes[shape].settings, methods[method], statistics[kind],
                 i / 2 % 2 ? "true" : "false", full, full / 2);
        open_run(&r, state, line);
        const double whole = loss_of(&r, 0), half = loss_of(&r, 1);
        if (!(whole < 1e-5 && half > 1e-4 && half < 1)) fail_msg("%s: %g, %g", line, whole, half);
        run_close(&r);
    }
}

/* What the logits of this random model lose by a latent of 12, its 32 inputs narrowed: to 28 and
 * 20, at most a tenth more than with all (measured: -3 to 4 %), to the latent's own 12, at most
 * half more (-4 and 20 %). A run's room does not narrow it. */
static void test_narrow(void **state)
{
    static const struct {
        int64_t narrow;
        double most;
    } widths[] = {{28, 1.1}, {20, 1.1}, {12, 1.5}};
    static const char *const sets[] = {"svd.decoupled=true", "svd.decoupled=false"};

    for (int i = 0; i < 2; i++) {
        char line[200];
        struct run r;
        struct model m = {0};

        snprintf(line, sizeof line, "sweep.low_rank=[6]|svd.statistics=blocks|%s", sets[i]);
        open_run(&r, state, line);
        partial(&r, &m, config_point(&r.c, 0).rope_dim);
        const double all = loss_of(&r, 0);
        for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
            const double n = (double)widths[k].narrow;
            room = 4 * (16 * n * n + 2048 * n) + 512 * n + 16 * n * n;
            assert_int_equal(kv_stats_narrow(&m, room, 12), widths[k].narrow);
            const double lost = loss_of(&r, 0);
            if (!(lost < widths[k].most * all) || (lost <= all && lost >= all))
                fail_msg("%s, %g inputs: %g, all of them %g", line, n, lost, all);
        }
        room = 0;
        assert_int_equal(kv_stats_narrow(&m, FACTORS_ROOM, 12), 0);
        model_close(&m);
        run_close(&r);
    }
}

static void apply(struct run *r, struct made_factors *f, int64_t i, bool last, struct model *m)
{
    const struct point p = config_point(&r->c, i);
    struct err e;

    partial(r, m, p.rope_dim);
    if (!factors_apply(f, r, &p, last, m, &e)) fail_msg("%s", e.msg);
}

static void same_model(const struct model *a, const struct model *b)
{
    assert_int_equal(a->n_params, b->n_params);
    for (int64_t i = 0; i < a->n_params; i++) {
        const struct tensor *x = &a->params[i].t, *y = &b->params[i].t;
        assert_int_equal(tensor_count(x), tensor_count(y));
        if (memcmp(x->data, y->data, (size_t)tensor_count(x) * dtype_size(x->dtype)) != 0)
            fail_msg("%s differs", a->params[i].name);
    }
}

/* Points that are made together are those that are made alone, in whichever order they are used.
 * With split every part has its own latent. */
static void test_points(void **state)
{
    for (int i = 0; i < KV_STATISTICS * 2; i++) {
        char line[300];
        struct run r;

        snprintf(line, sizeof line,
                 "sweep.low_rank=[6,2,4]|svd.steps=3|svd.statistics=%s|svd.method=%s",
                 statistics[i / 2], i % 2 ? "split" : "joint");
        open_run(&r, state, line);
        const struct point first = config_point(&r.c, 0);
        struct made_factors all = {0};
        struct model base = {0}, m = {0};
        struct err e;
        original(&r, &base);
        partial(&r, &m, first.rope_dim);
        if (!make(&all, &r, &m, &base, &first, &e)) fail_msg("%s", e.msg);
        model_close(&m);
        assert_int_equal(all.widths, i / 2 == KV_BLOCKS ? 3 : 1);
        for (int64_t p = 0; p < 3; p++) {
            const struct point point = config_point(&r.c, p);
            struct made_factors alone = {0};
            struct model one = {0}, other = {0};
            apply(&r, &all, p, p == 2, &one);
            partial(&r, &m, point.rope_dim);
            r.only_point = p;
            if (!make(&alone, &r, &m, &base, &point, &e)) fail_msg("%s", e.msg);
            r.only_point = -1;
            model_close(&m);
            assert_int_equal(alone.widths, 1);
            apply(&r, &alone, p, true, &other);
            same_model(&one, &other);
            model_close(&one);
            model_close(&other);
            factors_free(&alone);
        }
        factors_free(&all);
        model_close(&base);
        run_close(&r);
    }
}

/* What is made of the statistics differs: of the original's attention, and of the model's own. */
static void test_whose_attention(void **state)
{
    for (int kind = KV_TOKENS; kind <= KV_BLOCKS; kind++) {
        struct made_factors f[2] = {0};
        struct model base = {0}, m = {0};
        char line[100];
        struct run r;
        struct err e;

        snprintf(line, sizeof line, "sweep.low_rank=[4]|svd.statistics=%s", statistics[kind]);
        open_run(&r, state, line);
        const struct point p = config_point(&r.c, 0);
        original(&r, &base);
        partial(&r, &m, p.rope_dim);
        for (int i = 0; i < 2; i++)
            if (!make(&f[i], &r, &m, i ? &base : NULL, &p, &e)) fail_msg("%s", e.msg);
        const struct mdsvd_out *a = &f[0].layer[0].out[0][0], *b = &f[1].layer[0].out[0][0];
        const bool same = memcmp(a->down, b->down, (size_t)(a->r * 32) * sizeof(float)) == 0;
        assert_int_equal(same, kind == KV_TOKENS);
        factors_free(&f[0]);
        factors_free(&f[1]);
        model_close(&base);
        model_close(&m);
        run_close(&r);
    }
}

/* The standard deviation of x[n] around 0. */
static double spread(const float *x, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)n);
}

/* At random: by the seed, as wide as a new model's weights, other ones in every layer and set, and
 * the model can be used. 15 %: that of 8 * 32 normal numbers is off by 4 % (one standard error). */
static void test_random(void **state)
{
    float *first = NULL;

    for (int i = 0; i < 3; i++) {
        struct made_factors f = {0};
        struct model m = {0};
        char line[100];
        struct run r;
        struct err e;
        int64_t n;

        snprintf(line, sizeof line, "sweep.low_rank=[4]|svd.input=random|run.seed=%d", i / 2);
        open_run(&r, state, line);
        const struct point p = config_point(&r.c, 0);
        partial(&r, &m, p.rope_dim);
        if (!make(&f, &r, &m, NULL, &p, &e)) fail_msg("%s", e.msg);
        const struct mdsvd_out *own = &f.layer[0].out[0][0];
        const size_t size = (size_t)(own->r * 32) * sizeof(float);
        assert_int_equal(own->r, 8);
        for (int k = 1; k < 2 * MODALITIES; k++)
            assert_true(memcmp(own->down, f.layer[k / 2].out[k % 2][0].down, size) != 0);
        const double std = m.cfg.text.initializer_range;
        assert_true(fabs(spread(own->down, 8 * 32) / std - 1) < 0.15);
        assert_true(fabs(spread(own->up, 8 * 48) / std - 1) < 0.15);
        if (!first) assert_non_null(first = malloc(size));
        if (i == 0) memcpy(first, own->down, size);
        assert_int_equal(memcmp(first, own->down, size) == 0, i < 2); /* the same seed twice */
        if (!factors_apply(&f, &r, &p, true, &m, &e)) fail_msg("%s", e.msg);
        assert_string_equal(m.cfg.mha2mla.calibration, "random");
        float *got = logits(&r, &m, &n);
        assert_true(isfinite(spread(got, n)));
        free(got);
        factors_free(&f);
        model_close(&m);
        run_close(&r);
    }
    free(first);
}

/* Inputs of layer l's attention whose squares no float holds. */
static void make_loud(struct model *m, int64_t l)
{
    float *norm = tensor_real(&m->layers[l].norm1->t);

    for (int64_t i = 0; i < m->cfg.text.hidden_size; i++)
        norm[i] = 1e30F;
}

/* What fails over a layer says which: the statistics of each kind, and the refit. */
static void test_says_where(void **state)
{
    for (int i = 0; i < 2 * (KV_STATISTICS + 1); i++) {
        const int64_t l = i % 2, kind = i / 2 % KV_STATISTICS;
        const bool refits = i / 2 == KV_STATISTICS;
        struct made_factors f = {0};
        struct model base = {0}, m = {0};
        char line[100], want[100];
        struct run r;
        struct err e = {0};

        snprintf(line, sizeof line, "sweep.low_rank=[4]|svd.statistics=%s", statistics[kind]);
        snprintf(want, sizeof want, "%s: layer %lld: second moments: ", refits ? "a point" : "svd",
                 (long long)l);
        open_run(&r, state, line);
        const struct point p = config_point(&r.c, 0);
        const struct refit_how how = {"a point", r.c.svd.samples, true};
        original(&r, &base);
        partial(&r, &m, p.rope_dim);
        make_loud(&base, l);
        make_loud(&m, l);
        assert_false(refits ? refit_model(&r, &base, &m, &how, NULL, &e)
                            : make(&f, &r, &m, &base, &p, &e));
        if (strncmp(e.msg, want, strlen(want)) != 0) fail_msg("%s: %s", line, e.msg);
        factors_free(&f);
        model_close(&base);
        model_close(&m);
        run_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_full_rank),       tmpdir_test(test_narrow),     tmpdir_test(test_points),
        tmpdir_test(test_whose_attention), tmpdir_test(test_says_where), tmpdir_test(test_random)};

    return cmocka_run_group_tests_name("factors", tests, NULL, NULL);
}
