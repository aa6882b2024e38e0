/* err.c - error messages, and aborting on a broken invariant. */
#include "base/err.h"
#include "base/limits.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool err_set(struct err *e, const char *fmt, ...)
{
    char msg[sizeof e->msg];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    text_plain(e->msg, sizeof e->msg, msg, strlen(msg));
    e->machine = strstr(fmt, "out of memory") != NULL;
    e->number = 0;
    return false;
}

/* Excludes the errnos that speak about the path or the file itself (ENOENT, EACCES, ...). */
static bool is_machine(int number)
{
    static const int numbers[] = {EAGAIN,          EDQUOT,    EINTR,  EIO,      EMFILE,
                                  ENFILE,          ENOBUFS,   ENOLCK, ENOMEM,   ENOSPC,
                                  ENOTRECOVERABLE, EREMOTEIO, ESTALE, ETIMEDOUT};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i] == number) return true;
    return false;
}

bool err_system(struct err *e, int number, const char *fmt, ...)
{
    char what[1500];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    err_set(e, what[0] ? "%s: %s" : "%s%s", what, strerror(number));
    e->machine = is_machine(number);
    e->number = number;
    return false;
}

bool err_context(struct err *e, const char *fmt, ...)
{
    char context[512];
    struct err was = *e;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    err_set(e, "%s: %s", context, was.msg);
    e->machine = was.machine;
    e->number = was.number;
    return false;
}

void err_no_memory(const char *what)
{
    struct err e;

    err_set(&e, "out of memory for %s", what);
    limits_name(&e);
    fflush(stdout);
    fprintf(stderr, "%s: error: %s\n", program_invocation_short_name, e.msg);
    _exit(1); /* other threads may still be running: tear nothing down under them */
}

void check_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, expr);
    abort();
}
