/* text.h - untrusted UTF-8 text on one line of a terminal or a log. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stddef.h>

/* Bytes with their length: they may include zeros, and are followed by one. */
struct text {
    char *s;
    size_t n;
};

/* Length of the UTF-8 character at s (n > 0 bytes available), 0 if invalid: truncated, overlong, a
 * surrogate, or above U+10FFFF. */
size_t text_utf8_len(const char *s, size_t n);

/* Copies n bytes to `out` (size > 4) so that they stay on one line and cannot control a terminal:
 * control characters and bidirectional marks become \n, \t, \x1b or \u202e, bytes that are not
 * UTF-8 become \xff, and what does not fit becomes "...". Idempotent. Returns out. */
char *text_plain(char *out, size_t size, const char *s, size_t n);

/* The same, allocated at full length; the caller frees it. NULL if out of memory. */
char *text_plain_new(const char *s, size_t n);

/* A text without the ASCII white space at its ends: a part of the same bytes. */
struct text text_trimmed(struct text t);

#endif
