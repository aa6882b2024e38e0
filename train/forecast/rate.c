/* rate.c - see rate.h. */
#include "train/forecast/rate.h"
#include "autograd/gemm.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>

static const double LONG_ENOUGH = 0.1; /* seconds */

static double best_of(int64_t rows, int64_t width, const real *x, const real *w, real *y,
                      void *scratch)
{
    const double flop = 2 * (double)rows * (double)width * (double)width;
    double best = 0, all = 0;

    for (int i = 0; i < 2 || all < LONG_ENOUGH; i++) { /* the first one warms up */
        const double begin = clock_seconds();
        gemm(rows, width, width, mat_of(x, width, false), mat_of(w, width, true), false, y, width,
             scratch);
        const double took = clock_seconds() - begin;
        all += took;
        if (i && took > 0 && flop / took > best) best = flop / took;
    }
    return best;
}

double rate_of_products(int64_t rows, int64_t width)
{
    const size_t x = (size_t)(rows * width), w = (size_t)(width * width);
    struct err no;
    real *m = mem_new(2 * x + w, sizeof *m, "a product", &no);
    void *scratch = mem_new(gemm_scratch(rows, width, width, DT_REAL) + 1, 1, "a product", &no);
    double rate = 0;

    for (size_t i = 0; m && i < x + w; i++)
        m[i] = (real)(i % 7) - 3;
    if (m && scratch) rate = best_of(rows, width, m, m + x, m + x + w, scratch);
    free(m);
    free(scratch);
    return rate;
}
