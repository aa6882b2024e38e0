/* child.h - one side of a measurement as a process driven line by line (bench/side.c). */
#ifndef BENCH_LIB_CHILD_H
#define BENCH_LIB_CHILD_H

#include "base/err.h"

#include <stdio.h>
#include <sys/types.h>

enum { CHILD_FACTS = 16 };
struct child {
    const char *name; /* for messages */
    pid_t pid;        /* 0: none */
    FILE *in, *out;   /* its stdin, its stdout */
    int n_facts;
    struct fact {
        char name[32];
        double value;
    } facts[CHILD_FACTS];
};

/* argv as for execvp. */
bool child_start(struct child *c, const char *name, const char *const *argv, struct err *e);
/* Closes its stdin and waits. Fine if there is none. */
void child_end(struct child *c);

/* child_open opens a work, child_step runs it n times, child_close closes it; what the child
 * reported is in facts until the next child_open. */
bool child_open(struct child *c, const char *work, struct err *e);
bool child_step(struct child *c, int n, double *seconds, double *units, struct err *e);
bool child_close(struct child *c, struct err *e);

const double *child_fact(const struct child *c, const char *name); /* or NULL */

#endif
