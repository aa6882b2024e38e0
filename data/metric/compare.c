/* compare.c - the error of a figure, and the same figure of two models: by formula where the figure
 * is a mean, by drawing clusters of samples where it is not. */
#include "base/mem.h"
#include "base/rng.h"
#include "data/metric/bootstrap.h"
#include "data/metric/metric_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 1234 }; /* of the draws: any fixed number */

/* ---- figures that are means ---- */

/* What a figure is a mean of, apart. */
struct parts {
    double *value;
    int64_t *cluster;
    size_t n;
};

static void parts_free(struct parts *p)
{
    free(p->value);
    free(p->cluster);
}

static bool parts_of(struct parts *p, const struct metric_figure *f,
                     const struct metric_item *items, size_t n, struct err *e)
{
    struct metric_value *v = mem_new(n, sizeof *v, "values of a figure", e);
    bool ok;

    p->value = mem_new(n, sizeof *p->value, "values of a figure", e);
    p->cluster = mem_new(n, sizeof *p->cluster, "values of a figure", e);
    ok = v && p->value && p->cluster && f->values(items, n, v, &p->n, e);
    for (size_t i = 0; ok && i < p->n; i++) {
        p->value[i] = v[i].value;
        p->cluster[i] = v[i].cluster;
    }
    free(v);
    return ok;
}

static bool mean_error(const struct metric_figure *f, const struct metric_item *items, size_t n,
                       double *out, struct err *e)
{
    struct parts p = {0};
    bool ok =
        parts_of(&p, f, items, n, e) && metric_stderr_clustered(p.value, p.cluster, p.n, out, e);

    parts_free(&p);
    return ok;
}

/* Where lower is better: what is recovered is base / converted, so that more of it is better. */
static bool turn(const struct parts *x, const struct parts *y, struct paired *out, struct err *e)
{
    struct paired turned;

    if (!paired_compare(y->value, x->value, x->cluster, x->n, &turned, e)) return false;
    out->lower = true;
    out->recovered = turned.recovered;
    out->recovered_se = turned.recovered_se;
    out->recovered_interval = turned.recovered_interval;
    return true;
}

static bool mean_compare(const struct metric_figure *f, const struct metric_item *a,
                         const struct metric_item *b, size_t n, struct paired *out, struct err *e)
{
    struct parts x = {0}, y = {0};
    bool ok = parts_of(&x, f, a, n, e) && parts_of(&y, f, b, n, e);

    CHECK(!ok || x.n == y.n);
    ok = ok && paired_compare(x.value, y.value, x.cluster, x.n, out, e) &&
         (!f->lower || turn(&x, &y, out, e));
    parts_free(&x);
    parts_free(&y);
    return ok;
}

/* ---- all others: by draws ---- */

struct drawn {
    const struct metric_figure *f;
    const struct metric_item *a, *b; /* [n]; b NULL: the figure of a, else as `ratio` says */
    bool ratio;                      /* b / a; else b - a */
    struct metric_item *some;        /* [cap] of a draw */
    size_t cap;
};

static bool figure_of_draw(struct drawn *d, const struct metric_item *all, const size_t *row,
                           const int64_t *copy, size_t n, double *out, struct err *e)
{
    if (!mem_grow(&d->some, &d->cap, n, sizeof *d->some, e)) return false;
    for (size_t i = 0; i < n; i++) {
        d->some[i] = all[row[i]];
        /* A picture drawn twice is two pictures. */
        d->some[i].group = (int64_t)rng_at((uint64_t)copy[i], (uint64_t)all[row[i]].group);
    }
    return d->f->value(d->some, n, out, e);
}

static bool draw(void *arg, const size_t *row, const int64_t *copy, size_t n, double *out,
                 struct err *e)
{
    struct drawn *d = arg;
    double base;

    if (!d->b) return figure_of_draw(d, d->a, row, copy, n, out, e);
    if (!figure_of_draw(d, d->a, row, copy, n, &base, e) ||
        !figure_of_draw(d, d->b, row, copy, n, out, e))
        return false;
    *out = d->ratio ? *out / base : *out - base;
    return true;
}

static bool run_draws(struct drawn *d, size_t n, struct bootstrap_result *out, struct err *e)
{
    struct bootstrap b = {.n = n, .draws = BOOTSTRAP_DRAWS, .seed = SEED, .figure = draw, .arg = d};
    int64_t *cluster = mem_new(n, sizeof *cluster, "clusters", e);
    bool ok = cluster;

    for (size_t i = 0; ok && i < n; i++)
        cluster[i] = d->a[i].cluster;
    b.cluster = cluster;
    ok = ok && bootstrap_run(&b, out, e);
    free(cluster);
    free(d->some);
    d->some = NULL;
    d->cap = 0;
    return ok;
}

static bool drawn_error(const struct metric_figure *f, const struct metric_item *items, size_t n,
                        double *out, struct err *e)
{
    struct drawn d = {.f = f, .a = items};
    struct bootstrap_result r;

    if (!run_draws(&d, n, &r, e)) return false;
    *out = r.se;
    return true;
}

static bool drawn_compare(const struct metric_figure *f, const struct metric_item *a,
                          const struct metric_item *b, size_t n, struct paired *out, struct err *e)
{
    struct drawn d = {.f = f, .a = a, .b = b}, q = {.f = f, .a = a, .b = b, .ratio = true};
    struct bootstrap_result difference, ratio;

    if (!f->value(a, n, &out->base, e) || !f->value(b, n, &out->converted, e) ||
        !run_draws(&d, n, &difference, e) || !run_draws(&q, n, &ratio, e))
        return false;
    out->n = n;
    out->difference = out->converted - out->base;
    out->difference_se = difference.se;
    out->interval = difference.interval;
    out->recovered = out->base > 0 ? out->converted / out->base : NAN;
    out->recovered_se = ratio.se;
    out->recovered_interval = ratio.interval;
    out->p = NAN;
    out->shown = out->interval.low > 0 || out->interval.high < 0;
    return true;
}

/* ---- both ---- */

bool metric_figure_error(const struct metric_figure *f, const struct metric_item *items, size_t n,
                         double *out, struct err *e)
{
    struct metric_item *those = mem_new(n, sizeof *those, "items", e);
    size_t k = those ? metric_figure_items(f, those, items, n) : 0;
    bool ok = those;

    *out = NAN;
    if (k && f->most > 0)
        ok = f->values ? mean_error(f, those, k, out, e) : drawn_error(f, those, k, out, e);
    free(those);
    return ok;
}

bool metric_figure_compare(const struct metric_figure *f, const struct metric_item *a,
                           const struct metric_item *b, size_t n, struct paired *out, struct err *e)
{
    struct metric_item *x = mem_new(n, sizeof *x, "items", e);
    struct metric_item *y = mem_new(n, sizeof *y, "items", e);
    size_t k = x && y ? metric_figure_items(f, x, a, n) : 0;
    bool ok = x && y;

    memset(out, 0, sizeof *out);
    if (ok) CHECK(metric_figure_items(f, y, b, n) == k);
    if (k && f->most > 0)
        ok = f->values ? mean_compare(f, x, y, k, out, e) : drawn_compare(f, x, y, k, out, e);
    free(x);
    free(y);
    return ok;
}
