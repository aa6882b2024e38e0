/* err.c - formatting of error messages, and the end of the program on a broken invariant. */
#include "base/err.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool err_set(struct err *e, const char *fmt, ...)
{
    char msg[sizeof e->msg];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    text_plain(e->msg, sizeof e->msg, msg, strlen(msg));
    e->memory = strstr(fmt, "out of memory") != NULL;
    return false;
}

bool err_context(struct err *e, const char *fmt, ...)
{
    char context[512];
    bool memory = e->memory;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    err_set(e, "%s: %s", context, e->msg);
    e->memory = memory;
    return false;
}

void check_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, expr);
    abort();
}
