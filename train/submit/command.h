/* command.h - runs one of Slurm's programs and takes what it prints. */
#ifndef TRAIN_SUBMIT_COMMAND_H
#define TRAIN_SUBMIT_COMMAND_H

#include "base/err.h"

#include <stddef.h>

struct command_output {
    char *text;    /* what it printed, NUL-terminated; freed by command_free */
    char why[600]; /* its standard error, lines joined by "; ", "" if there was none */
    int status;    /* as a shell reports it */
};

/* Runs argv (NULL-terminated) without a shell, found by PATH, and waits for it; at most 16 MiB of
 * output are read. True if it could be run, whatever its status. The message of a failure says that
 * it is not in PATH, with e->number ENOENT, or what the system said. */
bool command_run(const char *const *argv, struct command_output *out, struct err *e);
/* The same, but any status except 0 fails: "PROGRAM: WHY". */
bool command_must(const char *const *argv, struct command_output *out, struct err *e);
void command_free(struct command_output *out); /* fine on a zeroed struct */

/* Whether PATH has such a program. */
bool command_there(const char *name);

#endif
