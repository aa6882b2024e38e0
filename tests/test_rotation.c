/* test_rotation.c - the constant rotation of what loses RoPE: the least squares against a direct
 * form, what is done to the weights, and a run that measures it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "convert/rotation.h"
#include "tests/tmpdir.h"
#include "train/models.h"
#include "train/ranking.h"
#include "train/rotation.h"
#include "train/settings.h"

#include "tests/tiny_convert.h"
#include "tests/tiny_run.h"
#include "tests/tiny_variants.h"

/* ---- least squares ---- */

enum { H = 4, G = 2, DH = 8, DC = 6, HALF = DC / 2, P = DH / 2, T = 17, M = DC + 1 };
static const double F = 1.1;
static const struct rotation_dims dims = {H, G, DH, DC, 1.1};
static const int32_t unrotated[G * HALF] = {0, 2, 3, 1, 2, 3};

struct random_sample {
    float q[T * H * DC], k[T * G * DC], full_q[T * H * DH], full_k[T * G * DH], cs[2 * T * P];
    uint8_t modality[T];
    struct rotation_sample x;
};

static void fill(struct rng *r, float *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)(0.5 * rng_normal(r)); /* small enough that no key is faint */
}

static void make_sample(struct random_sample *s)
{
    struct rng r;

    rng_seed(&r, 5, 0);
    fill(&r, s->q, T * H * DC);
    fill(&r, s->k, T * G * DC);
    fill(&r, s->full_q, T * H * DH);
    fill(&r, s->full_k, T * G * DH);
    for (int t = 0; t < T; t++) {
        s->modality[t] = t % 3 == 0;
        for (int i = 0; i < P; i++) {
            s->cs[t * P + i] = (float)(F * cos(t * pow(0.3, i)));
            s->cs[(T + t) * P + i] = (float)(F * sin(t * pow(0.3, i)));
        }
    }
    s->x = (struct rotation_sample){s->q,  s->k,          unrotated,   s->full_q, s->full_k,
                                    s->cs, s->cs + T * P, s->modality, T};
}

static void solve(const struct random_sample *s, int threads, struct rotation *r, double *turn)
{
    const int before = omp_get_max_threads();
    struct err e = {0};

    omp_set_num_threads(threads);
    assert_true(rotation_init(r, &dims, &e) && rotation_see(r, &s->x, 0, &e));
    if (!rotation_solve(r, turn, &e)) fail_msg("%s", e.msg);
    omp_set_num_threads(before);
}

/* a, b and t of head h, query m and key n, by their definition. */
static void row_of(const struct random_sample *s, int h, int m, int n, double *row)
{
    const int g = h / (H / G);

    row[DC] = 0;
    for (int j = 0; j < HALF; j++) {
        const float *q = s->q + (m * H + h) * DC, *k = s->k + (n * G + g) * DC;
        const double re = (double)q[j] * (double)k[j] + (double)q[HALF + j] * (double)k[HALF + j];
        const double im = (double)q[j] * (double)k[HALF + j] - (double)q[HALF + j] * (double)k[j];
        const double angle = (m - n) * pow(0.3, unrotated[g * HALF + j]);
        row[j] = re / sqrt(DH);
        row[HALF + j] = im / sqrt(DH);
        row[DC] += row[j] * cos(angle) + row[HALF + j] * sin(angle);
    }
}

/* Adds the covariance of a query's rows under its attention, over the queries of its modality. */
static void add_query(const struct random_sample *s, int h, int m, double queries, double f[M][M])
{
    double p[T], sum = 0, row[T][M], mean[M] = {0};

    for (int n = 0; n <= m; n++) {
        double score = 0;
        for (int i = 0; i < DH; i++)
            score += (double)s->full_q[(m * H + h) * DH + i] *
                     (double)s->full_k[(n * G + h / (H / G)) * DH + i];
        sum += p[n] = exp(score / sqrt(DH));
    }
    for (int n = 0; n <= m; n++) {
        row_of(s, h, m, n, row[n]);
        for (int j = 0; j < M; j++)
            mean[j] += p[n] / sum * row[n][j];
    }
    for (int n = 0; n <= m; n++)
        for (int i = 0; i < M; i++)
            for (int j = 0; j < M; j++)
                f[i][j] += p[n] / sum * (row[n][i] - mean[i]) * (row[n][j] - mean[j]) / queries;
}

/* What is left of t's covariance by the unrotated score of `turn`, and the ridge's part. */
static double lost(double f[M][M], const double *turn, double ridge)
{
    double x[M], sum = 0;

    for (int j = 0; j < HALF; j++) {
        x[j] = turn[2 * j];
        x[HALF + j] = turn[2 * j + 1];
        sum += ridge * (pow(x[j] - 1, 2) + pow(x[HALF + j], 2));
    }
    x[DC] = -1;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < M; j++)
            sum += x[i] * f[i][j] * x[j];
    return sum;
}

/* No step in any direction is better; and it is much better than none. */
static void test_least_squares(void **state)
{
    struct random_sample *s = malloc(sizeof *s);
    double turn[H * DC], again[H * DC];
    struct rotation r;

    (void)state;
    make_sample(s);
    solve(s, 1, &r, turn);
    rotation_free(&r);
    solve(s, 3, &r, again);
    rotation_free(&r);
    assert_memory_equal(turn, again, sizeof turn);
    for (int h = 0; h < H; h++) {
        const double none[DC] = {1, 0, 1, 0, 1, 0};
        double f[M][M] = {{0}}, ridge = 0, least;
        for (int m = 0; m < T; m++)
            add_query(s, h, m, s->modality[m] ? 6 : 11, f);
        for (int j = 0; j < DC; j++)
            ridge += 1e-3 * f[j][j] / DC;
        least = lost(f, turn + h * DC, ridge);
        assert_true(least < 0.9 * lost(f, none, ridge));
        for (int j = 0; j < DC; j++)
            for (int sign = -1; sign < 2; sign += 2) {
                turn[h * DC + j] += sign * 1e-3;
                assert_true(lost(f, turn + h * DC, ridge) > least);
                turn[h * DC + j] -= sign * 1e-3;
            }
    }
    free(s);
}

/* ---- weights ---- */

/* q (x + i y), in rows and biases; then attention over the cache, and the model saved and opened
 * again, give what the plain form gives. */
static void test_fold(void **state)
{
    for (int v = 0; v < VARIANTS; v++) {
        const struct variant *kind = &variants[v];
        struct mha2mla_config section = {.partial_rope_version = "mkl",
                                         .rope_dim_for_mla = 4,
                                         .svd_init_method = "joint",
                                         .low_rank = 4,
                                         .decoupled = !kind->type};
        struct tape *t = new_tape();
        struct tiny_batch b;
        struct model m, opened;
        struct err e = {0};
        char name[16];
        snprintf(name, sizeof name, "m%d", v);
        open_variant(&m, &b, kind);
        tiny_partial(&m, 4);
        struct param *q = m.layers[1].attn.q[1], *bias = m.layers[1].attn.q_b[1];
        const struct rotation_dims n = {TINY_HEADS, kind->kv_heads, 8, 4, 1};
        double turn[TINY_HEADS * 4];
        must(param_own(q, &e) && (!bias || param_own(bias, &e)), &e);
        float *was = malloc((size_t)tensor_count(&q->t) * sizeof *was);
        memcpy(was, q->own, (size_t)tensor_count(&q->t) * sizeof *was);
        const float b0 = bias ? ((float *)bias->own)[4] : 0,
                    b2 = bias ? ((float *)bias->own)[6] : 0;
        for (int j = 0; j < TINY_HEADS * 4; j++)
            turn[j] = 0.3 + 0.1 * j;
        must(rotation_fold(turn, &n, q, bias, &e), &e);
        for (int j = 0; j < TINY_D; j++) { /* head 1, its pair 0: rows 4 and 6 */
            const double re = (double)was[4 * TINY_D + j], im = (double)was[6 * TINY_D + j];
            assert_true(fabs((double)tensor_real(&q->t)[4 * TINY_D + j] -
                             (turn[4] * re - turn[5] * im)) < 1e-6);
            assert_true(fabs((double)tensor_real(&q->t)[6 * TINY_D + j] -
                             (turn[4] * im + turn[5] * re)) < 1e-6);
        }
        if (bias)
            assert_true(fabs((double)tensor_real(&bias->t)[4] -
                             (turn[4] * (double)b0 - turn[5] * (double)b2)) < 1e-6);
        tiny_mla(&m, KV_JOINT, !kind->type, 4 * kind->kv_heads);
        float *want = tiny_logits(&m, t, &b.f);
        check_absorbed(&m, want, t, &b, v);
        must(hf_config_set_mha2mla(&m.cfg, &section, &e), &e);
        must(model_save(&m, tmpdir_path(state, name), DT_F32, false, &e), &e);
        must(model_open(&opened, tmpdir_path(state, name), &e), &e);
        float *got = tiny_logits(&opened, t, &b.f);
        assert_memory_equal(got, want, (size_t)(b.b.batch.tokens * TINY_VOCAB) * sizeof *got);
        free(got);
        free(want);
        free(was);
        model_close(&opened);
        model_close(&m);
        tiny_batch_free(&b);
        tape_free(t);
    }
}

/* ---- a run ---- */

/* A model of random weights, 2 heads of 16, is the run's base. */
static void open_run(struct run *r, void **state, const char *basis)
{
    char which[40];
    const char *const more[] = {"data.eval=[]",
                                "sweep.partial_rope=[]",
                                "sweep.low_rank=[]",
                                which,
                                "rank.strategy=\"high\"",
                                "rank.rotation=true",
                                "run.steps=[\"rank\",\"svd\"]",
                                NULL};
    struct model m = {0};
    struct err e = {0};

    snprintf(which, sizeof which, "rank.basis=\"%s\"", basis);
    tiny_run(r, state, more);
    if (!file_mkdirs(tmpdir_path(state, "run/baseline"), &e) || !make_baseline_model(r, &m, &e) ||
        !model_save(&m, tmpdir_path(state, "run/baseline/model"), DT_F32, false, &e) ||
        !run_open_data(r, &m.cfg, &e) || !run_open_pictures(r, &m, false, &e) || !step_rank(r, &e))
        fail_msg("%s", e.msg);
    model_close(&m);
}

/* The partial model with so many rotated dims, without and with the rotation. */
static void open_both(struct run *r, int64_t rope_dim, struct model m[2])
{
    const struct point p = {.name = "p", .stage1 = "p", .rope_dim = rope_dim, .low_rank = 4};
    struct err e = {0};

    for (int i = 0; i < 2; i++) {
        r->c.rank.rotation = i;
        if (!open_untrained_partial(r, &p, &m[i], &e)) fail_msg("%s", e.msg);
    }
}

static bool same(const struct param *a, const struct param *b)
{
    return memcmp(a->t.data, b->t.data, (size_t)tensor_count(&a->t) * sizeof(float)) == 0;
}

/* With all dims rotated nothing is left to turn, to the bit; with fewer, unrotated queries alone
 * are another's, the same ones each time. */
static void check_run(void **state, const char *basis, int64_t all)
{
    struct model m[2], again[2];
    struct run r;

    open_run(&r, state, basis);
    open_both(&r, all, m);
    assert_null(r.rotation);
    for (int64_t i = 0; i < m[0].n_params; i++)
        assert_true(same(&m[0].params[i], &m[1].params[i]));
    model_close(&m[0]);
    model_close(&m[1]);
    open_both(&r, 8, m);
    rotation_forget(&r);
    open_both(&r, 8, again);
    for (int64_t i = 0; i < m[0].n_params; i++) {
        assert_true(same(&m[0].params[i], &m[1].params[i]) == (m[0].params[i].kind != PARAM_Q));
        assert_true(same(&m[1].params[i], &again[1].params[i]));
    }
    for (int i = 0; i < 2; i++) {
        model_close(&m[i]);
        model_close(&again[i]);
    }
    run_close(&r);
}

static void test_run(void **state)
{
    check_run(state, "head", 16);
}

static void test_run_cross(void **state)
{
    check_run(state, "cross", 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least_squares),
        cmocka_unit_test_setup_teardown(test_fold, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_run, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_run_cross, tmpdir_make, tmpdir_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
