/* number.c - Python's float(): what C's strtod takes is another set of texts (hexadecimal, nan(x);
 * no underscores, no digits of other scripts), so the grammar is checked before it is called. */
#include "data/metric/metric_parts.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Unicode's decimal digits come in tens, from 0 to 9, some of which follow each other. */
static int digit_value(int32_t c)
{
    int32_t zero = c;

    while (point_is_digit(zero - 1))
        zero--;
    return (c - zero) % 10;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c) /* in ASCII: not 0x1c to 0x1f, which strip() takes */
{
    return c == ' ' || (c >= 9 && c <= 13);
}

/* Digits and spaces of all scripts as ASCII. False: something else is in it. */
static bool to_ascii(struct points p, char *s)
{
    for (size_t i = 0; i < p.n; i++) {
        int32_t c = p.v[i];
        bool ascii = c > 0 && c < 0x80;
        if (!ascii && !point_is_space(c) && !point_is_digit(c)) return false;
        s[i] = (char)(ascii ? c : point_is_space(c) ? ' ' : '0' + digit_value(c));
    }
    return true;
}

/* Takes underscores out. False: one is not between digits. */
static bool without_underscores(char *s)
{
    char *to = s, before = '\0';

    for (const char *at = s; *at; before = *at++) {
        if (*at == '_' && !(is_digit(before) && is_digit(at[1]))) return false;
        if (*at != '_') *to++ = *at;
    }
    *to = '\0';
    return true;
}

static const char *digits(const char *s)
{
    while (is_digit(*s))
        s++;
    return s;
}

/* [sign] (digits [. [digits]] | . digits) [e [sign] digits], or infinity or nan. */
static bool is_number(const char *s)
{
    const char *at, *end;

    s += *s == '+' || *s == '-';
    if (strcasecmp(s, "inf") == 0 || strcasecmp(s, "infinity") == 0 || strcasecmp(s, "nan") == 0)
        return true;
    at = digits(s);
    end = *at == '.' ? digits(at + 1) : at;
    if (end - s - (*at == '.') == 0) return false; /* no digit */
    if (*end != 'e' && *end != 'E') return !*end;
    end++;
    end += *end == '+' || *end == '-';
    return is_digit(*end) && !*digits(end);
}

bool points_float(struct work *w, struct points p, double *out)
{
    char *s = work_new(w, p.n + 1, 1), *end;

    if (!s || !to_ascii(p, s)) return false;
    while (is_blank(*s))
        s++;
    end = s + strlen(s);
    while (end > s && is_blank(end[-1]))
        *--end = '\0';
    if (!without_underscores(s) || !is_number(s)) return false;
    *out = strtod(s, NULL); /* both round to the nearest; too large gives infinity in both */
    return true;
}
