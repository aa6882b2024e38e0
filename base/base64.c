/* base64.c - see base64.h. */
#include "base/base64.h"
#include "base/mem.h"

#include <stdlib.h>

/* The value of a character, -1: it is none. */
static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(const char *s, size_t n, uint8_t **out, size_t *len, struct err *e)
{
    const size_t padding = n < 2 || s[n - 1] != '=' ? 0 : s[n - 2] == '=' ? 2 : 1;
    const size_t digits = n - padding;
    uint32_t bits = 0;
    int held = 0;

    *out = NULL;
    *len = 0;
    if (n % 4 != 0) return err_set(e, "base64 of %zu characters: a multiple of 4 is needed", n);
    *out = mem_new(n / 4 * 3, 1, "base64", e);
    if (!*out) return false;
    for (size_t i = 0; i < digits; i++) {
        const int v = value_of(s[i]);
        if (v < 0) {
            free(*out);
            *out = NULL;
            *len = 0;
            return err_set(e, "character %zu is not base64", i + 1);
        }
        bits = bits << 6 | (uint32_t)v;
        held += 6;
        if (held < 8) continue;
        held -= 8;
        (*out)[(*len)++] = (uint8_t)(bits >> held);
    }
    return true;
}

char *base64_encode(const uint8_t *data, size_t n, struct err *e)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = mem_new((n + 2) / 3 * 4 + 1, 1, "base64", e), *to = out;

    for (size_t i = 0; out && i < n; i += 3) {
        uint32_t bits = (uint32_t)data[i] << 16;
        if (i + 1 < n) bits |= (uint32_t)data[i + 1] << 8;
        if (i + 2 < n) bits |= data[i + 2];
        for (size_t k = 0; k < 4; k++)
            *to++ = i + k > n ? '=' : digits[bits >> (18 - 6 * k) & 63];
    }
    return out; /* which ends in a zero */
}
