/* unicode.c - see unicode.h: utf8proc's answers, corrected by the tables. */
#include "data/tokenizer/unicode.h"

#include <utf8proc.h>

static bool set_has(const struct char_set *set, int32_t c)
{
    size_t low = 0, high = set->n;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (c > set->v[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < set->n && c >= set->v[low].first;
}

bool unicode_is_space(int32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool unicode_is_number(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);

    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO ||
           set_has(&newer_numbers, c);
}

bool unicode_is_punctuation(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);

    /* ASCII includes all of !"#$%&'()*+,-./:;<=>?@[\]^_`{|}~, symbols too */
    if (c < 0x80)
        return c > ' ' && c < 0x7f && !(c >= '0' && c <= '9') &&
               !((c | 32) >= 'a' && (c | 32) <= 'z');
    if (c == 0x166d || c == 0x111c9) return true; /* a symbol and a mark in later versions */
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO && !set_has(&no_punctuation, c);
}

bool unicode_normalizes(int32_t c)
{
    return c < 0x558 || !set_has(&not_normalized, c); /* the table begins there */
}

int32_t unicode_lower(int32_t c)
{
    for (size_t i = 0; i < n_newer_cases && c >= newer_cases[i].first; i++)
        if (c <= newer_cases[i].last) return c + newer_cases[i].way;
    return utf8proc_tolower(c);
}
