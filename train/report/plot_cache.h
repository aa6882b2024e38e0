/* plot_cache.h - score against cache: for each recipe of a run the score straight after the
 * conversion and after stage 2, over the share of the cache that is left; or for each model the
 * scores with the kinds of cache, over the bytes of a token. */
#ifndef TRAIN_REPORT_PLOT_CACHE_H
#define TRAIN_REPORT_PLOT_CACHE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* What the caches are measured in, and the picture's name. */
enum cache_axis {
    CACHE_SHARE,
    CACHE_BYTES
}; /* recipes: percent; caches: bytes, by powers of two */

/* In percent, the cache as its axis says; NaN: there is no score. */
struct cache_score {
    double cache, svd, stage2;
    const char *kind; /* of the cache; of CACHE_BYTES */
    double error[2];  /* of the difference from the first recipe; NaN: none; of CACHE_SHARE */
};

struct cache_curve {
    const char *label;
    const struct cache_score *at; /* [n], by ascending cache */
    size_t n;
    bool whole; /* its label says all: the scores are `stage2` alone, of no training */
};

struct cache_plot {
    const char *title, *score; /* what the scores are: "exact match" */
    double base;               /* its score, in percent; NaN: there is none */
    const struct cache_curve *curves;
    size_t n;
    enum cache_axis axis;
};

/* Writes NAME.tsv, NAME.gnuplot and NAME.png to dir, as gnuplot.h says. */
bool plot_cache(const char *dir, const struct cache_plot *p, struct err *note, struct err *e);
/* Deletes those of an earlier report, where there is nothing to draw. */
bool plot_cache_remove(const char *dir, enum cache_axis axis, struct err *e);

#endif
