/* log.h - what the user reads while the program runs: every line goes to stdout and, once
 * log_open was called, to the run's log file with the time before it. The one mutable state of
 * base: a process has one terminal and one log. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

/* Keeps the lines from now on for the file that log_open will name. */
bool log_keep(struct err *e);

/* Appends to `path` from now on, what was kept first. */
bool log_open(const char *path, struct err *e);

/* Fails where lines were lost, on stdout or in the file: a full disk, for one. */
bool log_close(struct err *e);

/* One line, without the newline; what would break or steer it is quoted (text_plain). */
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A line that the next one overwrites where stdout is a terminal, and that is shown at most every
 * few seconds where it is not; it never goes to the log file. Meant for progress. */
void log_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
