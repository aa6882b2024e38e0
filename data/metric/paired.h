/* paired.h - what a score, and the difference between two models' scores of the same samples, say
 * beyond chance. Pure functions; the sums run in the order of the samples.
 *
 *     double x[n], y[n];   scores of the base and of the converted model, sample by sample
 *     struct paired p;
 *     if (!paired_compare(x, y, cluster, n, &p, e)) return false;
 *     ... p.difference +- PAIRED_Z * p.difference_se, p.p, p.shown ...
 *
 * For figures that are no mean of samples (F1, sums over categories): bootstrap.h. */
#ifndef DATA_METRIC_PAIRED_H
#define DATA_METRIC_PAIRED_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Two-sided 95 % of a normal distribution. */
#define PAIRED_Z 1.959963984540054

struct interval {
    double low, high;
};

/* The Wilson interval, 95 %, of a share of `right` out of n, 0 to 1; NaN if n is 0. Unlike
 * p +- z SE it holds near 0 and 1. `right` may be a sum of partial credits. */
struct interval interval_wilson(double right, double n);

/* value +- PAIRED_Z * se. */
struct interval interval_normal(double value, double se);

/* McNemar's test: of the samples on which the two disagree, `lost` are right with the first model
 * alone and `won` with the second alone; how likely is so uneven a split, or a more uneven one, if
 * each were as likely? 0 to 1. From Bin(lost + won, 1/2), two-sided; the mid-p counts the observed
 * split half, since the exact test is conservative (Fagerland, Lydersen, Laake 2013). */
double mcnemar_mid(int64_t lost, int64_t won);

struct paired {
    size_t n;
    double base, converted;           /* the means */
    double difference, difference_se; /* mean of y - x */
    double recovered, recovered_se;   /* mean y / mean x, its error by the delta method; NaN if
                                       * the base's mean is 0. Where lower is better, mean x / mean
                                       * y (metric_figure_compare) */
    bool lower;                       /* the lower, the better */
    bool binary;                      /* all scores are 0 or 1: then these are set */
    int64_t lost, won;
    double p; /* mcnemar_mid; NaN where samples share a cluster, for it takes each for itself */
    struct interval interval, recovered_interval; /* 95 % */
    bool shown; /* the interval of the difference leaves 0 out: a difference is shown */
};

/* Compares x[n] with y[n]. Samples of equal cluster[i], such as questions about one picture, may
 * depend on each other, which the errors respect (data/metric/metric.h); NULL: none do. With n < 2
 * the errors and intervals are NaN. Fails if memory is short. */
bool paired_compare(const double *x, const double *y, const int64_t *cluster, size_t n,
                    struct paired *out, struct err *e);

/* The plain mean over `tasks` values, each with its error: se^2 = sum se_k^2 / tasks^2. Tasks weigh
 * alike, however many samples they have. NaN without tasks. */
void paired_mean(const double *value, const double *se, size_t tasks, double *mean,
                 double *mean_se);

#endif
