/* number.h - options of a command line that are numbers, as rows of a table; and
 * those that are refused. */
#ifndef TALK_NUMBER_H
#define TALK_NUMBER_H

#include "base/err.h"

struct number {
    const char *name; /* as it is written: "--temp" */
    double def, min, max;
    bool whole;
    bool draws; /* of no use where nothing is drawn */
};

/* Reads an option's text, once: *given says whether it came before. */
bool number_read(const struct number *n, const char *text, bool *given, double *value,
                 struct err *e);

/* What getopt_long has refused by returning `c` at `arg`, where a ':' stands before its short
 * options; `of` is its number (optopt), and the first n_numbers of them are `numbers`. */
struct refused {
    const char *arg;
    int c, of;
    const struct number *numbers;
    int n_numbers;
};
bool option_refuse(const struct refused *r, struct err *e);

#endif
