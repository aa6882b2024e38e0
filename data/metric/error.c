/* error.c - means and their standard errors, summed in the order of the samples. */
#include "base/mem.h"
#include "data/metric/metric_parts.h"

#include <math.h>
#include <stdlib.h>

double metric_mean(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n ? sum / (double)n : NAN;
}

/* sum (x - mean)^2 / (n - 1) */
static double variance(const double *x, size_t n)
{
    double mean = metric_mean(x, n), sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return n > 1 ? sum / (double)(n - 1) : NAN;
}

double metric_stderr(const double *x, size_t n)
{
    return sqrt(variance(x, n)) / sqrt((double)n);
}

/* Over clusters of [(sum d)^2 - sum d^2]. */
static double cross_terms(const double *x, double mean, const struct member *m, size_t n)
{
    double all = 0;

    for (size_t i = 0, end; i < n; i = end) {
        double sum = 0, squares = 0;
        for (end = i; end < n && m[end].first == m[i].first; end++) {
            double d = x[m[end].at] - mean;
            sum += d;
            squares += d * d;
        }
        all += sum * sum - squares;
    }
    return all;
}

bool metric_stderr_clustered(const double *x, const int64_t *cluster, size_t n, double *out,
                             struct err *e)
{
    struct member *m = mem_new(n, sizeof *m, "clusters", e);
    double cross;

    if (!m) return false;
    for (size_t i = 0; i < n; i++)
        m[i] = (struct member){.key = cluster[i], .at = i};
    members_group(m, n);
    cross = cross_terms(x, metric_mean(x, n), m, n) / ((double)n * (double)n);
    *out = sqrt(variance(x, n) / (double)n + cross);
    free(m);
    return true;
}
