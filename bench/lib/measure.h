/* measure.h - shared by the bench programs: medians, the machine's own rate. */
#ifndef BENCH_LIB_MEASURE_H
#define BENCH_LIB_MEASURE_H

#include "autograd/tape.h"

/* Sorts v[n] (n > 0); the median, the mean of the middle two if n is even. */
double median(double *v, int n);

/* GFLOP/s of a square fp32 product with this side: the best of `repeats`, after one that is not
 * counted. Negative, with *e filled, if out of memory. */
double gemm_rate(int64_t side, int repeats, struct err *e);
/* The same for a bf16 product summed in fp32; requires onednn_has_bf16(). */
double gemm_rate_bf16(int64_t side, int repeats, struct err *e);

/* GB/s at which memory is read by all threads: the best of `repeats` passes over 1 GiB. Negative,
 * with *e filled, if out of memory. */
double memory_rate(int repeats, struct err *e);

double peak_mib(void); /* of this process so far */

#endif
