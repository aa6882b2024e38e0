/* test_logit.c - rank.strategy "logit": what a set of pairs loses against its definition in plain
 * loops, elimination and swaps against all sets, how a budget is divided against all
 * ways, and the file. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "convert/budget.h"
#include "convert/logit.h"
#include "model/files/choicefile.h"
#include "tests/tmpdir.h"

enum { H = 4, G = 2, DH = 10, P = DH / 2, T = 21, SAMPLES = 2, M = 3 * P };
static const struct rank_dims dims = {1, H, G, DH};
static const double F = 1.1; /* of the table */

struct sample {
    float q[T * H * DH], k[T * G * DH], cs[2 * T * P];
    uint8_t modality[T];
    struct rank_sample x;
};

/* Small enough that no key is faint. */
static void make_sample(struct sample *s, uint64_t seed)
{
    struct rng r;

    rng_seed(&r, seed, 0);
    for (int i = 0; i < T * H * DH; i++)
        s->q[i] = (float)(0.5 * rng_normal(&r));
    for (int i = 0; i < T * G * DH; i++)
        s->k[i] = (float)(0.5 * rng_normal(&r));
    for (int t = 0; t < T; t++) {
        s->modality[t] = t % 3 == 0;
        for (int i = 0; i < P; i++) {
            s->cs[t * P + i] = (float)(F * cos(t * pow(0.3, i)));
            s->cs[(T + t) * P + i] = (float)(F * sin(t * pow(0.3, i)));
        }
    }
    s->x = (struct rank_sample){s->q, s->k, s->cs, s->cs + T * P, s->modality, T, F};
}

/* What is chosen, and what that costs. */
struct choice {
    int32_t chosen[G * P * P];
    double cost[G * (P + 1)];
};

static void choose(const struct sample *s, bool rotates, int threads, struct choice *c)
{
    const int before = omp_get_max_threads();
    struct logit m;
    struct err e = {0};

    memset(c, 0, sizeof *c);
    omp_set_num_threads(threads);
    assert_true(logit_init(&m, &dims, rotates, &e));
    for (int i = 0; i < SAMPLES; i++)
        assert_true(logit_see(&m, &s[i].x, 0, &e));
    if (!logit_choose(&m, c->chosen, c->cost, &e)) fail_msg("%s", e.msg);
    logit_free(&m);
    omp_set_num_threads(before);
}

/* ---- plain forms ---- */

/* [a; b; d] of a query and a key, by their definition. */
static void row_of(const struct sample *s, int h, int m, int n, double *row)
{
    const float *q = s->q + (m * H + h) * DH, *k = s->k + (n * G + h / (H / G)) * DH;

    for (int i = 0; i < P; i++) {
        const double re = (double)q[i] * (double)k[i] + (double)q[P + i] * (double)k[P + i];
        const double im = (double)q[i] * (double)k[P + i] - (double)q[P + i] * (double)k[i];
        const double angle = (n - m) * pow(0.3, i), by = F * F / sqrt(DH);
        row[i] = by * re;
        row[P + i] = by * im;
        row[2 * P + i] = by * (re * cos(angle) - im * sin(angle)) - row[i];
    }
}

/* Adds the covariance under one query's attention, divided by `queries`, to f. */
static void add_query(const struct sample *s, int h, int m, double queries, double f[M][M])
{
    double row[T][M], p[T], sum = 0, mean[M] = {0};

    for (int n = 0; n <= m; n++) {
        double score = 0;
        row_of(s, h, m, n, row[n]);
        for (int i = 0; i < P; i++)
            score += row[n][i] + row[n][2 * P + i];
        sum += p[n] = exp(score);
    }
    for (int n = 0; n <= m; n++)
        for (int i = 0; i < M; i++)
            mean[i] += p[n] / sum * row[n][i];
    for (int n = 0; n <= m; n++)
        for (int i = 0; i < M; i++)
            for (int j = 0; j < M; j++)
                f[i][j] += p[n] / sum / queries * (row[n][i] - mean[i]) * (row[n][j] - mean[j]);
}

static void covariance(const struct sample *s, int h, double f[M][M])
{
    memset(f, 0, sizeof(double) * M * M);
    for (int i = 0; i < SAMPLES; i++)
        for (int m = 0; m < T; m++)
            add_query(&s[i], h, m, SAMPLES * (s[i].modality[m] ? 7 : 14), f);
}

/* x with (a + ridge) x = b, by Gaussian elimination; returns b^T x. a: destroyed. */
static double explained(double a[2 * P][2 * P], const double *b, int n)
{
    double x[2 * P], sum = 0;

    memcpy(x, b, (size_t)n * sizeof *x);
    for (int k = 0; k < n; k++)
        for (int i = k + 1; i < n; i++) {
            const double by = a[i][k] / a[k][k];
            for (int j = k; j < n; j++)
                a[i][j] -= by * a[k][j];
            x[i] -= by * x[k];
        }
    for (int k = n - 1; k >= 0; k--) {
        for (int j = k + 1; j < n; j++)
            x[k] -= a[k][j] * x[j];
        x[k] /= a[k][k];
        sum += b[k] * x[k];
    }
    return sum;
}

/* What head h loses where the pairs of the mask do not rotate. */
static double loses(double f[M][M], unsigned out, bool rotates)
{
    double a[2 * P][2 * P], b[2 * P], sum = 0, ridge = 0;
    int x[2 * P], n = 0;

    for (int i = 0; i < 2 * P; i++)
        ridge += 1e-3 * f[i][i] / (2 * P);
    for (int i = 0; i < P; i++)
        for (int j = 0; j < P; j++)
            if (out >> i & out >> j & 1) sum += f[2 * P + i][2 * P + j];
    for (int i = 0; i < 2 * P; i++)
        if (out >> i % P & 1) x[n++] = i;
    for (int i = 0; i < n; i++) {
        b[i] = 0;
        for (int j = 0; j < P; j++)
            if (out >> j & 1) b[i] += f[x[i]][2 * P + j];
        for (int j = 0; j < n; j++)
            a[i][j] = f[x[i]][x[j]] + (i == j ? ridge : 0);
    }
    return rotates ? sum - explained(a, b, n) : sum;
}

static double head_loses(double f[H][M][M], int g, unsigned out, bool rotates)
{
    return loses(f[2 * g], out, rotates) + loses(f[2 * g + 1], out, rotates);
}

/* ---- tests ---- */

/* Each set costs what the definition says, which is at most a thousandth more than the least of all
 * elimination orders' swaps: here, where swaps find them, of all sets of that size. fp32 in queries
 * and keys leaves 1e-5. */
static void check_choice(bool rotates)
{
    struct sample *s = malloc(SAMPLES * sizeof *s);
    double(*f)[M][M] = malloc(H * sizeof *f);
    struct choice c, again;

    for (int i = 0; i < SAMPLES; i++)
        make_sample(&s[i], 40 + (uint64_t)i);
    for (int h = 0; h < H; h++)
        covariance(s, h, f[h]);
    choose(s, rotates, 1, &c);
    choose(s, rotates, 3, &again);
    assert_memory_equal(&c, &again, sizeof c);
    for (int g = 0; g < G; g++) {
        const double all = head_loses(f, g, (1u << P) - 1, rotates);
        assert_true(fabs(c.cost[g * (P + 1)] - all) < 1e-5 * all);
        assert_true(c.cost[g * (P + 1) + P] == 0);
        for (int kept = 1; kept < P; kept++) {
            const double cost = c.cost[g * (P + 1) + kept];
            unsigned out = 0;
            double least = INFINITY;
            for (int i = 0; i < P; i++)
                out |= (unsigned)!c.chosen[(g * P + kept - 1) * P + i] << i;
            assert_int_equal(__builtin_popcount(out), P - kept);
            assert_true(fabs(cost - head_loses(f, g, out, rotates)) < 1e-5 * all);
            for (unsigned o = 0; o < 1u << P; o++)
                if (__builtin_popcount(o) == P - kept)
                    least = fmin(least, head_loses(f, g, o, rotates));
            assert_true(cost < 1.001 * least + 1e-5 * all);
        }
    }
    free(f);
    free(s);
}

static void test_choice(void **state)
{
    (void)state;
    check_choice(false);
}

static void test_choice_rotated(void **state)
{
    (void)state;
    check_choice(true);
}

/* Values that are not finite are an error, and so is no sample; keys that are all
 * alike lose nothing. */
static void test_faults(void **state)
{
    struct sample *s = malloc(sizeof *s);
    struct choice c = {.cost = {0}};
    struct logit m;
    struct err e = {0};

    (void)state;
    make_sample(s, 3);
    assert_true(logit_init(&m, &dims, true, &e));
    assert_false(logit_choose(&m, c.chosen, c.cost, &e));
    assert_non_null(strstr(e.msg, "no calibration sample"));
    s->q[5] = NAN;
    assert_true(logit_see(&m, &s->x, 0, &e));
    assert_false(logit_choose(&m, c.chosen, c.cost, &e));
    assert_non_null(strstr(e.msg, "not finite"));
    logit_free(&m);
    memset(s->q, 0, sizeof s->q);
    assert_true(logit_init(&m, &dims, true, &e) && logit_see(&m, &s->x, 0, &e));
    assert_true(logit_choose(&m, c.chosen, c.cost, &e));
    for (int j = 0; j < G * (P + 1); j++)
        assert_true(c.cost[j] == 0);
    logit_free(&m);
    free(s);
}

/* ---- the budget ---- */

enum { L = 3, B = 3, W = 2 }; /* layers; kv heads of B pairs */

static double price(const double *cost, int64_t *kept, int64_t pairs, bool layers)
{
    double sum = 0;
    int64_t all = 0;

    for (int l = 0; l < L; l++) {
        int64_t own = 0;
        for (int g = 0; g < W; g++) {
            own += kept[l * W + g];
            sum += cost[(l * W + g) * (B + 1) + kept[l * W + g]];
        }
        if (layers ? own < 1 : own != pairs) return INFINITY;
        all += own;
    }
    return all == L * pairs ? sum : INFINITY;
}

/* The least of all ways. */
static void test_budget(void **state)
{
    const struct rank_dims n = {L, W, W, 2 * B};
    double cost[L * W * (B + 1)];
    struct err e = {0};
    struct rng r;

    (void)state;
    rng_seed(&r, 8, 0);
    for (int k = 0; k < 8; k++)
        for (int64_t pairs = 1; pairs <= W * B; pairs++) {
            const bool layers = k % 2;
            int64_t kept[L * W], way[L * W];
            double least = INFINITY;
            for (int j = 0; j < L * W * (B + 1); j++)
                cost[j] = exp(rng_normal(&r)) * (B - j % (B + 1));
            assert_true(budget_pairs(&n, cost, pairs, layers, kept, &e));
            for (int code = 0; code < 1 << 12; code++) { /* 2 bits for each head */
                for (int j = 0; j < L * W; j++)
                    way[j] = code >> 2 * j & 3;
                least = fmin(least, price(cost, way, pairs, layers));
            }
            assert_true(fabs(price(cost, kept, pairs, layers) - least) <= 1e-12 * least);
        }
}

/* ---- the file ---- */

static void test_file(void **state)
{
    const struct rank_dims n = {2, H, G, DH}, other = {2, H, 1, DH};
    const char *path = tmpdir_path(state, "rank.h5");
    struct choicefile c = {0}, got = {0};
    struct err e = {0};

    assert_true(choicefile_new(&c, &n, &e) && choicefile_new(&got, &n, &e));
    for (int row = 0; row < 2 * G * P; row++)
        for (int i = 0; i <= row % P; i++)
            c.chosen[row * P + (row + i) % P] = 1;
    for (int j = 0; j < 2 * G * (P + 1); j++)
        c.cost[j] = 0.5 * j;
    assert_true(choicefile_write(path, &n, &c, &e) && choicefile_read(path, &n, &got, &e));
    assert_memory_equal(got.chosen, c.chosen, 2 * G * P * P * sizeof *c.chosen);
    assert_memory_equal(got.cost, c.cost, 2 * G * (P + 1) * sizeof *c.cost);
    assert_false(choicefile_read(path, &other, &got, &e));
    assert_non_null(strstr(e.msg, "chosen: is of another model"));
    c.chosen[0] = !c.chosen[0];
    assert_true(choicefile_write(path, &n, &c, &e));
    assert_false(choicefile_read(path, &n, &got, &e));
    assert_non_null(strstr(e.msg, "a row for 1 pairs with"));
    choicefile_free(&c);
    choicefile_free(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_choice_rotated),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_budget),
        cmocka_unit_test_setup_teardown(test_file, tmpdir_make, tmpdir_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
