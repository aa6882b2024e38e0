/* text.h - UTF-8 text of strangers on one line of a terminal or a log. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stddef.h>

/* Bytes with their number: zeros may be among them, and one stands behind them. */
struct text {
    char *s;
    size_t n;
};

/* Bytes of the UTF-8 character at s (n > 0 bytes are there), 0 where it is not one: cut short,
 * overlong, a surrogate, or above U+10FFFF. */
size_t text_utf8_len(const char *s, size_t n);

/* Copies n bytes to `out` (size > 4) so that they stay on one line and cannot steer a terminal:
 * control characters and marks that turn the writing direction become \n, \t, \x1b or \u202e,
 * bytes that are not UTF-8 become \xff, and what does not fit becomes "...". What was copied once
 * does not change when it is copied again. Returns out. */
char *text_plain(char *out, size_t size, const char *s, size_t n);

/* The same with room for all of it; the caller frees it. NULL where there is no memory. */
char *text_plain_new(const char *s, size_t n);

#endif
