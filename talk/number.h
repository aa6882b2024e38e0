/* number.h - options of a command line that are numbers, as rows of a table. */
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

#endif
