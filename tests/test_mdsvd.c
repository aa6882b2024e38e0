/* test_mdsvd.c - MD-SVD against the reference recipe (by golden values, and by another route in
 * double), against plain SVD, and by what it promises: the least output error, even if S is
 * singular. Also the second moments that it starts from, and the compression variants. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "convert/mdsvd.h"
#include "convert/mdsvd_plan.h"
#include "convert/moments.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* W[n,d] and the moments of T random inputs whose channels differ in magnitude. */
struct problem {
    float *w, *x; /* x[T,d] */
    double *s;    /* full */
    int64_t n, d, T;
};

static void *fresh(int64_t n, size_t size)
{
    void *p = calloc((size_t)n, size);

    assert_non_null(p);
    return p;
}

static void problem_make(struct problem *p, int64_t n, int64_t d, int64_t T, uint64_t seed)
{
    struct rng r;

    rng_seed(&r, seed, 0);
    *p = (struct problem){.n = n, .d = d, .T = T};
    p->w = fresh(n * d, sizeof(float));
    p->x = fresh(T * d, sizeof(float));
    p->s = fresh(d * d, sizeof(double));
    for (int64_t j = 0; j < n * d; j++)
        p->w[j] = (float)rng_normal(&r);
    for (int64_t j = 0; j < T * d; j++)
        p->x[j] = (float)(rng_normal(&r) * (0.5 + 2.0 * (double)(j % d) / (double)d));
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = 0; j < d; j++)
                p->s[i * d + j] += (double)p->x[t * d + i] * p->x[t * d + j];
}

static void problem_free(struct problem *p)
{
    free(p->w);
    free(p->x);
    free(p->s);
}

static struct mdsvd_in input(const struct problem *p, int64_t r, enum mdsvd_method method)
{
    return (struct mdsvd_in){.w = p->w,
                             .n = p->n,
                             .d = p->d,
                             .s = p->s,
                             .scale = 1.0 / (double)p->T,
                             .r = r,
                             .method = method};
}

/* sum_t |W x_t - up down x_t|^2 / T, token by token. */
static double output_error(const struct problem *p, const float *up, const float *down, int64_t r)
{
    double *c = fresh(r, sizeof *c), sum = 0;

    for (int64_t t = 0; t < p->T; t++) {
        const float *x = p->x + t * p->d;
        for (int64_t i = 0; i < r; i++) {
            c[i] = 0;
            for (int64_t j = 0; j < p->d; j++)
                c[i] += (double)down[i * p->d + j] * x[j];
        }
        for (int64_t i = 0; i < p->n; i++) {
            double y = 0;
            for (int64_t j = 0; j < p->d; j++)
                y += (double)p->w[i * p->d + j] * x[j];
            for (int64_t j = 0; j < r; j++)
                y -= up[i * r + j] * c[j];
            sum += y * y;
        }
    }
    free(c);
    return sum / (double)p->T;
}

/* c[m,n] = a[m,k] b[k,n] */
static double *product(const double *a, const double *b, int64_t m, int64_t k, int64_t n)
{
    double *c = fresh(m * n, sizeof *c);

    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++)
            for (int64_t j = 0; j < n; j++)
                c[i * n + j] += a[i * k + l] * b[l * n + j];
    return c;
}

/* u[m,q] sigma[q] vt[q,n] of a[m,n] (destroyed), q = min(m,n). */
static void svd(double *a, int64_t m, int64_t n, double *u, double *sigma, double *vt)
{
    const lapack_int q = (lapack_int)(m < n ? m : n);

    assert_int_equal(LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', (lapack_int)m, (lapack_int)n, a,
                                    (lapack_int)n, sigma, u, q, vt, (lapack_int)n),
                     0);
}

/* The reference: S = U L U^T; D = W U L^1/2 = P Sigma Q^T; up = P Sigma^1/2,
 * down = Sigma^1/2 Q^T L^-1/2 U^T. All r = min(n,d) components; sigma[min(n,d)]. */
static void reference(const struct problem *p, double *up, double *down, double *sigma)
{
    const int64_t n = p->n, d = p->d, q = n < d ? n : d;
    double *s = fresh(d * d, sizeof *s), *u = fresh(d * d, sizeof *u), *l = fresh(d, sizeof *l);
    double *vt = fresh(d * d, sizeof *vt), *w = fresh(n * d, sizeof *w);
    double *qt = fresh(q * d, sizeof *qt);

    for (int64_t j = 0; j < d * d; j++)
        s[j] = p->s[j] / (double)p->T;
    for (int64_t j = 0; j < n * d; j++)
        w[j] = p->w[j];
    svd(s, d, d, u, l, vt);
    double *dm = product(w, u, n, d, d);
    for (int64_t j = 0; j < n * d; j++)
        dm[j] *= sqrt(l[j % d]);
    svd(dm, n, d, up, sigma, qt);
    for (int64_t i = 0; i < q; i++)
        for (int64_t j = 0; j < d; j++)
            qt[i * d + j] *= sqrt(sigma[i]) / sqrt(l[j]);
    for (int64_t j = 0; j < n * q; j++)
        up[j] *= sqrt(sigma[j % q]);
    for (int64_t i = 0; i < q; i++)
        for (int64_t j = 0; j < d; j++) {
            down[i * d + j] = 0;
            for (int64_t k = 0; k < d; k++)
                down[i * d + j] += qt[i * d + k] * u[j * d + k];
        }
    free(s);
    free(u);
    free(l);
    free(vt);
    free(w);
    free(qt);
    free(dm);
}

/* Component c of both factors, up to a sign: |a - sign b| is small relative to the largest of b. */
static void same_component(const float *a, int64_t as, const double *b, int64_t bs, int64_t n,
                           double sign, double tol)
{
    double top = 0;

    for (int64_t j = 0; j < n; j++)
        top = fmax(top, fabs(b[j * bs]));
    for (int64_t j = 0; j < n; j++)
        assert_true(fabs(a[j * as] - sign * b[j * bs]) < tol * top);
}

/* A smaller latent is the first components of a larger one, whichever solver made it (a small part
 * of the spectrum uses another one). 2e-5: values are up to 10 and rounded to fp32. */
static void test_first_components(void **state)
{
    static const int64_t shapes[][3] = {{12, 40, 12}, {40, 24, 24}, {30, 8, 8}};
    struct err e;

    (void)state;
    for (int c = 0; c < 3; c++) {
        const int64_t n = shapes[c][0], d = shapes[c][1], r = shapes[c][2];
        struct problem p;
        struct mdsvd_out wide, narrow;

        problem_make(&p, n, d, 4 * d, (uint64_t)c);
        const struct mdsvd_in in = input(&p, r, MDSVD_ACTIVATION);
        assert_true(mdsvd_factor(&wide, &in, 1, 1, &e));
        for (int64_t few = 1; few < r; few++) {
            const struct mdsvd_in less = input(&p, few, MDSVD_ACTIVATION);
            double kept = 0;
            assert_true(mdsvd_factor(&narrow, &less, 1, 1, &e));
            for (int64_t i = 0; i < few; i++) {
                kept += wide.component[i];
                for (int64_t j = 0; j < n; j++)
                    assert_true(fabs(wide.up[j * r + i] - narrow.up[j * few + i]) < 2e-5);
                for (int64_t j = 0; j < d; j++)
                    assert_true(fabs(wide.down[i * d + j] - narrow.down[i * d + j]) < 2e-5);
            }
            assert_true(fabs(kept - narrow.kept) < 1e-10 * wide.energy);
            mdsvd_free(&narrow);
        }
        mdsvd_free(&wide);
        problem_free(&p);
    }
}

static void test_equals_the_reference(void **state)
{
    static const int64_t shapes[][3] = {{12, 40, 5}, {12, 40, 2},  {40, 24, 9},
                                        {40, 24, 3}, {24, 24, 24}, {30, 8, 8}};
    struct err e;

    (void)state;
    for (int c = 0; c < 6; c++) {
        const int64_t n = shapes[c][0], d = shapes[c][1], r = shapes[c][2], q = n < d ? n : d;
        struct problem p;
        struct mdsvd_out out;

        problem_make(&p, n, d, 4 * d, (uint64_t)c);
        double *up = fresh(n * q, sizeof *up), *down = fresh(q * d, sizeof *down);
        double *sigma = fresh(q, sizeof *sigma), kept = 0, all = 0;
        const struct mdsvd_in in = input(&p, r, MDSVD_ACTIVATION);
        reference(&p, up, down, sigma);
        assert_true(mdsvd_factor(&out, &in, 1, 1, &e));
        assert_int_equal(out.live, r);
        for (int64_t i = 0; i < q; i++) {
            all += sigma[i] * sigma[i];
            if (i < r) kept += sigma[i] * sigma[i];
        }
        assert_true(fabs(out.energy - all) < 1e-10 * all);
        assert_true(fabs(out.kept - kept) < 1e-10 * all);
        assert_true(fabs(out.error - (all - kept)) < 1e-10 * all);
        for (int64_t i = 0; i < r; i++) {
            const double sign = out.up[i] * up[i] > 0 ? 1 : -1;
            same_component(out.up + i, r, up + i, q, n, sign, 2e-6);
            same_component(out.down + i * d, 1, down + i * d, 1, d, sign, 2e-6);
        }
        mdsvd_free(&out);
        free(up);
        free(down);
        free(sigma);
        problem_free(&p);
    }
}

static void read_doubles(FILE *fp, double *v, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        assert_int_equal(fscanf(fp, "%lf", &v[j]), 1);
}

static void test_golden(void **state)
{
    FILE *fp = fopen("tests/data/convert/mdsvd.txt", "r");
    int cases;
    struct err e;

    (void)state;
    assert_non_null(fp);
    assert_int_equal(fscanf(fp, "%d", &cases), 1);
    assert_true(cases >= 2);
    while (cases-- > 0) {
        double head[5], wide[128], s[128], up[128], down[128];
        float w[128];
        struct mdsvd_out out;

        read_doubles(fp, head, 5);
        const int64_t n = (int64_t)head[0], d = (int64_t)head[1], r = (int64_t)head[2];
        assert_true(n * d <= 128 && d * d <= 128);
        read_doubles(fp, wide, n * d);
        read_doubles(fp, s, d * d);
        read_doubles(fp, up, n * r);
        read_doubles(fp, down, r * d);
        for (int64_t j = 0; j < n * d; j++)
            w[j] = (float)wide[j];
        const struct mdsvd_in in = {.w = w,
                                    .n = n,
                                    .d = d,
                                    .s = s,
                                    .scale = 1 / (head[3] * head[4]),
                                    .r = r,
                                    .method = MDSVD_ACTIVATION};
        assert_true(mdsvd_factor(&out, &in, 1, 1, &e));
        for (int64_t i = 0; i < r; i++) { /* the signs are part of the contract: +1 */
            same_component(out.up + i, r, up + i, r, n, 1, 2e-6);
            same_component(out.down + i * d, 1, down + i * d, 1, d, 1, 2e-6);
        }
        mdsvd_free(&out);
    }
    fclose(fp);
}

/* Fewer tokens than inputs: S is singular. The error must still be the minimum, the tail of the
 * outputs' own spectrum (by an SVD of the outputs themselves), and nothing may blow up. */
static void test_singular_moments(void **state)
{
    static const int64_t shapes[][4] = {{12, 40, 9, 4},  {12, 40, 9, 9},   {12, 40, 9, 12},
                                        {40, 24, 10, 6}, {40, 24, 10, 15}, {40, 24, 1, 3}};
    struct err e;

    (void)state;
    for (int c = 0; c < 6; c++) {
        const int64_t n = shapes[c][0], d = shapes[c][1], T = shapes[c][2], r = shapes[c][3];
        const int64_t q = n < T ? n : T;
        struct problem p;
        struct mdsvd_out out;
        double tail = 0, all = 0, sigma[64];

        problem_make(&p, n, d, T, (uint64_t)(20 + c));
        double *y = fresh(n * T, sizeof *y), *u = fresh(n * q, sizeof *u);
        double *vt = fresh(q * T, sizeof *vt);
        for (int64_t i = 0; i < n; i++)
            for (int64_t t = 0; t < T; t++)
                for (int64_t j = 0; j < d; j++)
                    y[i * T + t] += (double)p.w[i * d + j] * p.x[t * d + j];
        svd(y, n, T, u, sigma, vt);
        for (int64_t i = 0; i < q; i++) {
            all += sigma[i] * sigma[i] / (double)T;
            if (i >= r) tail += sigma[i] * sigma[i] / (double)T;
        }
        const struct mdsvd_in in = input(&p, r, MDSVD_ACTIVATION);
        assert_true(mdsvd_factor(&out, &in, 1, 1, &e));
        assert_int_equal(out.live, r < q ? r : q);
        for (int64_t j = 0; j < n * r; j++)
            assert_true(isfinite(out.up[j]) && (j % r < out.live || out.up[j] == 0));
        for (int64_t j = 0; j < r * d; j++)
            assert_true(isfinite(out.down[j]) && (j / d < out.live || out.down[j] == 0));
        assert_true(fabs(out.error - tail) < 1e-10 * all);
        assert_true(fabs(output_error(&p, out.up, out.down, r) - tail) < 1e-6 * all);
        mdsvd_free(&out);
        free(y);
        free(u);
        free(vt);
        problem_free(&p);
    }
}

/* r = min(n,d): up down x = W x on the span of the inputs, here the whole space. */
static void test_full_rank_is_exact(void **state)
{
    static const int64_t shapes[][2] = {{10, 30}, {30, 10}};
    struct err e;

    (void)state;
    for (int c = 0; c < 4; c++) {
        const int64_t n = shapes[c / 2][0], d = shapes[c / 2][1], r = 10;
        struct problem p;
        struct mdsvd_out out;

        problem_make(&p, n, d, 100, (uint64_t)(30 + c));
        const struct mdsvd_in in = input(&p, r, c % 2 ? MDSVD_WEIGHT : MDSVD_ACTIVATION);
        assert_true(mdsvd_factor(&out, &in, 1, 1, &e));
        assert_true(out.error < 1e-12 * out.energy);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < d; j++) {
                double v = 0;
                for (int64_t k = 0; k < r; k++)
                    v += (double)out.up[i * r + k] * out.down[k * d + j];
                assert_true(fabs(v - p.w[i * d + j]) < 1e-5);
            }
        mdsvd_free(&out);
        problem_free(&p);
    }
}

/* No small step in a random direction lowers the error; and the plain SVD, optimal in |W|, loses
 * more on these inputs. */
static void test_nothing_nearby_is_better(void **state)
{
    static const int64_t shapes[][3] = {{10, 30, 3}, {30, 10, 4}};
    struct err e;
    struct rng rng;

    (void)state;
    rng_seed(&rng, 40, 0);
    for (int c = 0; c < 2; c++) {
        const int64_t n = shapes[c][0], d = shapes[c][1], r = shapes[c][2];
        struct problem p;
        struct mdsvd_out out, plain;
        double least, other;

        problem_make(&p, n, d, 80, (uint64_t)(40 + c));
        const struct mdsvd_in in = input(&p, r, MDSVD_ACTIVATION);
        const struct mdsvd_in in2 = input(&p, r, MDSVD_WEIGHT);
        assert_true(mdsvd_factor(&out, &in, 1, 1, &e));
        assert_true(mdsvd_factor(&plain, &in2, 1, 1, &e));
        assert_true(mdsvd_error(&least, &in, out.up, out.down, &e));
        assert_true(fabs(least - output_error(&p, out.up, out.down, r)) < 1e-9 * out.energy);
        assert_true(fabs(least - out.error) < 1e-6 * out.energy);
        assert_true(mdsvd_error(&other, &in, plain.up, plain.down, &e));
        assert_true(other > 1.01 * least);
        float *up = fresh(n * r, sizeof *up), *down = fresh(r * d, sizeof *down);
        for (int k = 0; k < 60; k++) {
            const double step = k % 2 ? 1e-2 : 1e-3;
            for (int64_t j = 0; j < n * r; j++)
                up[j] = out.up[j] + (float)(step * rng_normal(&rng));
            for (int64_t j = 0; j < r * d; j++)
                down[j] = out.down[j] + (float)(step * rng_normal(&rng));
            assert_true(mdsvd_error(&other, &in, up, down, &e));
            assert_true(other > least);
        }
        free(up);
        free(down);
        mdsvd_free(&out);
        mdsvd_free(&plain);
        problem_free(&p);
    }
}

static void test_weight_mode_is_the_svd(void **state)
{
    static const int64_t shapes[][3] = {{10, 30, 2}, {10, 30, 8}, {30, 10, 2}, {30, 10, 8}};
    struct err e;

    (void)state;
    for (int c = 0; c < 4; c++) {
        const int64_t n = shapes[c][0], d = shapes[c][1], r = shapes[c][2];
        struct problem p;
        struct mdsvd_out out;
        double a[300], u[300], vt[300], sigma[10], error, tail = 0;

        problem_make(&p, n, d, 1, (uint64_t)(50 + c));
        struct mdsvd_in in = input(&p, r, MDSVD_WEIGHT);
        in.s = NULL; /* weight mode needs no calibration */
        for (int64_t j = 0; j < n * d; j++)
            a[j] = p.w[j];
        svd(a, n, d, u, sigma, vt);
        assert_true(mdsvd_factor(&out, &in, 1, 1, &e));
        for (int64_t i = 0; i < 10; i++)
            if (i >= r) tail += sigma[i] * sigma[i];
        assert_true(mdsvd_error(&error, &in, out.up, out.down, &e));
        assert_true(fabs(error - tail) < 1e-5 * tail && fabs(out.error - tail) < 1e-10 * tail);
        for (int64_t j = 0; j < n * 10; j++)
            u[j] *= sigma[j % 10];
        for (int64_t i = 0; i < r; i++) {
            const double sign = out.up[i] * u[i] > 0 ? 1 : -1;
            same_component(out.up + i, r, u + i, 10, n, sign, 2e-6);
            same_component(out.down + i * d, 1, vt + i * d, 1, d, sign, 2e-6);
        }
        mdsvd_free(&out);
        problem_free(&p);
    }
}

/* The scale moves weight between the factors and preserves the product; signs are fixed; W S W^T
 * instead of S gives the same, also as a block of a larger one. */
static void test_scale_signs_and_small_side(void **state)
{
    enum { N = 8, D = 20, R = 3, LD = 11 };
    struct problem p;
    struct mdsvd_out a, b, c;
    struct err e;
    double m[LD * LD] = {0};

    (void)state;
    problem_make(&p, N, D, 60, 60);
    struct mdsvd_in in = input(&p, R, MDSVD_ACTIVATION);
    assert_true(mdsvd_factor(&a, &in, 1, 1, &e));
    in.scale /= 16; /* sigma / 4, sqrt(sigma) / 2 */
    assert_true(mdsvd_factor(&b, &in, 1, 1, &e));
    for (int64_t j = 0; j < N * R; j++)
        assert_true(fabs(a.up[j] - 2 * b.up[j]) < 1e-6);
    for (int64_t j = 0; j < R * D; j++)
        assert_true(fabs(2 * a.down[j] - b.down[j]) < 1e-6);
    for (int64_t i = 0; i < R; i++) {
        double top = 0;
        for (int64_t j = 0; j < N; j++)
            if (fabs(a.up[j * R + i]) > fabs(top)) top = a.up[j * R + i];
        assert_true(top > 0);
    }
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j <= i; j++)
            for (int64_t k = 0; k < D; k++)
                for (int64_t l = 0; l < D; l++)
                    m[(i + 2) * LD + j + 2] +=
                        (double)p.w[i * D + k] * p.s[k * D + l] * p.w[j * D + l];
    in.s = NULL;
    in.m = m + 2 * LD + 2;
    in.ldm = LD;
    assert_true(mdsvd_factor(&c, &in, 1, 1, &e));
    for (int64_t j = 0; j < N * R; j++)
        assert_true(fabs(c.up[j] - b.up[j]) < 1e-6);
    for (int64_t j = 0; j < R * D; j++)
        assert_true(fabs(c.down[j] - b.down[j]) < 1e-6);
    mdsvd_free(&a);
    mdsvd_free(&b);
    mdsvd_free(&c);
    problem_free(&p);
}

static void test_no_energy_and_not_finite(void **state)
{
    static const int64_t shapes[][2] = {{6, 10}, {10, 6}};
    struct err e;

    (void)state;
    for (int c = 0; c < 2; c++) {
        struct problem p;
        struct mdsvd_out out;

        problem_make(&p, shapes[c][0], shapes[c][1], 20, (uint64_t)(70 + c));
        struct mdsvd_in in = input(&p, 3, MDSVD_ACTIVATION);
        in.scale = 0;
        assert_true(mdsvd_factor(&out, &in, 1, 1, &e));
        assert_int_equal(out.live, 0);
        mdsvd_free(&out);
        in.scale = 1;
        memset(p.s, 0, (size_t)(p.d * p.d) * sizeof *p.s); /* a modality that never occurred */
        assert_true(mdsvd_factor(&out, &in, 1, 1, &e));
        assert_int_equal(out.live, 0);
        assert_true(out.energy == 0 && out.kept == 0 && out.error == 0);
        for (int64_t j = 0; j < 3 * p.n; j++)
            assert_true(out.up[j] == 0);
        mdsvd_free(&out);
        p.s[p.d + 0] = NAN;
        assert_false(mdsvd_factor(&out, &in, 1, 1, &e));
        assert_non_null(strstr(e.msg, "row 1, column 0"));
        p.s[p.d + 0] = 0;
        p.w[p.d * 2 + 3] = INFINITY;
        assert_false(mdsvd_factor(&out, &in, 1, 1, &e));
        assert_non_null(strstr(e.msg, "row 2, column 3"));
        assert_null(out.up);
        problem_free(&p);
    }
}

/* Six problems on one thread and on three: the same bits, the BLAS thread count restored, and the
 * first failure reported without leaving anything behind. */
static void test_threads_do_not_matter(void **state)
{
    static const int64_t shapes[][3] = {{150, 90, 9},  {90, 150, 9},  {70, 70, 40},
                                        {150, 90, 60}, {90, 150, 60}, {200, 33, 5}};
    const int threads = omp_get_max_threads(), blas = openblas_get_num_threads();
    struct problem p[6];
    struct mdsvd_in in[6];
    struct mdsvd_out a[6], b[6];
    struct err e;

    (void)state;
    for (int c = 0; c < 6; c++) {
        problem_make(&p[c], shapes[c][0], shapes[c][1], 100, (uint64_t)(100 + c));
        in[c] = input(&p[c], shapes[c][2], c == 5 ? MDSVD_WEIGHT : MDSVD_ACTIVATION);
    }
    omp_set_num_threads(3);
    openblas_set_num_threads(1);
    assert_true(mdsvd_factor(a, in, 6, 1, &e));
    openblas_set_num_threads(2);
    assert_true(mdsvd_factor(b, in, 6, 3, &e));
    assert_int_equal(openblas_get_num_threads(), 2);
    for (int c = 0; c < 6; c++) {
        assert_memory_equal(a[c].up, b[c].up, (size_t)(in[c].n * in[c].r) * sizeof(float));
        assert_memory_equal(a[c].down, b[c].down, (size_t)(in[c].d * in[c].r) * sizeof(float));
        mdsvd_free(&a[c]);
        mdsvd_free(&b[c]);
    }
    p[4].w[7] = p[2].w[5] = NAN;
    assert_false(mdsvd_factor(a, in, 6, 3, &e));
    assert_non_null(strstr(e.msg, "row 0, column 5"));
    for (int c = 0; c < 6; c++) {
        assert_null(a[c].up);
        problem_free(&p[c]);
    }
    omp_set_num_threads(threads);
    openblas_set_num_threads(blas);
}

/* ---- moments ---- */

static void test_moments_by_threads(void **state)
{
    enum { D = 300, T = 300 };
    const uint8_t modality[T] = {0};
    const int threads = omp_get_max_threads();
    struct problem p;
    struct moments m[2];
    struct err e;

    (void)state;
    problem_make(&p, 1, D, T, 110);
    for (int j = 0; j < 2; j++) {
        omp_set_num_threads(j == 0 ? 1 : 3);
        assert_true(moments_init(&m[j], D, &e));
        moments_add(&m[j], p.x, modality, T, 1);
        assert_true(moments_finish(&m[j], &e));
    }
    assert_memory_equal(m[0].s[0], m[1].s[0], D * D * sizeof(double));
    omp_set_num_threads(threads);
    moments_free(&m[0]);
    moments_free(&m[1]);
    problem_free(&p);
}

/* 700 tokens cross blocks of 256 and d = 300 crosses panels; compared with sums in double. */
static void test_moments(void **state)
{
    enum { D = 300, T = 700 };
    float *x = fresh((int64_t)T * D, sizeof *x);
    uint8_t modality[T];
    double *want = fresh(2 * D * D, sizeof *want), *size = fresh(2 * D * D, sizeof *size);
    int64_t count[2] = {0, 0};
    struct moments m;
    struct rng r;
    struct err e;

    (void)state;
    rng_seed(&r, 80, 0);
    for (int64_t t = 0; t < T; t++) {
        modality[t] = t % 5 != 0;
        count[modality[t]]++;
        for (int64_t j = 0; j < D; j++)
            x[t * D + j] = (float)(rng_normal(&r) * (j == 7 ? 1000 : 1)); /* an outlier channel */
        for (int64_t i = 0; i < D; i++)
            for (int64_t j = 0; j <= i; j++) {
                const double v = (double)x[t * D + i] * x[t * D + j];
                want[(modality[t] * D + i) * D + j] += v;
                size[(modality[t] * D + i) * D + j] += fabs(v);
            }
    }
    assert_true(moments_init(&m, D, &e));
    moments_add(&m, x, modality, 333, 1);
    assert_true(moments_finish(&m, &e)); /* may be read, and added to again */
    moments_add(&m, x + 333 * D, modality + 333, T - 333, 2);
    assert_true(moments_finish(&m, &e));
    assert_int_equal(m.samples, 3);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(m.tokens[k], count[k]);
        assert_true(moments_scale(&m, k) == 1.0 / (double)(count[k] * 3));
        for (int64_t i = 0; i < D; i++)
            for (int64_t j = 0; j < D; j++) {
                const int64_t at = i * D + j;
                if (j > i)
                    assert_true(m.s[k][at] == 0);
                else
                    assert_true(fabs(m.s[k][at] - want[k * D * D + at]) <=
                                1e-6 * size[k * D * D + at]);
            }
    }
    moments_merge(&m);
    assert_int_equal(m.tokens[MOMENTS_TEXT], T);
    assert_true(fabs(m.s[MOMENTS_TEXT][D] - want[D] - want[D * D + D]) <= 1e-6 * size[D] * 4);
    x[5] = NAN;
    moments_add(&m, x, modality, 1, 1);
    assert_false(moments_finish(&m, &e));
    assert_non_null(strstr(e.msg, "input 5 of 300"));
    moments_free(&m);
    free(x);
    free(want);
    free(size);
}

/* The whole path: moments of x by modality to factors, as the conversion does it, using only
 * the lower triangle. */
static void test_moments_to_factors(void **state)
{
    static const int64_t shapes[][2] = {{12, 20}, {20, 12}};
    struct err e;

    (void)state;
    for (int c = 0; c < 2; c++) {
        struct problem p;
        struct moments m;
        struct mdsvd_out a, b;
        const uint8_t modality[60] = {0};

        problem_make(&p, shapes[c][0], shapes[c][1], 60, (uint64_t)(90 + c));
        assert_true(moments_init(&m, p.d, &e));
        moments_add(&m, p.x, modality, 60, 1);
        assert_true(moments_finish(&m, &e));
        struct mdsvd_in in = input(&p, 5, MDSVD_ACTIVATION);
        assert_true(mdsvd_factor(&a, &in, 1, 1, &e));
        in.s = m.s[MOMENTS_TEXT];
        in.scale = moments_scale(&m, MOMENTS_TEXT);
        assert_true(mdsvd_factor(&b, &in, 1, 1, &e));
        for (int64_t j = 0; j < p.n * 5; j++)
            assert_true(fabs(a.up[j] - b.up[j]) < 1e-4);
        for (int64_t j = 0; j < 5 * p.d; j++)
            assert_true(fabs(a.down[j] - b.down[j]) < 1e-4);
        mdsvd_free(&a);
        mdsvd_free(&b);
        moments_free(&m);
        problem_free(&p);
    }
}

/* ---- variants ---- */

/* LLaVA-NeXT-8B's dims: G 8, dh 128, rope_dim 32, d 4096, low_rank 32: r = 256. */
static void test_plans(void **state)
{
    static const struct {
        enum kv_method method;
        int parts;
        struct mdsvd_part part[2];
        int64_t cache;
    } cases[] = {
        {KV_JOINT, 1, {{0, 1792, 256}}, 256 + 256},
        {KV_SPLIT, 2, {{0, 768, 256}, {768, 1024, 256}}, 256 + 512},
        {KV_ONLY_KEY, 2, {{0, 768, 256}, {768, 1024, 0}}, 256 + 256 + 1024},
        {KV_ONLY_VALUE, 2, {{0, 768, 0}, {768, 1024, 256}}, 256 + 768 + 256},
        {KV_NONE, 2, {{0, 768, 0}, {768, 1024, 0}}, 2 * 8 * 128},
    };
    const struct kv_method_info *v;
    struct mdsvd_plan plan;
    struct err e;

    (void)state;
    assert_int_equal(KV_METHODS, 5);
    for (int c = 0; c < 5; c++) {
        const struct kv_shape some = {cases[c].method, 8, 128, 32, 4096, false},
                              all = {cases[c].method, 8, 128, 128, 4096, false};
        v = &kv_methods[cases[c].method];
        assert_true(mdsvd_plan(&plan, &some, 256, &e));
        assert_int_equal(plan.parts, cases[c].parts);
        for (int i = 0; i < plan.parts; i++) {
            assert_int_equal(plan.part[i].row0, cases[c].part[i].row0);
            assert_int_equal(plan.part[i].rows, cases[c].part[i].rows);
            assert_int_equal(plan.part[i].r, cases[c].part[i].r);
        }
        assert_int_equal(plan.cache, cases[c].cache);
        /* No NoPE rows: keys that should have their own latent have nothing to compress. */
        assert_int_equal(mdsvd_plan(&plan, &all, 256, &e), !v->key || v->joint);
        assert_int_equal(plan.parts, v->key && !v->joint ? 0 : 1);
        if (plan.parts == 0) assert_non_null(strstr(e.msg, "every pair stays rotated"));
        /* r above a part's size, and 0 */
        assert_int_equal(mdsvd_plan(&plan, &some, 1793, &e), c == 4);
        assert_int_equal(mdsvd_plan(&plan, &some, 0, &e), c == 4);
    }
}

/* Fractions are fine if the number of heads makes them whole. */
static void test_latents(void **state)
{
    static const struct {
        double low_rank;
        int64_t G, r; /* r = 0: refused */
    } cases[] = {{64, 8, 512}, {0.5, 4, 2}, {1.5, 2, 3},   {1.0 / 3, 3, 1},
                 {0.1, 10, 1}, {0.5, 1, 0}, {0.25, 2, 0},  {1.5, 3, 0},
                 {0, 8, 0},    {-1, 8, 0},  {1e-12, 8, 0}, {0.333333, 3, 0}};
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t r = -1;
        bool ok = mdsvd_latent(&r, cases[i].low_rank, cases[i].G, &e);
        assert_int_equal(ok, cases[i].r > 0);
        if (ok) assert_int_equal(r, cases[i].r);
        if (!ok) assert_non_null(strstr(e.msg, "is not a whole number of latent dims"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_the_reference),
        cmocka_unit_test(test_first_components),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_singular_moments),
        cmocka_unit_test(test_full_rank_is_exact),
        cmocka_unit_test(test_nothing_nearby_is_better),
        cmocka_unit_test(test_weight_mode_is_the_svd),
        cmocka_unit_test(test_scale_signs_and_small_side),
        cmocka_unit_test(test_no_energy_and_not_finite),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_moments_by_threads),
        cmocka_unit_test(test_moments_to_factors),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_latents),
    };

    return cmocka_run_group_tests_name("mdsvd", tests, NULL, NULL);
}
