/* files.h - the files that a bench works on, made once, and the texts that name them: in these @
 * is the directory of the files, $ that of the programs, and {A|B} is A, or B in the short form
 * of a bench. */
#ifndef BENCH_LIB_FILES_H
#define BENCH_LIB_FILES_H

#include "base/err.h"

struct bench_files {
    bool brief;
    const char *work, *programs;
    const char *source; /* the file whose head says how the bench is used */
};

struct preparation {
    const char *made, *command; /* nothing is done if `made` already exists */
};

/* An option of a bench that has a value. */
struct bench_option {
    const char *name, **text;
};

/* Reads --short, and those of `known`, which ends with a name of NULL. */
bool files_options(struct bench_files *f, const struct bench_option *known, int argc, char **argv,
                   struct err *e);
/* The text with its placeholders replaced, in new memory. */
char *files_expand(const struct bench_files *f, const char *text, struct err *e);
/* Runs the text as a shell command. */
bool files_shell(const struct bench_files *f, const char *text, struct err *e);
/* Makes the directory, and what is not there of p[n]. */
bool files_prepare(const struct bench_files *f, const struct preparation *p, int n, struct err *e);

#endif
