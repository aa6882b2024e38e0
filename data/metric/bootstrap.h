/* bootstrap.h - the error of a figure that is no mean of samples: clusters of samples (questions
 * about one picture) are drawn with replacement, as many as there are, and the figure is computed
 * of what was drawn, over and over. The draws follow from the seed alone. What takes longer than a
 * second says how far it is (log_progress). */
#ifndef DATA_METRIC_BOOTSTRAP_H
#define DATA_METRIC_BOOTSTRAP_H

#include "data/metric/paired.h"

enum { BOOTSTRAP_DRAWS = 10000 };

/* The figure of a draw: sample i of it is row[i] of the originals, and belongs to the copy[i]-th
 * cluster drawn, from 0. May leave NaN in *out: such a draw is left out. */
typedef bool bootstrap_figure(void *arg, const size_t *row, const int64_t *copy, size_t n,
                              double *out, struct err *e);

struct bootstrap {
    const int64_t *cluster; /* [n] */
    size_t n;
    int64_t draws; /* 10,000: BOOTSTRAP_DRAWS */
    uint64_t seed;
    bootstrap_figure *figure;
    void *arg;
};

struct bootstrap_result {
    double se;                /* standard deviation over the draws */
    struct interval interval; /* percentiles 2.5 and 97.5, linear between ranks as numpy's */
};

/* NaN all through if fewer than two draws have a figure. */
bool bootstrap_run(const struct bootstrap *b, struct bootstrap_result *out, struct err *e);

#endif
