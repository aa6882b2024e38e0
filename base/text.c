/* text.c - see text.h. */
#include "base/text.h"
#include "base/err.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDEST = 6 }; /* bytes of the longest replacement, \u202e */

size_t text_utf8_len(const char *s, size_t n)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char c = (unsigned char)s[0];
    size_t len = c < 0x80 ? 1 : c < 0xc0 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf8 ? 4 : 0;
    uint32_t code;

    if (len < 2) return len;
    if (len > n) return 0;
    code = c & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if (((unsigned char)s[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | ((unsigned char)s[i] & 0x3f);
    }
    if (code < least[len] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
    return len;
}

/* Control characters (C0, DEL, C1), line and paragraph separators, and Unicode's
 * bidirectional marks. */
static bool is_control(uint32_t c)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0, 0x1f},        {0x7f, 0x9f},     {0x061c, 0x061c},
                  {0x200e, 0x200f}, {0x2028, 0x202e}, {0x2066, 0x2069}};

    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (c >= ranges[i].first && c <= ranges[i].last) return true;
    return false;
}

/* The code point of a complete character of `len` bytes. */
static uint32_t code_point(const char *s, size_t len)
{
    uint32_t code = len == 1 ? (unsigned char)s[0] : (unsigned char)s[0] & (0xffu >> (len + 1));

    for (size_t i = 1; i < len; i++)
        code = code << 6 | ((unsigned char)s[i] & 0x3f);
    return code;
}

/* Writes to `out` what replaces the character at s and returns its length; *used is the number of
 * bytes read. */
static size_t stand_in(char out[WIDEST + 1], const char *s, size_t n, size_t *used)
{
    static const char named[32] = {['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    size_t len = text_utf8_len(s, n);
    uint32_t code = len ? code_point(s, len) : (unsigned char)s[0];

    *used = len ? len : 1;
    if (len && !is_control(code)) {
        memcpy(out, s, len);
        return len;
    }
    if (len && code < 32 && named[code])
        return (size_t)snprintf(out, WIDEST + 1, "\\%c", named[code]);
    return (size_t)snprintf(out, WIDEST + 1, len > 1 ? "\\u%04x" : "\\x%02x", code & 0xffff);
}

char *text_plain(char *out, size_t size, const char *s, size_t n)
{
    size_t o = 0, fit = 0; /* fit: the last position where "..." still fits */

    CHECK(size > 4);
    for (size_t i = 0, used; i < n; i += used) {
        char c[WIDEST + 1];
        size_t len = stand_in(c, s + i, n - i, &used);

        if (o + len >= size) {
            memcpy(out + fit, "...", 4);
            return out;
        }
        memcpy(out + o, c, len);
        o += len;
        if (o + 4 <= size) fit = o;
    }
    out[o] = '\0';
    return out;
}

char *text_plain_new(const char *s, size_t n)
{
    size_t size = 16;
    char *out;

    for (size_t i = 0, used; i < n; i += used) {
        char c[WIDEST + 1];
        size += stand_in(c, s + i, n - i, &used);
    }
    out = malloc(size);
    return out ? text_plain(out, size, s, n) : NULL;
}

struct text text_trimmed(struct text t)
{
    while (t.n && isspace((unsigned char)*t.s)) {
        t.s++;
        t.n--;
    }
    while (t.n && isspace((unsigned char)t.s[t.n - 1]))
        t.n--;
    return t;
}
