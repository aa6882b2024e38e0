/* utf8.c - see utf8.h. The rules are table 3-7 of the Unicode standard. */
#include "data/tokenizer/utf8.h"

#include <string.h>

/* The length that a first byte announces (0: invalid) and the range of the second byte. */
static size_t announced(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4) return 0;
    if (c == 0xe0) *low = 0xa0;  /* shorter forms exist */
    if (c == 0xed) *high = 0x9f; /* surrogates */
    if (c == 0xf0) *low = 0x90;
    if (c == 0xf4) *high = 0x8f; /* above U+10FFFF */
    return c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

size_t utf8_sequence(const char *s, size_t n, bool *valid)
{
    const unsigned char *u = (const unsigned char *)s;
    unsigned char low, high;
    size_t len = announced(u[0], &low, &high), i = 1;

    *valid = false;
    if (len == 0) return 1;
    for (; i < len; i++) {
        if (i == n || u[i] < low || u[i] > high) return i;
        low = 0x80;
        high = 0xbf;
    }
    *valid = true;
    return len;
}

size_t utf8_check(const char *s, size_t n)
{
    size_t i = 0;

    while (i < n) {
        uint64_t eight;
        bool valid;
        size_t len;

        if (n - i >= 8) { /* most text is ASCII: eight bytes at a time */
            memcpy(&eight, s + i, 8);
            if ((eight & 0x8080808080808080u) == 0) {
                i += 8;
                continue;
            }
        }
        len = utf8_sequence(s + i, n - i, &valid);
        if (!valid) return i;
        i += len;
    }
    return n;
}

size_t utf8_put(char out[4], int32_t c)
{
    uint32_t u = (uint32_t)c;

    if (u < 0x80) {
        out[0] = (char)u;
        return 1;
    }
    if (u < 0x800) {
        out[0] = (char)(0xc0 | u >> 6);
        out[1] = (char)(0x80 | (u & 0x3f));
        return 2;
    }
    if (u < 0x10000) {
        out[0] = (char)(0xe0 | u >> 12);
        out[1] = (char)(0x80 | (u >> 6 & 0x3f));
        out[2] = (char)(0x80 | (u & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | u >> 18);
    out[1] = (char)(0x80 | (u >> 12 & 0x3f));
    out[2] = (char)(0x80 | (u >> 6 & 0x3f));
    out[3] = (char)(0x80 | (u & 0x3f));
    return 4;
}
