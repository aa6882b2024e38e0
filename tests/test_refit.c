/* test_refit.c - o_proj refitted: the solution against a direct one, a model that has lost nothing,
 * and one that has. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "convert/moments.h"
#include "convert/refit.h"
#include "tests/tmpdir.h"
#include "train/refit.h"

#include "tests/tiny_run.h"

/* ---- the solution ---- */

enum {
    N = 150,
    D = 70,
    T = 600
}; /* beyond a panel of moments, and beyond the rows solved at a time */
static const double RIDGE = 0.01;

static float *random_rows(uint64_t seed)
{
    float *x = malloc((size_t)T * (N + D) * sizeof *x);
    struct rng r;

    rng_seed(&r, seed, 0);
    for (int64_t i = 0; i < (int64_t)T * (N + D); i++)
        x[i] = (float)(rng_normal(&r) * (i % (N + D) == 3 ? 30 : 1)); /* a loud channel */
    return x;
}

/* X of the normal equations, by elimination without pivots; aa [N,N] and ea [D,N] are destroyed. */
static void direct(double *aa, double *ea)
{
    for (int k = 0; k < N; k++)
        for (int i = k + 1; i < N; i++) {
            const double f = aa[i * N + k] / aa[k * N + k];
            for (int j = k; j < N; j++)
                aa[i * N + j] -= f * aa[k * N + j];
            for (int d = 0; d < D; d++)
                ea[d * N + i] -= f * ea[d * N + k];
        }
    for (int k = N - 1; k >= 0; k--)
        for (int d = 0; d < D; d++) {
            for (int j = k + 1; j < N; j++)
                ea[d * N + k] -= aa[k * N + j] * ea[d * N + j];
            ea[d * N + k] /= aa[k * N + k];
        }
}

static double *direct_solution(const float *rows)
{
    double *aa = calloc(N * N, sizeof *aa), *ea = calloc(D * N, sizeof *ea), mean = 0;

    for (int64_t t = 0; t < T; t++) {
        const float *a = rows + t * (N + D), *e = a + N;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                aa[i * N + j] += (double)a[i] * (double)a[j];
        for (int i = 0; i < D; i++)
            for (int j = 0; j < N; j++)
                ea[i * N + j] += (double)e[i] * (double)a[j];
    }
    for (int i = 0; i < N; i++)
        mean += aa[i * N + i] / N;
    for (int i = 0; i < N; i++)
        aa[i * N + i] += RIDGE * mean;
    direct(aa, ea);
    free(aa);
    return ea;
}

/* sum |e - X a|^2, by its definition. */
static double loss(const float *rows, const float *x)
{
    double sum = 0;

    for (int64_t t = 0; t < T; t++)
        for (int i = 0; i < D; i++) {
            double lacks = (double)rows[t * (N + D) + N + i];
            for (int j = 0; j < N; j++)
                lacks -= (double)x[i * N + j] * (double)rows[t * (N + D) + j];
            sum += lacks * lacks;
        }
    return sum;
}

static void solve(const float *rows, int threads, float *o, struct refit_out *out)
{
    const int before = omp_get_max_threads();
    struct moments m;
    struct err e;

    omp_set_num_threads(threads);
    assert_true(moments_init_cross(&m, N, D, &e));
    moments_add(&m, rows, NULL, T / 3, 1);
    moments_add(&m, rows + T / 3 * (N + D), NULL, T - T / 3, 1);
    assert_true(moments_finish(&m, &e));
    if (!refit_solve(&m, RIDGE, o, out, &e)) fail_msg("%s", e.msg);
    moments_free(&m);
    omp_set_num_threads(before);
}

/* An error counts by the token's size, and never for more than 4. */
static void test_weight(void **state)
{
    const float want[3] = {3, 0, 4}, near[3] = {3, 0, 3.9f}, huge[3] = {-3000, 0, 4}, zero[3] = {0};
    const double squares = 3003.0 * 3003.0;

    (void)state;
    assert_true(refit_weight(want, near, 3) == 1 / 25.0);
    assert_true(refit_weight(near, want, 3) == 1 / 25.0);
    assert_true(refit_weight(want, huge, 3) == 1 / (9e6 + 16));
    assert_true(squares * refit_weight(want, huge, 3) <= 4);
    assert_true(refit_weight(want, zero, 3) == 1 / 25.0);
    assert_true(refit_weight(zero, zero, 3) == 0);
}

/* X within 1e-5 of the largest: moments are fp32 products in blocks (1e-6), and the condition
 * number of S_aa + lambda I is at most about 100. What is left is measured to the same. */
static void test_solution(void **state)
{
    float *rows = random_rows(1), *o[2], *zero = calloc(D * N, sizeof *zero);
    double *want = direct_solution(rows), most = 0;
    struct refit_out out[2];

    (void)state;
    for (int k = 0; k < 2; k++) {
        o[k] = calloc(D * N, sizeof *o[k]);
        out[k].before = loss(rows, zero);
        solve(rows, k == 0 ? 1 : 3, o[k], &out[k]);
    }
    assert_memory_equal(o[0], o[1], D * N * sizeof(float)); /* whatever the number of threads */
    assert_memory_equal(&out[0], &out[1], sizeof out[0]);
    for (int i = 0; i < D * N; i++)
        most = fmax(most, fabs(want[i]));
    for (int i = 0; i < D * N; i++)
        assert_true(fabs((double)o[0][i] - want[i]) <= 1e-5 * most);
    assert_true(out[0].after < 0.9 * out[0].before);
    assert_true(fabs(out[0].after - loss(rows, o[0])) <= 1e-5 * out[0].before);
    free(o[0]);
    free(o[1]);
    free(zero);
    free(want);
    free(rows);
}

/* What is there already is added to. Heads that give nothing leave it as it is. */
static void test_added(void **state)
{
    float *rows = random_rows(2), *o = calloc(D * N, sizeof *o), *x = calloc(D * N, sizeof *x);
    struct refit_out out = {.before = 1};

    (void)state;
    solve(rows, 1, x, &out);
    for (int i = 0; i < D * N; i++)
        o[i] = (float)i / 64;
    solve(rows, 1, o, &out);
    for (int i = 0; i < D * N; i++) /* one rounding of the sum */
        assert_true(fabs((double)o[i] - (double)i / 64 - (double)x[i]) <= 6e-8 * (double)(i + 64));
    for (int64_t i = 0; i < (int64_t)T * (N + D); i++)
        if (i % (N + D) < N) rows[i] = 0;
    memcpy(x, o, D * N * sizeof *x);
    solve(rows, 1, x, &out);
    assert_memory_equal(x, o, D * N * sizeof *x);
    free(o);
    free(x);
    free(rows);
}

/* ---- models ---- */

struct pair {
    struct run r;
    struct model base, m;
};

/* A model of random weights, and the same with `rope_dim` of 16 dims rotated. */
static void open_pair(struct pair *p, void **state, int64_t rope_dim)
{
    const char *const more[] = {"data.eval=[]", "svd.refit=true", NULL};
    struct mha2mla_config section = {
        .partial_rope_version = "high", .rope_dim_for_mla = rope_dim, .svd_init_method = "none"};
    int32_t pairs[2 * 2 * 8];
    struct err e = {0};

    *p = (struct pair){.r = {.lock = -1}};
    tiny_run(&p->r, state, more);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < (int)rope_dim / 2; k++)
            pairs[i * (int)rope_dim / 2 + k] = k;
    if (!file_mkdirs(p->r.c.run.dir, &e) || !make_baseline_model(&p->r, &p->base, &e) ||
        !make_baseline_model(&p->r, &p->m, &e) || !model_to_partial(&p->m, pairs, rope_dim, &e) ||
        !hf_config_set_mha2mla(&p->m.cfg, &section, &e) ||
        !run_open_data(&p->r, &p->base.cfg, &e) || !run_open_pictures(&p->r, &p->base, false, &e))
        fail_msg("%s", e.msg);
}

static void close_pair(struct pair *p)
{
    model_close(&p->m);
    model_close(&p->base);
    run_close(&p->r);
}

/* Mean square of what the logits of all samples differ by, of m's and the base's. */
static double differ(struct pair *p)
{
    struct batch_buffer b = {0};
    double sum = 0;
    float *want = NULL;
    struct err e;

    for (int64_t i = 0; i < p->r.train.n; i++)
        for (int k = 0; k < 2; k++) {
            struct model *m = k == 0 ? &p->base : &p->m;
            struct forward f = {.batch = &b.batch};
            struct sample s = {0};
            struct tensor *y;
            tape_begin(p->r.tape, false);
            assert_true(dataset_sample(&p->r.train, i, &s, &e) && batch_fill(&b, &s, 1, false, &e));
            assert_true(run_pictures(&p->r, m, &p->r.train, &b, &f.features, &e));
            y = model_logits(m, p->r.tape, &f, NULL, 0);
            assert_true(tape_plan(p->r.tape, 0, &e));
            tape_forward(p->r.tape);
            if (k == 0) want = realloc(want, (size_t)tensor_count(y) * sizeof *want);
            if (k == 0) memcpy(want, y->data, (size_t)tensor_count(y) * sizeof *want);
            for (int64_t j = 0; k == 1 && j < tensor_count(y); j++)
                sum +=
                    pow((double)tensor_real(y)[j] - (double)want[j], 2) / (double)tensor_count(y);
            sample_free(&s);
        }
    batch_free(&b);
    free(want);
    return sum / (double)p->r.train.n;
}

static void refit(struct pair *p)
{
    const struct refit_how how = {"test", 100, true};
    struct err e = {0};

    if (!refit_model(&p->r, &p->base, &p->m, &how, NULL, &e)) fail_msg("%s", e.msg);
    assert_true(p->m.cfg.mha2mla.refit);
}

/* A model that has lost nothing loses nothing: what is fitted is the rounding of two ways to the
 * same sums, 1e-7 of the stream, through a ridge of 1 %. */
static void test_exact(void **state)
{
    struct pair p;
    const float *was, *is;

    open_pair(&p, state, 16);
    refit(&p);
    for (int64_t l = 0; l < 2; l++) {
        double most = 0, moved = 0;
        was = p.base.layers[l].attn.o->t.data;
        is = p.m.layers[l].attn.o->t.data;
        for (int64_t i = 0; i < 32 * 32; i++) {
            const double change = fabs((double)was[i] - (double)is[i]);
            most += fabs((double)was[i]) / (32 * 32);
            moved += change / (32 * 32);
        }
        assert_true(moved <= 1e-5 * most); /* both are means */
    }
    close_pair(&p);
}

/* With one pair of eight rotated the logits come closer: random weights make attention nearly
 * uniform, so the difference is small, and what of it is linear in the heads' outputs is mended. */
static void test_closer(void **state)
{
    struct pair p;
    double before;

    open_pair(&p, state, 2);
    before = differ(&p);
    assert_true(before > 0);
    refit(&p);
    if (!(differ(&p) < 0.8 * before)) fail_msg("%g, was %g", differ(&p), before);
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weight),
        cmocka_unit_test(test_solution),
        cmocka_unit_test(test_added),
        cmocka_unit_test_setup_teardown(test_exact, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_closer, tmpdir_make, tmpdir_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
