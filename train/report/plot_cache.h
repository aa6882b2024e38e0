/* plot_cache.h - score against cache: for each recipe of a run the score straight after the conversion
 * and after stage 2, over the share of the cache that is left. */
#ifndef TRAIN_REPORT_PLOT_CACHE_H
#define TRAIN_REPORT_PLOT_CACHE_H

#include "base/err.h"

#include <stddef.h>

/* In percent; NaN: there is no score. */
struct cache_score {
    double cache, svd, stage2;
};

struct cache_curve {
    const char *label;
    const struct cache_score *at; /* [n], by ascending cache */
    size_t n;
};

struct cache_plot {
    const char *title, *score; /* what the scores are: "exact match" */
    double base;               /* its score, in percent; NaN: there is none */
    const struct cache_curve *curves;
    size_t n;
};

/* Writes recipes.tsv, recipes.gnuplot and recipes.png to dir, as gnuplot.h says. */
bool plot_cache(const char *dir, const struct cache_plot *p, struct err *note, struct err *e);

#endif
