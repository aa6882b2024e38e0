/* work.h - the kinds of work timed by `make bench`. Each is opened once, run repeatedly, and
 * closed; bench/side.c drives ours, and bench/torch_side.py has the same ones with the same names,
 * arguments and facts. Those of several processes (bench/cluster.c) are ours alone. */
#ifndef BENCH_LIB_WORK_H
#define BENCH_LIB_WORK_H

#include "base/err.h"

#include <stdint.h>

enum { WORK_ARGS = 16 };
struct work_args {
    int n;
    char *word[WORK_ARGS]; /* "KEY=VALUE" */
};
/* The value of KEY, or `or` if not given; with NULL or 0 it is required. */
const char *work_text(const struct work_args *a, const char *key, const char * or);
int64_t work_number(const struct work_args *a, const char *key, int64_t or);

/* Prints a line "fact NAME VALUE". "check" is a number on which both sides must agree, "flop" the
 * work of a run, "units" the tokens or pictures of a run. */
void work_fact(const char *name, double value);

struct work {
    const char *name;
    /* Returns a new state, or NULL; reports its facts. */
    void *(*open)(const struct work_args *a, struct err *e);
    /* Runs once; adds the work done to *units. */
    bool (*run)(void *state, double *units, struct err *e);
    /* Reports what is known after the last run. NULL: nothing. */
    bool (*finish)(void *state, struct err *e);
    void (*close)(void *state);
};
extern const struct work work_step, work_tower, work_attention, work_decode, work_mdsvd,
    work_images, work_train, work_cluster_step, work_cluster_svd, work_cluster_features,
    work_cluster_exchange;

#endif
