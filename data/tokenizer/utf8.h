/* utf8.h - UTF-8 text one character at a time. */
#ifndef DATA_TOKENIZER_UTF8_H
#define DATA_TOKENIZER_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first byte that is not part of valid UTF-8; n if all are. */
size_t utf8_check(const char *s, size_t n);

/* How many bytes at s (n > 0) belong together: a character (*valid), or the part that becomes one
 * U+FFFD, the "maximal subpart" of Unicode 3.9 that Rust's from_utf8_lossy also replaces. */
size_t utf8_sequence(const char *s, size_t n, bool *valid);

/* The character at s, which must be valid UTF-8, and its length in bytes. */
static inline int32_t utf8_get(const char *s, size_t *len)
{
    const unsigned char *u = (const unsigned char *)s;

    if (u[0] < 0x80) return *len = 1, u[0];
    if (u[0] < 0xe0) return *len = 2, (u[0] & 0x1f) << 6 | (u[1] & 0x3f);
    if (u[0] < 0xf0) return *len = 3, (u[0] & 0x0f) << 12 | (u[1] & 0x3f) << 6 | (u[2] & 0x3f);
    return *len = 4, (u[0] & 0x07) << 18 | (u[1] & 0x3f) << 12 | (u[2] & 0x3f) << 6 | (u[3] & 0x3f);
}

/* The start of the last character of s[0..n), n > 0. */
static inline size_t utf8_last(const char *s, size_t n)
{
    do
        n--;
    while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80);
    return n;
}

/* Writes a character and returns its length, 1 to 4. */
size_t utf8_put(char out[4], int32_t c);

#endif
