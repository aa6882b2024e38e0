/* work.h - the kinds of work that the table of `make bench` times. Each is opened once, run again
 * and again, and closed; bench/side.c drives ours and bench/torch_side.py has the same ones by the
 * same names, arguments and facts. */
#ifndef BENCH_LIB_WORK_H
#define BENCH_LIB_WORK_H

#include "base/err.h"

#include <stdint.h>

enum { WORK_ARGS = 16 };
struct work_args {
    int n;
    char *word[WORK_ARGS]; /* "KEY=VALUE" */
};
/* The value of KEY, or where it was not given `or`; with NULL or 0 there it must be given. */
const char *work_text(const struct work_args *a, const char *key, const char * or);
int64_t work_number(const struct work_args *a, const char *key, int64_t or);

/* Prints a line "fact NAME VALUE". "check" is a number that both sides must agree in, "flop" what a
 * run needs, "units" the tokens or pictures of a run. */
void work_fact(const char *name, double value);

struct work {
    const char *name;
    /* New state, or NULL; says its facts. */
    void *(*open)(const struct work_args *a, struct err *e);
    /* Once; adds what was done to *units. */
    bool (*run)(void *state, double *units, struct err *e);
    /* Says what is known after the last run. NULL: nothing. */
    bool (*finish)(void *state, struct err *e);
    void (*close)(void *state);
};
extern const struct work work_step, work_tower, work_attention, work_decode, work_mdsvd,
    work_images, work_train;

#endif
