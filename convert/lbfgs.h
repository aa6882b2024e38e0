/* lbfgs.h - a smooth function of many values made smaller: limited-memory BFGS (Nocedal 1980) with
 * halved steps. In double and on the calling thread, so that the same function gives the same bits.
 * The function's value never rises. */
#ifndef CONVERT_LBFGS_H
#define CONVERT_LBFGS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct lbfgs_function {
    int64_t n;
    /* The value at x[n], and its gradient[n]; INFINITY, and any gradient, where it has none. */
    double (*value)(void *arg, const double *x, double *gradient);
    void *arg;
    double least; /* a value as good as any below it: of its rounding */
};

/* Takes up to `steps` steps from x[n], none if there is no value, and leaves x at the best point.
 * Ends early at f->least, or where no step lessens the value. *value: that of x. Fails if memory
 * runs out or a signal asks the run to stop. */
bool lbfgs_minimise(const struct lbfgs_function *f, double *x, int64_t steps, double *value,
                    struct err *e);

size_t lbfgs_scratch(int64_t n); /* bytes */

#endif
