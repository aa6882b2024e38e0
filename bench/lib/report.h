/* report.h - the table of `make bench` as Markdown. */
#ifndef BENCH_LIB_REPORT_H
#define BENCH_LIB_REPORT_H

#include "base/file.h"
#include "bench/lib/child.h"

enum { REPEATS_MOST = 16 };
struct row;

/* The results of a row's repeats: rates or seconds of ours [0] and of the other side [1], if any,
 * and the facts reported. */
struct result {
    int sides; /* 1 or 2 */
    int n;
    double value[2][REPEATS_MOST];
    struct child side[2];
    double product[REPEATS_MOST]; /* GFLOP/s of the product before each repeat, of the row's dtype
                                   * where the CPU has it; 0: not measured */
    double memory; /* GB/s at which memory was read between the repeats; 0: not measured */
};

struct report {
    struct file_out out;
    bool brief;
    const char *python; /* "": none */
    int threads, gemm_side;
    double gemm[2]; /* GFLOP/s by enum gemm_compute; 0 for bf16 if the CPU has no instructions */
};

/* Writes the machine, versions, the method of measurement, and the table's head. */
bool report_begin(struct report *r, struct err *e);
void report_group(struct report *r, const char *group);
void report_row(struct report *r, const struct row *row, const struct result *x);
/* Publishes the file. gemm: the rates measured at the end. */
bool report_end(struct report *r, const double gemm[2], struct err *e);

#endif
