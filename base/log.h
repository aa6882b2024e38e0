/* log.h - what the user reads while the program runs: every line goes to stdout and,
 * after log_open, to the run's log file with a timestamp. Global state: one terminal and
 * one log per process. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

/* Buffers all further lines for the file that log_open will name. */
bool log_keep(struct err *e);

/* Appends to `path` from now on, starting with the buffered lines. */
bool log_open(const char *path, struct err *e);

/* Fails if lines were lost, on stdout or in the file, e.g. because the disk was full. */
bool log_close(struct err *e);

/* One line, without the newline; control characters in it are quoted (text_plain). */
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Lines go to stderr instead of stdout, from now on: what a program says is not its result. */
void log_to_stderr(void);

/* From now on stdout is no terminal, though it looks like one: mpirun puts one between. */
void log_no_terminal(void);

/* For progress. On a terminal the next line overwrites it; elsewhere it is printed at most every
 * few seconds. It never goes to the log file. */
void log_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Takes the progress line off the terminal, for what is written there by other means. */
void log_progress_end(void);

#endif
