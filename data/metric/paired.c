/* paired.c - see paired.h. */
#include "data/metric/paired.h"
#include "base/mem.h"
#include "data/metric/metric_parts.h"

#include <math.h>
#include <stdlib.h>

struct interval interval_wilson(double right, double n)
{
    const double z2 = PAIRED_Z * PAIRED_Z, p = right / n;
    const double middle = (p + z2 / (2 * n)) / (1 + z2 / n);
    const double half = PAIRED_Z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n));
    struct interval out = {middle - half, middle + half};

    if (!(n > 0)) return (struct interval){NAN, NAN};
    if (out.low < 0 || right <= 0) out.low = 0; /* where rounding leaves it beside its bound */
    if (out.high > 1 || right >= n) out.high = 1;
    return out;
}

struct interval interval_normal(double value, double se)
{
    return (struct interval){value - PAIRED_Z * se, value + PAIRED_Z * se};
}

/* P[X <= m] and P[X = m] for X ~ Bin(n, 1/2). By logarithms: 2^-n alone is below the least double
 * from n = 1075 on. */
static void tail(int64_t m, int64_t n, double *up_to, double *at)
{
    int sign;
    const double N = (double)n, M = (double)m;
    double term = exp(lgamma_r(N + 1, &sign) - lgamma_r(M + 1, &sign) - lgamma_r(N - M + 1, &sign) -
                      N * log(2));

    *at = term;
    *up_to = 0;
    for (int64_t k = m; k >= 0 && term > 0; k--) {
        *up_to += term;
        term *= (double)k / (double)(n - k + 1);
    }
}

double mcnemar_mid(int64_t lost, int64_t won)
{
    double up_to, at;

    if (lost == won) return 1;
    tail(lost < won ? lost : won, lost + won, &up_to, &at);
    return fmin(2 * up_to - at, 1);
}

static bool mean_error(const double *x, const int64_t *cluster, size_t n, double *out,
                       struct err *e)
{
    *out = metric_stderr(x, n);
    return !cluster || metric_stderr_clustered(x, cluster, n, out, e);
}

/* Whether some cluster has more than one sample. */
static bool find_shared(const int64_t *cluster, size_t n, bool *shared, struct err *e)
{
    struct member *m = cluster ? mem_new(n, sizeof *m, "clusters", e) : NULL;

    *shared = false;
    if (!cluster) return true;
    for (size_t i = 0; m && i < n; i++)
        m[i] = (struct member){.key = cluster[i], .at = i};
    if (m) members_group(m, n);
    for (size_t i = 1; m && i < n; i++)
        *shared = *shared || m[i].first == m[i - 1].first;
    free(m);
    return m;
}

static void count_pairs(const double *x, const double *y, bool shared, struct paired *out)
{
    out->binary = true;
    for (size_t i = 0; i < out->n; i++) {
        out->binary = out->binary && (x[i] == 0 || x[i] == 1) && (y[i] == 0 || y[i] == 1);
        out->lost += x[i] > y[i];
        out->won += y[i] > x[i];
    }
    if (out->binary) {
        out->p = shared ? NAN : mcnemar_mid(out->lost, out->won);
    } else {
        out->lost = out->won = 0;
        out->p = NAN;
    }
}

/* Var R = Var(mean of y - R x) / (mean x)^2: the delta method, R held where it is. */
static bool recovered_error(const double *x, const double *y, const int64_t *cluster,
                            struct paired *out, double *rest, struct err *e)
{
    for (size_t i = 0; i < out->n; i++)
        rest[i] = y[i] - out->recovered * x[i];
    if (!mean_error(rest, cluster, out->n, &out->recovered_se, e)) return false;
    out->recovered_se /= out->base;
    return true;
}

bool paired_compare(const double *x, const double *y, const int64_t *cluster, size_t n,
                    struct paired *out, struct err *e)
{
    double *d = mem_new(n, sizeof *d, "differences of scores", e);
    bool shared, ok = d && find_shared(cluster, n, &shared, e);

    *out = (struct paired){.n = n, .base = metric_mean(x, n), .converted = metric_mean(y, n)};
    for (size_t i = 0; ok && i < n; i++)
        d[i] = y[i] - x[i];
    if (ok) {
        out->difference = metric_mean(d, n);
        out->recovered = out->base > 0 ? out->converted / out->base : NAN;
        count_pairs(x, y, shared, out);
    }
    ok = ok && mean_error(d, cluster, n, &out->difference_se, e) &&
         recovered_error(x, y, cluster, out, d, e);
    free(d);
    out->interval = interval_normal(out->difference, out->difference_se);
    out->recovered_interval = interval_normal(out->recovered, out->recovered_se);
    out->shown = out->interval.low > 0 || out->interval.high < 0;
    return ok;
}

void paired_mean(const double *value, const double *se, size_t tasks, double *mean, double *mean_se)
{
    double squares = 0;

    for (size_t i = 0; i < tasks; i++)
        squares += se[i] * se[i];
    *mean = metric_mean(value, tasks);
    *mean_se = tasks ? sqrt(squares) / (double)tasks : NAN;
}
