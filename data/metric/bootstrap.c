/* bootstrap.c - see bootstrap.h. */
#include "data/metric/bootstrap.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/metric/metric_parts.h"

#include <math.h>
#include <stdlib.h>

/* Samples grouped by cluster, and a draw of them. */
struct draw {
    struct member *m; /* [n] by cluster */
    size_t *begin;    /* [clusters + 1] into m */
    size_t clusters;
    size_t *row; /* [cap] */
    int64_t *copy;
    size_t n, cap_row, cap_copy;
};

static void draw_free(struct draw *d)
{
    free(d->m);
    free(d->begin);
    free(d->row);
    free(d->copy);
}

static bool draw_open(struct draw *d, const struct bootstrap *b, struct err *e)
{
    d->m = mem_new(b->n, sizeof *d->m, "clusters", e);
    d->begin = mem_new(b->n + 1, sizeof *d->begin, "clusters", e);
    if (!d->m || !d->begin) return false;
    for (size_t i = 0; i < b->n; i++)
        d->m[i] = (struct member){.key = b->cluster[i], .at = i};
    members_group(d->m, b->n);
    for (size_t i = 0; i < b->n; i++)
        if (!i || d->m[i].first != d->m[i - 1].first) d->begin[d->clusters++] = i;
    d->begin[d->clusters] = b->n;
    return true;
}

static bool draw_next(struct draw *d, struct rng *r, struct err *e)
{
    d->n = 0;
    for (size_t k = 0; k < d->clusters; k++) {
        const size_t c = rng_below(r, d->clusters), size = d->begin[c + 1] - d->begin[c];
        if (!mem_grow(&d->row, &d->cap_row, d->n + size, sizeof *d->row, e) ||
            !mem_grow(&d->copy, &d->cap_copy, d->n + size, sizeof *d->copy, e))
            return false;
        for (size_t i = d->begin[c]; i < d->begin[c + 1]; i++, d->n++) {
            d->row[d->n] = d->m[i].at;
            d->copy[d->n] = (int64_t)k;
        }
    }
    return true;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Of sorted v[n]; share 0 to 1. */
static double percentile(const double *v, size_t n, double share)
{
    const double at = share * (double)(n - 1);
    const size_t below = (size_t)at;

    return below + 1 < n ? v[below] + (at - (double)below) * (v[below + 1] - v[below]) : v[n - 1];
}

static void summarise(double *v, size_t n, struct bootstrap_result *out)
{
    *out = (struct bootstrap_result){NAN, {NAN, NAN}};
    if (n < 2) return;
    out->se = metric_stderr(v, n) * sqrt((double)n);
    qsort(v, n, sizeof *v, by_value);
    out->interval = (struct interval){percentile(v, n, 0.025), percentile(v, n, 0.975)};
}

/* Of what takes longer than a second. */
static void say_progress(int64_t done, int64_t draws, double begin)
{
    enum { BETWEEN = 64 }; /* draws between two looks at the clock */

    if (done % BETWEEN == 0 && clock_seconds() - begin > 1)
        log_progress("error of a figure: %lld of %lld draws", (long long)done, (long long)draws);
}

bool bootstrap_run(const struct bootstrap *b, struct bootstrap_result *out, struct err *e)
{
    double *v = mem_new((size_t)b->draws, sizeof *v, "draws", e);
    const double begin = clock_seconds();
    struct draw d = {0};
    struct rng r;
    size_t n = 0;
    bool ok = v && draw_open(&d, b, e);

    rng_seed(&r, b->seed, 0);
    for (int64_t i = 0; ok && d.clusters && i < b->draws; i++) {
        ok = draw_next(&d, &r, e) && b->figure(b->arg, d.row, d.copy, d.n, &v[n], e);
        if (ok && isfinite(v[n])) n++;
        say_progress(i, b->draws, begin);
    }
    if (ok) summarise(v, n, out);
    draw_free(&d);
    free(v);
    return ok;
}
