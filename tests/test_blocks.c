/* test_blocks.c - factors whose errors count by blocks of rows: the weighted error against its
 * definition, its gradient against differences, the factors' balance, and L-BFGS. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "convert/blocks.h"
#include "convert/lbfgs.h"
#include "tests/tiny_convert.h"

enum { BLOCKS = 4 };

/* A problem of rows 5, 7, 5, 7 whose blocks have moments of their own. */
struct problem {
    int64_t n, d, m;
    float *w;
    double *s[BLOCKS], *total, *c[BLOCKS];
    struct block block[BLOCKS];
    struct blocks_in in;
};

static double *random_moments(struct rng *r, int64_t n, double *total)
{
    double *s = tiny_moments(r, n);

    for (int64_t i = 0; i < n * n; i++) {
        s[i] *= exp((double)(i / n + i % n) / (double)-n); /* of different sizes */
        if (total) total[i] += s[i] / BLOCKS;
    }
    return s;
}

static void problem_new(struct problem *p, int64_t d, uint64_t seed)
{
    struct rng r;

    rng_seed(&r, seed, 7);
    *p = (struct problem){.n = 24, .d = d, .m = d < 24 ? d : 24};
    p->w = tiny_values(&r, p->n * d, 1);
    p->total = calloc((size_t)(p->m * p->m), sizeof *p->total);
    assert_non_null(p->total);
    for (int64_t b = 0, row = 0; b < BLOCKS; b++) {
        const int64_t rows = b % 2 ? 7 : 5;
        p->s[b] = random_moments(&r, p->m, p->total);
        p->c[b] = random_moments(&r, rows, NULL);
        p->block[b] = (struct block){row, rows, p->s[b], p->c[b]};
        row += rows;
    }
    p->in = (struct blocks_in){.w = p->w,
                               .n = p->n,
                               .d = d,
                               .outputs = d > p->m,
                               .ld = p->m,
                               .block = p->block,
                               .blocks = BLOCKS,
                               .s = p->total,
                               .scale = 0.01};
}

static void problem_free(struct problem *p)
{
    for (int b = 0; b < BLOCKS; b++) {
        free(p->s[b]);
        free(p->c[b]);
    }
    free(p->w);
    free(p->total);
}

/* c[m,n] = a[m,k] b[k,n], b transposed if bt. */
static void product(double *c, const double *a, const double *b, bool bt, const int64_t size[3])
{
    for (int64_t i = 0; i < size[0]; i++)
        for (int64_t j = 0; j < size[1]; j++) {
            double sum = 0;
            for (int64_t k = 0; k < size[2]; k++)
                sum += a[i * size[2] + k] * b[bt ? j * size[2] + k : k * size[1] + j];
            c[i * size[1] + j] = sum;
        }
}

/* The error of factors by its definition: tr C (M - up D) S (M - up D)^T over blocks. */
static double direct_error(const struct problem *p, const float *up, const double *D, int64_t r)
{
    double diff[24 * 24], ds[24 * 24], gram[24 * 24], sum = 0;

    for (int b = 0; b < BLOCKS; b++) {
        const struct block *k = &p->block[b];
        for (int64_t i = 0; i < k->rows; i++)
            for (int64_t j = 0; j < p->m; j++) {
                double v = p->in.outputs ? k->row0 + i == j : p->w[(k->row0 + i) * p->d + j];
                for (int64_t c = 0; c < r; c++)
                    v -= (double)up[(k->row0 + i) * r + c] * D[c * p->m + j];
                diff[i * p->m + j] = v;
            }
        product(ds, diff, p->s[b], true, (int64_t[]){k->rows, p->m, p->m});
        product(gram, ds, diff, true, (int64_t[]){k->rows, k->rows, p->m});
        for (int64_t i = 0; i < k->rows * k->rows; i++)
            sum += p->c[b][i] * gram[i];
    }
    return sum;
}

/* D of down: itself, or with u = y that for which D W = down: by elimination of [W^T | down^T], of
 * which the first m rows do. */
static void latent_of(const struct problem *p, const float *down, int64_t r, double *D)
{
    const int64_t m = p->m, cols = m + r;
    double a[24 * 48];

    for (int64_t i = 0; i < r * m && !p->in.outputs; i++)
        D[i] = (double)down[i];
    if (!p->in.outputs) return;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < m; j++)
            a[i * cols + j] = (double)p->w[j * p->d + i];
        for (int64_t j = 0; j < r; j++)
            a[i * cols + m + j] = (double)down[j * p->d + i];
    }
    for (int64_t k = 0; k < m; k++) {
        int64_t top = k;
        for (int64_t i = k; i < m; i++)
            if (fabs(a[i * cols + k]) > fabs(a[top * cols + k])) top = i;
        for (int64_t j = 0; j < cols; j++) {
            const double keep = a[k * cols + j];
            a[k * cols + j] = a[top * cols + j];
            a[top * cols + j] = keep;
        }
        for (int64_t i = 0; i < m; i++) {
            const double f = i == k ? 0 : a[i * cols + k] / a[k * cols + k];
            for (int64_t j = k; j < cols; j++)
                a[i * cols + j] -= f * a[k * cols + j];
        }
    }
    for (int64_t i = 0; i < r; i++)
        for (int64_t k = 0; k < m; k++)
            D[i * m + k] = a[k * cols + m + i] / a[k * cols + k];
}

/* up^T up = E c c^T, a falling diagonal. 1e-5 of its largest: factors are rounded to fp32, and D is
 * found through W's inverse. */
static void check_balance(const struct problem *p, const struct mdsvd_out *out, const double *D)
{
    const int64_t r = out->r, m = p->m;
    double ds[24 * 24], c[24 * 24];
    const double tol = 1e-5 * sqrt(out->component[0]);

    product(ds, D, p->total, true, (int64_t[]){r, m, m});
    product(c, ds, D, true, (int64_t[]){r, r, m});
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < r; j++) {
            const double want = i == j ? sqrt(out->component[i]) : 0;
            double up = 0;
            for (int64_t k = 0; k < p->n; k++)
                up += (double)out->up[k * r + i] * (double)out->up[k * r + j];
            assert_true(fabs(up - want) < tol);
            assert_true(fabs(p->in.scale * c[i * r + j] - want) < tol);
            assert_true(i == 0 || out->component[i] <= out->component[i - 1]);
        }
}

/* Sizes at which u is x, and y; with fewer steps the error is never less. The error reported is
 * that of the factors: 1e-3 of it or 1e-6 of the energy, for D is found through W's inverse, and
 * factors are rounded to fp32. */
static void test_factors(void **state)
{
    struct err e = {0};

    (void)state;
    for (int64_t d = 16; d <= 32; d += 8) {
        struct problem p;
        struct blocks b;

        problem_new(&p, d, (uint64_t)d);
        must(blocks_open(&b, &p.in, p.m, &e), &e);
        assert_int_equal(b.live, p.m);
        for (int64_t r = 1; r <= p.m; r += 3) {
            double last = INFINITY, D[24 * 24];
            for (int64_t steps = 0; steps <= 40; steps = 3 * steps + 1) {
                struct mdsvd_out out;
                must(blocks_factor(&out, &b, r, steps, &e), &e);
                assert_int_equal(out.live, r);
                assert_true(out.error <= last);
                assert_true(steps != 1 || r == p.m ||
                            out.error < last); /* there is something to win */
                last = out.error;
                latent_of(&p, out.down, r, D);
                check_balance(&p, &out, D);
                const double direct = direct_error(&p, out.up, D, r);
                if (!(fabs(direct - out.error) < 1e-3 * out.error + 1e-6 * out.energy))
                    fail_msg("d %d, r %d, %d steps: %g, directly %g", (int)d, (int)r, (int)steps,
                             out.error, direct);
                mdsvd_free(&out);
            }
        }
        blocks_close(&b);
        problem_free(&p);
    }
}

/* f by central differences along random directions, from a Z near the start, where rows are not
 * orthogonal: 1e-6 of the gradient's length, which with steps of 1e-5 is what the third derivative
 * and the rounding of f leave. */
static void check_gradient(const struct blocks_in *in, int64_t m, int64_t r, int tries)
{
    const int64_t n = r * m;
    double *z = calloc((size_t)(4 * n), sizeof *z), *g = z + n, *none = g + n, *way = none + n;
    double length = 0;
    struct blocks_eval *v;
    struct err e = {0};
    struct blocks b;
    struct rng rng;

    assert_non_null(z);
    must(blocks_open(&b, in, r, &e), &e);
    v = blocks_eval_new(&b, r, &e);
    must(v, &e);
    rng_seed(&rng, (uint64_t)(in->d + r), 1);
    for (int64_t i = 0; i < n; i++)
        z[i] = b.start[i] + 0.1 * rng_normal(&rng);
    assert_true(isfinite(blocks_value(v, z, g)));
    for (int64_t i = 0; i < n; i++)
        length += g[i] * g[i];
    for (int t = 0; t < tries; t++) {
        double slope = 0, size = 0, f[2];
        for (int64_t i = 0; i < n; i++) {
            way[i] = rng_normal(&rng);
            slope += way[i] * g[i];
            size += way[i] * way[i];
        }
        for (int k = 0; k < 2; k++) {
            for (int64_t i = 0; i < n; i++)
                z[i] += (k ? -2e-5 : 1e-5) * way[i] / sqrt(size);
            f[k] = blocks_value(v, z, none);
        }
        for (int64_t i = 0; i < n; i++)
            z[i] += 1e-5 * way[i] / sqrt(size);
        if (!(fabs((f[0] - f[1]) / 2e-5 - slope / sqrt(size)) < 1e-6 * sqrt(length)))
            fail_msg("d %d, r %d: %g and %g of %g", (int)in->d, (int)r, (f[0] - f[1]) / 2e-5,
                     slope / sqrt(size), sqrt(length));
    }
    blocks_eval_free(v);
    blocks_close(&b);
    free(z);
}

static void test_gradient(void **state)
{
    (void)state;
    for (int64_t d = 16; d <= 32; d += 8)
        for (int64_t r = 1; r <= 10; r += 3) {
            struct problem p;

            problem_new(&p, d, (uint64_t)(d + r));
            check_gradient(&p.in, p.m, r, 8);
            problem_free(&p);
        }
}

/* A latent wider than the panels in which its moments are made. */
static void test_wide(void **state)
{
    enum { N = 300 };
    struct rng r;

    (void)state;
    rng_seed(&r, 5, 7);
    float *w = tiny_values(&r, N * N, 1);
    double *s = random_moments(&r, N, NULL), *c = random_moments(&r, N, NULL);
    const struct block one = {0, N, s, c};
    const struct blocks_in in = {
        .w = w, .n = N, .d = N, .ld = N, .block = &one, .blocks = 1, .s = s, .scale = 0.01};

    check_gradient(&in, N, 290, 2);
    free(w);
    free(s);
    free(c);
}

/* Where a latent can hold everything, nothing is lost, and the start is the best there is. A block
 * without any weight, and moments without full rank, are no special case. */
static void test_edges(void **state)
{
    struct err e = {0};
    struct mdsvd_out out;
    struct problem p;
    struct blocks b;

    (void)state;
    problem_new(&p, 32, 3);
    memset(p.c[1], 0, 49 * sizeof(double));
    for (int64_t i = 0; i < 24; i++) /* nothing in the last six dims of y */
        for (int64_t j = 0; j < 24; j++)
            for (int k = 0; k <= BLOCKS; k++)
                if (i >= 18 || j >= 18) (k < BLOCKS ? p.s[k] : p.total)[i * 24 + j] = 0;
    must(blocks_open(&b, &p.in, 24, &e), &e);
    assert_int_equal(b.live, 18);
    must(blocks_factor(&out, &b, 20, 5, &e), &e);
    assert_int_equal(out.live, 18);
    assert_true(out.error <= 1e-9 * out.energy);
    for (int64_t i = 0; i < 24 * 20; i++)
        assert_true(isfinite(out.up[i]) && (i % 20 < 18 || out.up[i] == 0));
    mdsvd_free(&out);
    blocks_close(&b);
    memset(p.total, 0, 24 * 24 * sizeof(double));
    must(blocks_open(&b, &p.in, 24, &e), &e);
    must(blocks_factor(&out, &b, 3, 5, &e), &e);
    assert_int_equal(out.live, 0);
    mdsvd_free(&out);
    blocks_close(&b);
    p.total[0] = NAN;
    assert_false(blocks_open(&b, &p.in, 24, &e) && blocks_factor(&out, &b, 3, 5, &e));
    blocks_close(&b);
    problem_free(&p);
}

/* Rows [from, from + n) of W become zeros, and where u is y their moments too. */
static void clear_rows(struct problem *p, int64_t from, int64_t n)
{
    memset(p->w + from * p->d, 0, (size_t)(n * p->d) * sizeof *p->w);
    for (int64_t i = 0; i < p->m * p->m && p->in.outputs; i++)
        for (int b = 0; b <= BLOCKS; b++)
            if ((i / p->m >= from && i / p->m < from + n) ||
                (i % p->m >= from && i % p->m < from + n))
                (b < BLOCKS ? p->s[b] : p->total)[i] = 0;
}

/* The other half of p's rows, as a problem of its own. */
static struct blocks_in half_of(const struct problem *p, int half, struct block block[2])
{
    const int64_t row0 = half * p->n / 2, at = p->in.outputs ? row0 * (p->m + 1) : 0;
    struct blocks_in in = p->in;

    for (int i = 0; i < 2; i++) {
        block[i] = p->block[2 * half + i];
        block[i].row0 -= row0;
        block[i].s += at;
    }
    in.w += row0 * p->d;
    in.n = p->n / 2;
    in.block = block;
    in.blocks = 2;
    in.s += at;
    return in;
}

/* up down of rows [from, to): all zeros? */
static bool gives_zeros(const struct mdsvd_out *out, int64_t d, int64_t from, int64_t to)
{
    for (int64_t i = from * d; i < to * d; i++) {
        float sum = 0;
        for (int64_t c = 0; c < out->r; c++)
            sum += out->up[i / d * out->r + c] * out->down[c * d + i % d];
        if (!(fabsf(sum) <= 0)) return false;
    }
    return true;
}

/* Keys (half 0) or values of zeros. Alone they have zero factors, whatever moments there are;
 * beside the other half they are zeros too, and it loses what it loses alone (1e-9 of the energy:
 * the two start from other roots of the same). */
static void check_zero_half(int64_t d, int zero, int64_t steps)
{
    struct block block[2][2];
    struct mdsvd_out both, alone, none;
    struct problem p;
    struct blocks b;
    struct err e = {0};

    problem_new(&p, d, (uint64_t)d + 11);
    memset(p.w + zero * 12 * d, 0, (size_t)(12 * d) * sizeof *p.w);
    const struct blocks_in empty = half_of(&p, zero, block[0]);
    must(blocks_open(&b, &empty, 8, &e), &e);
    assert_int_equal(b.live, 0);
    must(blocks_factor(&none, &b, 8, steps, &e), &e);
    assert_true(none.live == 0 && none.error <= 0 && none.energy <= 0);
    assert_true(gives_zeros(&none, d, 0, 12));
    mdsvd_free(&none);
    blocks_close(&b);
    clear_rows(&p, zero * 12, 12);
    const struct blocks_in full = half_of(&p, !zero, block[1]);
    must(blocks_open(&b, &full, 8, &e), &e);
    must(blocks_factor(&alone, &b, 8, steps, &e), &e);
    blocks_close(&b);
    must(blocks_open(&b, &p.in, 8, &e), &e);
    must(blocks_factor(&both, &b, 8, steps, &e), &e);
    blocks_close(&b);
    assert_int_equal(both.live, 8);
    assert_true(gives_zeros(&both, d, zero * 12, zero * 12 + 12));
    if (!(alone.error > 0 && fabs(both.error - alone.error) <= 1e-9 * alone.energy))
        fail_msg("d %d, half %d: %g, alone %g", (int)d, zero, both.error, alone.error);
    mdsvd_free(&both);
    mdsvd_free(&alone);
    problem_free(&p);
}

static void test_zeros(void **state)
{
    (void)state;
    for (int64_t d = 16; d <= 32; d += 8)
        for (int zero = 0; zero < 2; zero++)
            for (int64_t steps = 0; steps <= 5; steps += 5)
                check_zero_half(d, zero, steps);
}

/* Rosenbrock's valley, nowhere defined where x[0] > 3. */
static double valley(void *arg, const double *x, double *g)
{
    double f = 0;

    ++*(int *)arg;
    memset(g, 0, 6 * sizeof *g);
    for (int i = 0; i < 5; i++) {
        const double a = x[i + 1] - x[i] * x[i], b = 1 - x[i];
        f += 100 * a * a + b * b;
        g[i] += -400 * a * x[i] - 2 * b;
        g[i + 1] += 200 * a;
    }
    return x[0] > 3 ? INFINITY : f;
}

/* Reaches the bottom, along a bend where steps have no positive curvature at first; goes no step if
 * it starts outside. */
static void test_lbfgs(void **state)
{
    int asked = 0;
    const struct lbfgs_function f = {6, valley, &asked, 1e-14};
    double x[6] = {2.9, -1, 2, 0, -2, 1}, far[6] = {4, 0, 0, 0, 0, 0}, value, last = INFINITY;
    struct err e = {0};

    (void)state;
    for (int i = 0; i < 30; i++) {
        must(lbfgs_minimise(&f, x, 10, &value, &e), &e);
        assert_true(value <= last);
        last = value;
    }
    assert_true(value < 1e-12);
    for (int i = 0; i < 6; i++)
        assert_true(fabs(x[i] - 1) < 1e-5);
    asked = 0;
    must(lbfgs_minimise(&f, far, 10, &value, &e), &e);
    assert_true(isinf(value) && asked == 1);
    assert_true(far[0] > 3.9 && far[0] < 4.1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factors), cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_wide),    cmocka_unit_test(test_edges),
        cmocka_unit_test(test_zeros),   cmocka_unit_test(test_lbfgs)};

    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
