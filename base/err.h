/* err.h - one error, as a sentence for the user. Every function that can fail for an external
 * reason (a file, the config, memory) returns bool, true = done, and takes a struct err that it
 * fills on failure: where, what was found, what is allowed. Only main() reports it and exits. CHECK
 * guards our own invariants: it is never compiled out, and aborts. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

struct err {
    char msg[2048]; /* "" while nothing has gone wrong */
    /* The machine failed (memory, file descriptors, a disk), not the input: callers must not skip
     * or repair the input because of it. Set when the format contains "out of memory". */
    bool machine;
    int number; /* the errno that the system gave as the reason; 0: it was none of its */
};

/* Formats the message and returns false, so that a failure is one `return err_set(e, ...)`. The
 * message is cut to the buffer's size and kept on one line (text_plain), since it may quote names
 * and text from untrusted files. Arguments may point into e->msg. */
bool err_set(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Sets the formatted message (if not empty), ": " and strerror(number); returns false. */
bool err_system(struct err *e, int number, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Prepends "CONTEXT: " to the message already set; returns false. */
bool err_context(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Exits with a message. For small allocations for `what` whose failure a caller could neither
 * handle nor pass on. */
_Noreturn void err_no_memory(const char *what);

_Noreturn void check_failed(const char *file, int line, const char *expr);
#define CHECK(expr) ((expr) ? (void)0 : check_failed(__FILE__, __LINE__, #expr))

#endif
