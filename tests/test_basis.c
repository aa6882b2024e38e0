/* test_basis.c - the cross-head basis of keys: its definition, and what each component's rotation
 * is worth, against plain forms in double. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <complex.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "convert/basis.h"
#include "model/files/basisfile.h"
#include "tests/tmpdir.h"

enum { H = 4, G = 2, DH = 8, P = DH / 2, C = G * P, T = 21, SAMPLES = 2 };
static const struct rank_dims dims = {1, H, G, DH};

struct sample {
    float q[T * H * DH], k[T * G * DH], cs[2 * T * P];
    uint8_t modality[T];
    struct rank_sample x;
};

/* Keys of the two heads are alike, and small enough that no key is faint. */
static void make_sample(struct sample *s, uint64_t seed)
{
    struct rng r;

    rng_seed(&r, seed, 0);
    for (int i = 0; i < T * H * DH; i++)
        s->q[i] = (float)(0.5 * rng_normal(&r));
    for (int i = 0; i < T * G * DH; i++)
        s->k[i] = (float)(0.5 * rng_normal(&r)) + (i / DH % G ? s->k[i - DH] : 0);
    for (int t = 0; t < T; t++) {
        s->modality[t] = t % 3 == 0;
        for (int i = 0; i < P; i++) {
            s->cs[t * P + i] = (float)(1.1 * cos(t * pow(0.3, i)));
            s->cs[(T + t) * P + i] = (float)(1.1 * sin(t * pow(0.3, i)));
        }
    }
    s->x = (struct rank_sample){s->q, s->k, s->cs, s->cs + T * P, s->modality, T, 1.1};
}

static struct sample *samples(void)
{
    struct sample *s = malloc(SAMPLES * sizeof *s);

    for (int i = 0; i < SAMPLES; i++)
        make_sample(&s[i], 40 + (uint64_t)i);
    return s;
}

static void measure(struct basis *b, struct sample *s, int threads)
{
    const int before = omp_get_max_threads();
    struct err e = {0};

    omp_set_num_threads(threads);
    assert_true(basis_init(b, &dims, &e));
    for (int i = 0; i < SAMPLES; i++)
        basis_see(b, &s[i].x);
    if (!basis_solve(b, &e)) fail_msg("%s", e.msg);
    for (int i = 0; i < SAMPLES; i++)
        assert_true(basis_lose(b, &s[i].x, 0, &e));
    assert_true(moments_finish(&b->loss, &e));
    omp_set_num_threads(before);
}

/* ---- plain forms ---- */

static double complex pair_of(const float *x, int head, int i)
{
    return (double)x[head * DH + i] + I * (double)x[head * DH + P + i];
}

/* z'_c of token t, and q'_hc of it. */
static double complex key_of(const struct basis *b, const struct sample *s, int t, int c)
{
    const int i = basis_pair(b, c);
    double complex z = 0;

    for (int g = 0; g < G; g++)
        z += (basis_re(b, c)[g] - I * basis_im(b, c)[g]) * b->scale[g * P + i] *
             pair_of(s->k + t * G * DH, g, i);
    return z;
}

static double complex query_of(const struct basis *b, const struct sample *s, int t, int h, int c)
{
    const int i = basis_pair(b, c), g = h / (H / G);

    return (basis_re(b, c)[g] - I * basis_im(b, c)[g]) * pair_of(s->q + t * H * DH, h, i) /
           b->scale[g * P + i];
}

static double complex angle(const struct sample *s, int t, int i)
{
    return (double)s->cs[t * P + i] + I * (double)s->cs[(T + t) * P + i];
}

/* a - s of one component, query and key. */
static double lost(const struct basis *b, const struct sample *s, int h, int m, int n, int c)
{
    const int i = basis_pair(b, c);
    const double complex z = key_of(b, s, n, c), q = query_of(b, s, m, h, c);

    return creal(conj(q) * z * 1.1 * 1.1 - conj(q * angle(s, m, i)) * z * angle(s, n, i)) /
           sqrt(DH);
}

/* Attention of query m of head h, by the heads' own keys. */
static void attention(const struct sample *s, int h, int m, double *p)
{
    double sum = 0;

    for (int n = 0; n <= m; n++) {
        double score = 0;
        for (int i = 0; i < P; i++)
            score += creal(conj(pair_of(s->q + m * H * DH, h, i) * angle(s, m, i)) *
                           pair_of(s->k + n * G * DH, h / (H / G), i) * angle(s, n, i));
        sum += p[n] = exp(score / sqrt(DH));
    }
    for (int n = 0; n <= m; n++)
        p[n] /= sum;
}

/* Adds the covariance of a - s under one query's attention to q [C, C]. */
static void add_query(const struct basis *b, const struct sample *s, int h, int m, double *q)
{
    double p[T], e[T][C], mean[C] = {0};

    attention(s, h, m, p);
    for (int n = 0; n <= m; n++)
        for (int c = 0; c < C; c++) {
            e[n][c] = lost(b, s, h, m, n, c);
            mean[c] += p[n] * e[n][c];
        }
    for (int n = 0; n <= m; n++)
        for (int c = 0; c < C; c++)
            for (int o = 0; o < C; o++)
                q[c * C + o] += p[n] * (e[n][c] - mean[c]) * (e[n][o] - mean[o]);
}

/* ---- tests ---- */

/* Orthonormal within a pair, to double's digits; the components of a pair's keys are not
 * correlated, and the first has most energy. */
static void test_basis(void **state)
{
    struct sample *s = samples();
    struct basis b;

    (void)state;
    measure(&b, s, 1);
    for (int i = 0; i < P; i++)
        for (int c = 0; c < G; c++)
            for (int o = 0; o < G; o++) {
                const int u = i * G + c, v = i * G + o;
                double complex dot = 0, cov = 0;
                for (int g = 0; g < G; g++)
                    dot += (basis_re(&b, u)[g] - I * basis_im(&b, u)[g]) *
                           (basis_re(&b, v)[g] + I * basis_im(&b, v)[g]);
                for (int k = 0; k < SAMPLES; k++)
                    for (int t = 0; t < T; t++)
                        cov +=
                            key_of(&b, &s[k], t, u) * conj(key_of(&b, &s[k], t, v)) / (SAMPLES * T);
                assert_true(cabs(dot - (c == o)) < 1e-12);
                assert_true(cabs(cov - (c == o ? b.energy[u] : 0)) < 1e-12 * b.energy[i * G]);
                assert_true(b.energy[i * G] > 1.5 * b.energy[i * G + 1]); /* alike: one is large */
            }
    /* and scores are those of the heads: conj(q_h) z_g, to double's digits */
    for (int h = 0; h < H; h++)
        for (int i = 0; i < P; i++) {
            double complex sum = 0, want = conj(pair_of(s->q + 5 * H * DH, h, i)) *
                                           pair_of(s->k + 3 * G * DH, h / (H / G), i);
            for (int c = i * G; c < (i + 1) * G; c++)
                sum += conj(query_of(&b, s, 5, h, c)) * key_of(&b, s, 3, c);
            assert_true(cabs(sum - want) < 1e-12);
        }
    basis_free(&b);
    free(s);
}

/* fp32 sums of some hundred rows, by blocks: 1e-5 of the largest. */
static void test_loss(void **state)
{
    struct sample *s = samples();
    double want[2][C * C] = {{0}}, most[2] = {0, 0};
    struct basis b, again;

    (void)state;
    measure(&b, s, 1);
    for (int k = 0; k < SAMPLES; k++)
        for (int m = 0; m < T; m++)
            for (int h = 0; h < H; h++)
                add_query(&b, &s[k], h, m, want[s[k].modality[m]]);
    for (int m = 0; m < 2; m++) {
        assert_true(b.queries[m] == SAMPLES * (m ? 7 : 14));
        for (int j = 0; j < C * C; j++)
            most[m] = fmax(most[m], fabs(want[m][j]));
        for (int i = 0; i < C; i++)
            for (int j = 0; j <= i; j++)
                assert_true(fabs(b.loss.s[m][i * C + j] - want[m][i * C + j]) < 1e-5 * most[m]);
    }
    measure(&again, s, 3);
    assert_memory_equal(b.loss.s[0], again.loss.s[0], C * C * sizeof(double));
    assert_memory_equal(b.loss.s[1], again.loss.s[1], C * C * sizeof(double));
    basis_free(&again);
    basis_free(&b);
    free(s);
}

/* 1^T Q_NN 1 of the components from order[first] on, with the modalities' means. */
static double loss_of(const double q[2][C * C], const double queries[2], const int32_t *order,
                      int first)
{
    double sum = 0;

    for (int m = 0; m < 2; m++)
        for (int i = first; i < C; i++)
            for (int j = first; j < C; j++) {
                const int u = order[i] > order[j] ? order[i] : order[j];
                const int v = order[i] > order[j] ? order[j] : order[i];
                sum += q[m][u * C + v] / queries[m];
            }
    return sum;
}

/* Each component that loses RoPE is the one whose loss makes the sum grow least. */
static void test_order(void **state)
{
    struct sample *s = samples();
    double q[2][C * C];
    bool seen[C] = {false};
    struct basis b;
    struct err e = {0};

    (void)state;
    measure(&b, s, 1);
    memcpy(q[0], b.loss.s[0], sizeof q[0]);
    memcpy(q[1], b.loss.s[1], sizeof q[1]);
    assert_true(basis_order(&b, &e));
    for (int c = 0; c < C; c++) {
        assert_in_range(b.order[c], 0, C - 1);
        assert_false(seen[b.order[c]]);
        seen[b.order[c]] = true;
    }
    for (int k = C - 1; k > 0; k--) {
        const double now = loss_of(q, b.queries, b.order, k);
        for (int other = 0; other < k; other++) {
            int32_t order[C];
            memcpy(order, b.order, sizeof order);
            order[k] = b.order[other];
            order[other] = b.order[k];
            assert_true(now <= loss_of(q, b.queries, order, k) * (1 + 1e-12) + 1e-12);
        }
    }
    basis_free(&b);
    free(s);
}

static void test_file(void **state)
{
    const char *path = tmpdir_path(state, "basis.h5");
    const struct rank_dims other = {1, H, G, 2 * DH};
    struct basisfile b = {0}, again = {0};
    struct err e = {0};

    assert_true(basisfile_new(&b, &dims, &e) && basisfile_new(&again, &dims, &e));
    for (int i = 0; i < C; i++) {
        b.pair[i] = i / G;
        b.scale[i] = 1 + i;
        for (int g = 0; g < G; g++) {
            b.re[i * G + g] = i - g;
            b.im[i * G + g] = 0.5 * g;
        }
    }
    if (!basisfile_write(path, &dims, &b, &e)) fail_msg("%s", e.msg);
    if (!basisfile_read(path, &dims, &again, &e)) fail_msg("%s", e.msg);
    assert_memory_equal(b.pair, again.pair, C * sizeof *b.pair);
    assert_memory_equal(b.re, again.re, C * G * sizeof *b.re);
    assert_memory_equal(b.im, again.im, C * G * sizeof *b.im);
    assert_memory_equal(b.scale, again.scale, C * sizeof *b.scale);
    basisfile_free(&again);
    assert_true(basisfile_new(&again, &other, &e));
    assert_false(basisfile_read(path, &other, &again, &e));
    assert_non_null(strstr(e.msg, "pair: is of another model"));
    basisfile_free(&again);
    b.scale[3] = 0;
    assert_true(basisfile_write(path, &dims, &b, &e) && basisfile_new(&again, &dims, &e));
    assert_false(basisfile_read(path, &dims, &again, &e));
    assert_non_null(strstr(e.msg, "scale: 0; a number above 0 is needed"));
    basisfile_free(&again);
    basisfile_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basis),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_order),
        cmocka_unit_test_setup_teardown(test_file, tmpdir_make, tmpdir_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
