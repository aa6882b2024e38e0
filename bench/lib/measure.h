/* measure.h - what the bench programs share: medians, the machine's own rate, the work
 * of a graph. */
#ifndef BENCH_LIB_MEASURE_H
#define BENCH_LIB_MEASURE_H

#include "autograd/tape.h"

/* Sorts v[n] (n > 0); the middle one, of two middles the mean. */
double median(double *v, int n);

/* GFLOP/s of a square fp32 product of this side: the best of `repeats` behind one that is not
 * counted. Negative, with *e filled, where there is no memory. */
double gemm_rate(int64_t side, int repeats, struct err *e);
/* The same of a product of bf16, summed in fp32, where onednn_has_bf16(). */
double gemm_rate_bf16(int64_t side, int repeats, struct err *e);

/* Multiplications and additions that the products of the current graph need, forward and backward:
 * each gradient that is wanted is one product more. The head makes its logits, and attention its
 * scores, once more in the backward pass. */
double needed_flop(const struct tape *t);

double peak_mib(void); /* of this process so far */

#endif
