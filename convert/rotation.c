/* rotation.c - see rotation.h. Each head is one thread's, so that sums have one order. */
#include "convert/rotation.h"

#include "base/mem.h"
#include "convert/eigen.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* As in basis_order.c: what gets less of the strongest key's attention is left out. */
static const double FAINT = 0.01, RIDGE = 1e-3;

static int64_t values_of(const struct rotation_dims *n) /* a row's: a, b, t */
{
    return n->dc + 1;
}

int64_t rotation_sums(const struct rotation_dims *n)
{
    return n->H * 2 * values_of(n) * values_of(n) + 2;
}

static double *queries_of(const struct rotation *r)
{
    return r->sums + rotation_sums(&r->n) - 2;
}

bool rotation_init(struct rotation *r, const struct rotation_dims *n, struct err *e)
{
    *r = (struct rotation){.n = *n, .sums = doubles_new(1, rotation_sums(n), e)};
    return r->sums;
}

void rotation_free(struct rotation *r)
{
    free(r->sums);
    memset(r, 0, sizeof *r);
}

/* ---- the covariance ---- */

/* A sample's keys, turned as they were, and what a thread works in. */
struct seeing {
    const struct rotation_sample *x;
    float *turned;            /* [T, G*dc] */
    double *p, *rows, *query; /* [threads, T], [threads, T + 1, dc + 1], [threads, 2 dc] */
};

static bool open_seeing(struct seeing *s, const struct rotation *r, const struct rotation_sample *x,
                        struct err *e)
{
    const size_t threads = (size_t)omp_get_max_threads(), T = (size_t)x->T;

    *s = (struct seeing){.x = x};
    s->turned = mem_new(T, (size_t)(r->n.G * r->n.dc) * sizeof *s->turned, "rotation", e);
    s->p = mem_new(threads, T * sizeof *s->p, "rotation", e);
    s->rows = mem_new(threads, (T + 1) * (size_t)values_of(&r->n) * sizeof *s->rows, "rotation", e);
    s->query = mem_new(threads, (size_t)(2 * r->n.dc) * sizeof *s->query, "rotation", e);
    return s->turned && s->p && s->rows && s->query;
}

static void close_seeing(struct seeing *s)
{
    free(s->turned);
    free(s->p);
    free(s->rows);
    free(s->query);
}

double rotation_bytes(const struct rotation_dims *n, int64_t T)
{
    const double t = (double)T, dc = (double)n->dc;

    return 8 * (double)rotation_sums(n) + 4 * t * (double)n->G * dc +
           8 * (double)omp_get_max_threads() * (t * (dc + 2) + 3 * dc + 1);
}

static void turn_key(const struct rotation *r, const struct seeing *s, int64_t t)
{
    const int64_t half = r->n.dc / 2, P = r->n.dh / 2;

    for (int64_t j = 0; j < r->n.G * half; j++) {
        const int64_t at = (t * r->n.G + j / half) * r->n.dc + j % half;
        const float c = s->x->cos[t * P + s->x->pair[j]], w = s->x->sin[t * P + s->x->pair[j]];
        s->turned[at] = s->x->k[at] * c - s->x->k[at + half] * w;
        s->turned[at + half] = s->x->k[at + half] * c + s->x->k[at] * w;
    }
}

/* query [2, dc]: the unrotated query of head h and token t, and as it was turned; over sqrt(dh). */
static void load_query(const struct rotation *r, const struct seeing *s, int64_t h, int64_t t,
                       double *query)
{
    const int64_t dc = r->n.dc, half = dc / 2, P = r->n.dh / 2, g = h / (r->n.H / r->n.G);
    const float *q = s->x->q + (t * r->n.H + h) * dc;
    const double scale = 1 / sqrt((double)r->n.dh), f = r->n.scale;

    for (int64_t j = 0; j < half; j++) {
        const int64_t at = t * P + s->x->pair[g * half + j];
        const double a = scale * (double)q[j], b = scale * (double)q[half + j];
        const double c = (double)s->x->cos[at] / (f * f), w = (double)s->x->sin[at] / (f * f);
        query[j] = a;
        query[half + j] = b;
        query[dc + j] = a * c - b * w;
        query[dc + half + j] = b * c + a * w;
    }
}

/* The original's attention of a query over its keys, p[0 .. t]; 0 for the faint ones. */
static void attend(const struct rotation *r, const struct seeing *s, int64_t h, int64_t t,
                   double *p)
{
    const int64_t dh = r->n.dh, g = h / (r->n.H / r->n.G);
    const float *q = s->x->full_q + (t * r->n.H + h) * dh;
    double top = -INFINITY, sum = 0;

    for (int64_t n = 0; n <= t; n++) {
        const float *k = s->x->full_k + (n * r->n.G + g) * dh;
        float score = 0;
        for (int64_t i = 0; i < dh; i++)
            score += q[i] * k[i];
        p[n] = (double)score / sqrt((double)dh);
        if (p[n] > top) top = p[n];
    }
    for (int64_t n = 0; n <= t; n++) {
        p[n] = exp(p[n] - top);
        if (p[n] < FAINT) p[n] = 0; /* the strongest is 1 */
        sum += p[n];
    }
    for (int64_t n = 0; n <= t; n++)
        p[n] /= sum;
}

/* [a; b; t] of key n. */
static void fill_row(const struct rotation *r, const struct seeing *s, int64_t h, int64_t n,
                     const double *q, double *row)
{
    const int64_t dc = r->n.dc, half = dc / 2, g = h / (r->n.H / r->n.G);
    const float *k = s->x->k + (n * r->n.G + g) * dc, *turned = s->turned + (n * r->n.G + g) * dc;
    double t = 0;

    for (int64_t j = 0; j < half; j++) {
        const double u = (double)k[j], v = (double)k[half + j];
        row[j] = q[j] * u + q[half + j] * v;
        row[half + j] = q[j] * v - q[half + j] * u;
        t += q[dc + j] * (double)turned[j] + q[dc + half + j] * (double)turned[half + j];
    }
    row[dc] = t;
}

/* Rows sqrt(p) ([a; b; t] - mean) of the keys that count; returns their number. The row behind them
 * is scratch. */
static int64_t fill_rows(const struct rotation *r, const struct seeing *s, int64_t h, int64_t t,
                         const double *query, double *p, double *rows)
{
    const int64_t m = values_of(&r->n);
    double *mean = rows + s->x->T * m;
    int64_t n = 0;

    memset(mean, 0, (size_t)m * sizeof *mean);
    for (int64_t k = 0; k <= t; k++) {
        double *row = rows + n * m;
        if (p[k] <= 0) continue;
        fill_row(r, s, h, k, query, row);
        for (int64_t j = 0; j < m; j++)
            mean[j] += p[k] * row[j];
        p[n++] = p[k];
    }
    for (int64_t k = 0; k < n; k++)
        for (int64_t j = 0; j < m; j++)
            rows[k * m + j] = sqrt(p[k]) * (rows[k * m + j] - mean[j]);
    return n;
}

static void see_head(struct rotation *r, const struct seeing *s, int64_t h, int64_t queries)
{
    const int64_t m = values_of(&r->n), thread = omp_get_thread_num(), T = s->x->T;
    double *p = s->p + thread * T, *rows = s->rows + thread * (T + 1) * m;
    double *query = s->query + thread * 2 * r->n.dc;

    for (int64_t i = 0; i < queries; i++) {
        const int64_t t = (i + 1) * T / queries - 1;
        double *sum = r->sums + (h * 2 + s->x->modality[t]) * m * m;
        load_query(r, s, h, t, query);
        attend(r, s, h, t, p);
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)m,
                    (int)fill_rows(r, s, h, t, query, p, rows), 1, rows, (int)m, 1, sum, (int)m);
    }
}

bool rotation_see(struct rotation *r, const struct rotation_sample *x, int64_t max_queries,
                  struct err *e)
{
    const int64_t queries = max_queries > 0 && max_queries < x->T ? max_queries : x->T;
    const int blas_threads = openblas_get_num_threads();
    struct seeing s;
    bool ok = open_seeing(&s, r, x, e);

    openblas_set_num_threads(1);
#pragma omp parallel for schedule(static) if (ok)
    for (int64_t t = 0; t < (ok ? x->T : 0); t++)
        turn_key(r, &s, t);
#pragma omp parallel for schedule(dynamic) if (ok)
    for (int64_t h = 0; h < (ok ? r->n.H : 0); h++)
        see_head(r, &s, h, queries);
    openblas_set_num_threads(blas_threads);
    for (int64_t i = 0; ok && i < queries; i++)
        queries_of(r)[x->modality[(i + 1) * x->T / queries - 1]] += 1;
    close_seeing(&s);
    return ok;
}

/* ---- least squares ---- */

/* F [m, m], both triangles, of head h: the modalities' means, added. */
static void mean_of(const struct rotation *r, int64_t h, double *f)
{
    const int64_t m = values_of(&r->n);

    memset(f, 0, (size_t)(m * m) * sizeof *f);
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < m && queries_of(r)[k] > 0; i++)
            for (int64_t j = 0; j <= i; j++)
                f[i * m + j] += r->sums[((h * 2 + k) * m + i) * m + j] / queries_of(r)[k];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < i; j++)
            f[j * m + i] = f[i * m + j];
}

/* The solution of head h in turn [dc/2, 2]; f: scratch [m, m]. */
static bool solve_head(const struct rotation *r, int64_t h, double *f, double *right, double *turn,
                       struct err *e)
{
    const int64_t m = values_of(&r->n), dc = r->n.dc, half = dc / 2;
    double mean = 0;

    mean_of(r, h, f);
    for (int64_t i = 0; i < dc; i++) {
        mean += f[i * m + i] / (double)dc;
        right[i] = f[i * m + dc];
        for (int64_t j = 0; j < half; j++)
            right[i] -= f[i * m + j];
    }
    if (!isfinite(mean))
        return err_set(e, "queries or keys are not finite; check the model's weights");
    for (int64_t i = 0; i < dc; i++)
        f[i * m + i] += RIDGE * mean;
    if (mean <= 0) /* keys that are all alike: there is nothing to mend */
        memset(right, 0, (size_t)dc * sizeof *right);
    else if (LAPACKE_dposv(LAPACK_ROW_MAJOR, 'L', (lapack_int)dc, 1, f, (lapack_int)m, right, 1) !=
             0)
        return err_set(e, "the rotation of query head %d cannot be found", (int)h);
    for (int64_t j = 0; j < half; j++) {
        turn[2 * j] = 1 + right[j];
        turn[2 * j + 1] = right[half + j];
    }
    return true;
}

bool rotation_solve(const struct rotation *r, double *turn, struct err *e)
{
    const int64_t m = values_of(&r->n);
    double *f = doubles_new(m, m, e), *right = f ? doubles_new(1, m, e) : NULL;
    bool ok = right;

    for (int64_t h = 0; ok && h < r->n.H; h++)
        ok = solve_head(r, h, f, right, turn + h * r->n.dc, e);
    free(f);
    free(right);
    return ok;
}

/* Rows of `width` values, or a bias, of width 1. */
static void fold(const double *turn, const struct rotation_dims *n, float *x, int64_t width)
{
    const int64_t half = n->dc / 2;

#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < n->H * half; p++) {
        const double re = turn[2 * p], im = turn[2 * p + 1];
        float *a = x + (p / half * n->dc + p % half) * width, *b = a + half * width;
        for (int64_t j = 0; j < width; j++) {
            const double u = (double)a[j], v = (double)b[j];
            a[j] = (float)(re * u - im * v);
            b[j] = (float)(re * v + im * u);
        }
    }
}

bool rotation_fold(const double *turn, const struct rotation_dims *n, struct param *q,
                   struct param *bias, struct err *e)
{
    if (!param_own(q, e) || (bias && !param_own(bias, e))) return false;
    fold(turn, n, q->own, tensor_count(&q->t) / (n->H * n->dc));
    if (bias) fold(turn, n, bias->own, 1);
    return true;
}
