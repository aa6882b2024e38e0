/* log.c - lines for the user on stdout and in the run's log. */
#include "base/log.h"
#include "base/clock.h"
#include "base/signals.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static FILE *file;
static bool pending;            /* a progress line stands on the terminal */
static double last_progress;    /* seconds, of the last progress line off a terminal */
static const double quiet = 10; /* seconds between progress lines off a terminal */

static void clear_progress(void)
{
    if (pending) fputs("\r\033[K", stdout);
    pending = false;
}

/* `| tee log` ends by the same Ctrl-C as this program does: no reason to end unsaved. */
static void flush(void)
{
    if (fflush(stdout) != 0 && errno == EPIPE) signals_pipe_broke();
}

bool log_open(const char *path, struct err *e)
{
    log_close();
    file = fopen(path, "a");
    return file || err_set(e, "%s: %s", path, strerror(errno));
}

void log_close(void)
{
    clear_progress(); /* an error comes after it, on a line of its own */
    fflush(stdout);
    if (file) fclose(file);
    file = NULL;
}

/* The line by printf's rules, plain (text_plain); the caller frees it. NULL out of memory: a line
 * less on the terminal is no reason to end a run. */
static char *format(const char *fmt, va_list ap)
{
    char *line = NULL, *plain;
    int n = vasprintf(&line, fmt, ap);

    if (n < 0) return NULL;
    plain = text_plain_new(line, (size_t)n);
    free(line);
    return plain;
}

void log_line(const char *fmt, ...)
{
    va_list ap;
    char *line;

    va_start(ap, fmt);
    line = format(fmt, ap);
    va_end(ap);
    clear_progress();
    printf("%s\n", line ? line : "(out of memory for a line)");
    flush();
    if (file) {
        char when[32];
        time_t now = time(NULL);
        struct tm tm;
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &tm));
        fprintf(file, "%s  %s\n", when, line ? line : "(out of memory for a line)");
        fflush(file);
    }
    free(line);
}

void log_progress(const char *fmt, ...)
{
    double now = clock_seconds();
    va_list ap;
    char *line;

    if (!isatty(STDOUT_FILENO)) {
        if (now - last_progress < quiet) return;
        last_progress = now;
    } else {
        clear_progress();
        pending = true;
    }
    /* Cut at the terminal's edge: of a line that goes on below, only the end would be cleared. */
    if (pending) fputs("\033[?7l", stdout);
    va_start(ap, fmt);
    line = format(fmt, ap);
    va_end(ap);
    if (line) fputs(line, stdout);
    free(line);
    fputs(pending ? "\033[?7h" : "\n", stdout);
    flush();
}
