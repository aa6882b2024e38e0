/* rate.h - how fast this process multiplies, for what the dry run says about time. */
#ifndef TRAIN_FORECAST_RATE_H
#define TRAIN_FORECAST_RATE_H

#include <stdint.h>

/* Multiplications and additions a second, on all threads and as gemm_setup has chosen, of x[rows,
 * width] times the transpose of w[width, width], as linear layers have them: the best of a few,
 * which take a tenth of a second or as long as two. 0: there is no memory for them. */
double rate_of_products(int64_t rows, int64_t width);

#endif
