/* logit.c - see logit.h: the covariance, and its place in a layer. The choice: logit_choose.c. */
#include "convert/logit.h"
#include "base/mem.h"
#include "convert/attend.h"
#include "convert/eigen.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* As in rotation.c: what gets less of the strongest key's attention is left out. */
static const float FAINT = 0.01f;

static int64_t values_of(const struct rank_dims *n, bool rotates)
{
    return (rotates ? 3 : 1) * n->dh / 2;
}

int64_t logit_sums(const struct logit *m)
{
    return m->n.H * 2 * m->m * m->m + 2;
}

bool logit_init(struct logit *m, const struct rank_dims *n, bool rotates, struct err *e)
{
    *m = (struct logit){.n = *n, .rotates = rotates, .m = values_of(n, rotates)};
    m->sums = doubles_new(1, logit_sums(m), e);
    return m->sums;
}

void logit_free(struct logit *m)
{
    free(m->sums);
    memset(m, 0, sizeof *m);
}

double logit_bytes(const struct rank_dims *n, bool rotates, int64_t T)
{
    const double m = (double)values_of(n, rotates), threads = omp_get_max_threads();
    const double t = (double)T, heads = (double)(n->H / n->G);

    return 8 * ((double)n->H * 2 * m * m + 2) +                          /* sums */
           8 * threads * ((t + 1) * m + 2 * heads * (m + 1) * (m + 1)) + /* rows; a choice */
           4 * t * (2 * (double)(n->G * n->dh) + threads * 2);           /* attend.h */
}

/* What the queries of a sample are seen with. */
struct seeing {
    struct logit *m;
    const struct attend *a;
    double *rows; /* [threads, T + 1, m] */
};

/* [a; b; d] of pair i, or d alone. */
static void fill_pair(const struct seeing *s, const struct attend_query *now, int64_t j, int64_t i,
                      double *row)
{
    const int64_t P = s->m->n.dh / 2, T = s->a->x->T;
    const float *k = now->keys + i * 4 * T + j, *q = now->q + i;
    const double u = (double)k[0], v = (double)k[T], x = (double)q[0], y = (double)q[P];
    const double a = x * u + y * v;
    const double with = (double)q[2 * P] * (double)k[2 * T] + (double)q[3 * P] * (double)k[3 * T];

    if (s->m->rotates) {
        row[i] = a;
        row[P + i] = x * v - y * u;
        row += 2 * P;
    }
    row[i] = with - a;
}

/* Rows sqrt(p) (x - mean) of the keys that count; returns their number, -1 if the attention is no
 * number. The row behind them is scratch. */
static int64_t fill_rows(const struct seeing *s, const struct attend_query *now, double *rows)
{
    const int64_t m = s->m->m, keys = now->t + 1;
    double *mean = rows + s->a->x->T * m, sum = 0;
    float top = 0, *kept = now->room;
    int64_t n = 0;

    for (int64_t j = 0; j < keys; j++)
        top = now->p[j] > top ? now->p[j] : top;
    if (!(top > 0)) return -1;
    for (int64_t j = 0; j < keys; j++)
        if (now->p[j] >= FAINT * top) sum += (double)now->p[j];
    memset(mean, 0, (size_t)m * sizeof *mean);
    for (int64_t j = 0; j < keys; j++) {
        double *row = rows + n * m;
        if (!(now->p[j] >= FAINT * top)) continue;
        for (int64_t i = 0; i < s->m->n.dh / 2; i++)
            fill_pair(s, now, j, i, row);
        for (int64_t i = 0; i < m; i++)
            mean[i] += (double)now->p[j] / sum * row[i];
        kept[n++] = now->p[j];
    }
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < m; i++)
            rows[k * m + i] = sqrt((double)kept[k] / sum) * (rows[k * m + i] - mean[i]);
    return n;
}

static void see_query(void *arg, const struct attend_query *now)
{
    const struct seeing *s = arg;
    const int64_t m = s->m->m;
    double *rows = s->rows + omp_get_thread_num() * (s->a->x->T + 1) * m;
    double *sum = s->m->sums + (now->h * 2 + s->a->x->modality[now->t]) * m * m;

    const int64_t n = fill_rows(s, now, rows);

    if (n < 0)
        sum[0] = (double)NAN;
    else
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)m, (int)n, 1, rows, (int)m, 1, sum,
                    (int)m);
}

bool logit_see(struct logit *m, const struct rank_sample *x, int64_t max_queries, struct err *e)
{
    const int blas_threads = openblas_get_num_threads();
    struct attend a = {0};
    struct seeing s = {.m = m, .a = &a};
    bool ok = attend_open(&a, &m->n, x, max_queries, x->T, e);

    if (ok) {
        attend_by_head(&a);
        s.rows = mem_new((size_t)omp_get_max_threads(),
                         (size_t)((x->T + 1) * m->m) * sizeof *s.rows, "RoPE ranking rows", e);
        ok = s.rows;
    }
    openblas_set_num_threads(1);
    if (ok) attend_each(&a, see_query, &s);
    openblas_set_num_threads(blas_threads);
    for (int64_t r = 0; ok && r < a.queries; r++)
        m->sums[logit_sums(m) - 2 + x->modality[attend_position(&a, r)]] += 1;
    free(s.rows);
    attend_close(&a);
    return ok;
}
