/* plot.h - the recovery curve: score relative to the base model over trained tokens, one
 * curve per cache size. */
#ifndef TRAIN_REPORT_PLOT_H
#define TRAIN_REPORT_PLOT_H

#include "base/err.h"

#include <stddef.h>

struct curve {
    const char *label;
    const double *x_tokens; /* [n], ascending; 0 is directly after the decomposition */
    const double *y_score;  /* [n], in the unit of base_score; NaN leaves a gap */
    size_t n;
    const double *y_error; /* [n] standard errors of y_score, NaN: none is known; NULL: of all */
};

struct recovery_plot {
    const char *title;
    double base_score; /* > 0: 100 % */
    const struct curve *curves;
    size_t n;
};

/* Writes recovery.tsv, recovery.gnuplot and recovery.png to dir, as gnuplot.h says. */
bool plot_recovery(const char *dir, const struct recovery_plot *p, struct err *note, struct err *e);

#endif
