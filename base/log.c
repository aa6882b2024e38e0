/* log.c - lines for the user, on stdout and in the run's log. */
#include "base/log.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static FILE *screen; /* NULL: stdout */
static FILE *file;   /* the log; before it has a name, the buffer of kept lines */
static char *kept;   /* that buffer, or NULL */
static size_t n_kept;
static char *path;
static int lost, lost_stdout; /* errno of the first failed write, to the file and to stdout */
static bool no_terminal;
static bool pending;            /* a progress line is on the terminal */
static double last_progress;    /* when the last progress line was printed, off a terminal */
static const double quiet = 10; /* seconds between progress lines off a terminal */

static FILE *shown(void)
{
    return screen ? screen : stdout;
}

void log_progress_end(void)
{
    if (pending) fputs("\r\033[K", shown());
    pending = false;
}

/* In `| tee log`, Ctrl-C kills the reader along with this program: not a reason to quit without
 * saving. */
static void flush(FILE *fp, int *error)
{
    if (!ferror(fp) && fflush(fp) == 0) return;
    if (!*error) *error = errno ? errno : EIO;
    if (fp == stdout && *error == EPIPE) signals_pipe_broke();
}

bool log_keep(struct err *e)
{
    file = open_memstream(&kept, &n_kept);
    return file || err_set(e, "out of memory for the log");
}

bool log_open(const char *name, struct err *e)
{
    FILE *fp = fopen(name, "a");
    bool ok = fp || err_system(e, errno, "%s", name);

    if (ok && file) {
        /* glibc: NULL if the text could not be grown to its size */
        ok = (fclose(file) == 0 && kept) || err_set(e, "out of memory for the log");
        file = NULL;
    }
    path = ok ? mem_strdup(name, e) : NULL;
    if (!path) {
        if (fp) fclose(fp);
        return false;
    }
    file = fp;
    if (kept) {
        fwrite(kept, 1, n_kept, file);
        flush(file, &lost);
    }
    free(kept);
    kept = NULL;
    return true;
}

bool log_close(struct err *e)
{
    bool ok = true;

    log_progress_end(); /* an error message follows, on a line of its own */
    flush(shown(), &lost_stdout);
    if (file && fclose(file) != 0 && path && !lost) lost = errno;
    if (lost) ok = err_system(e, lost, "%s: lacks lines", path ? path : "the log");
    if (lost_stdout)
        ok = err_system(e, lost_stdout, "standard %s: cannot be written",
                        screen ? "error" : "output");
    file = NULL;
    free(kept);
    free(path);
    kept = path = NULL;
    lost = lost_stdout = 0;
    return ok;
}

/* Formats a line as printf does, made plain (text_plain); the caller frees it. NULL if out of
 * memory, which log_close reports: one line less is no reason to end a run now. */
static char *format(const char *fmt, va_list ap)
{
    char *line = NULL, *plain = NULL;
    int n = vasprintf(&line, fmt, ap);

    if (n >= 0) {
        plain = text_plain_new(line, (size_t)n);
        free(line);
    }
    if (!plain && !lost) lost = ENOMEM;
    return plain;
}

void log_line(const char *fmt, ...)
{
    va_list ap;
    char *line;

    va_start(ap, fmt);
    line = format(fmt, ap);
    va_end(ap);
    log_progress_end();
    fprintf(shown(), "%s\n", line ? line : "(out of memory for a line)");
    flush(shown(), &lost_stdout);
    if (file) {
        char when[32];
        time_t now = time(NULL);
        struct tm tm;
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &tm));
        fprintf(file, "%s  %s\n", when, line ? line : "(out of memory for a line)");
        flush(file, &lost);
    }
    free(line);
}

void log_to_stderr(void)
{
    screen = stderr;
}

void log_no_terminal(void)
{
    no_terminal = true;
}

void log_progress(const char *fmt, ...)
{
    double now = clock_seconds();
    va_list ap;
    char *line;

    if (no_terminal || !isatty(fileno(shown()))) {
        if (now - last_progress < quiet) return;
        last_progress = now;
    } else {
        log_progress_end();
        pending = true;
    }
    /* Cut at the terminal's edge: if the line wrapped, only its last row would be cleared. */
    if (pending) fputs("\033[?7l", shown());
    va_start(ap, fmt);
    line = format(fmt, ap);
    va_end(ap);
    if (line) fputs(line, shown());
    free(line);
    fputs(pending ? "\033[?7h" : "\n", shown());
    flush(shown(), &lost_stdout);
}
