/* err.h - one error, as a sentence for the user. Every function that can fail because of something
 * from outside (a file, the config, memory) returns bool, true = done, and takes a struct err that
 * it fills on failure: where, what was found, what is allowed. Only main() reports it and exits.
 * CHECK is for our own broken invariants: it is never compiled out and aborts. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

struct err {
    char msg[2048]; /* "" while nothing went wrong */
    /* The machine failed (memory, descriptors, a disk), which says nothing about what was read:
     * nobody may leave out, repair or pass over something for it. Where the format has "out of
     * memory" in it, it is set. */
    bool machine;
    int number; /* the errno that the system gave as the reason; 0: it was none of its */
};

/* Formats the message, cut at the buffer's size and put on one line (text_plain: names and texts of
 * strangers are parts of messages), and returns false, so that a failure is one
 * `return err_set(e, ...)`. Arguments may point into e->msg. */
bool err_set(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The message (unless it is empty), ": " and what `number`, an errno, means; returns false. */
bool err_system(struct err *e, int number, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "CONTEXT: " before the message that is there already, and returns false. */
bool err_context(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Ends the program with a message: where some bytes for `what` are not to be had, and nobody could
 * go on or pass an error up. */
_Noreturn void err_no_memory(const char *what);

_Noreturn void check_failed(const char *file, int line, const char *expr);
#define CHECK(expr) ((expr) ? (void)0 : check_failed(__FILE__, __LINE__, #expr))

#endif
