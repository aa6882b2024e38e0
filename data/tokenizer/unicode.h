/* unicode.h - characters as the `tokenizers` library sees them. Its parts follow different versions
 * of Unicode (normalisation 9, expressions 16, digits and case 17), and so do a system's utf8proc
 * and PCRE2. tables.c lists the differences, so that ids do not depend on what is installed:
 * Unicode 14 or later for utf8proc, 14 to 16 for PCRE2. */
#ifndef DATA_TOKENIZER_UNICODE_H
#define DATA_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool unicode_is_space(int32_t c); /* the property White_Space */
bool unicode_is_number(int32_t c);
bool unicode_is_punctuation(int32_t c); /* in ASCII also symbols */
/* False: normalisation leaves c unchanged, and nothing moves past or combines with it. */
bool unicode_normalizes(int32_t c);
/* The lower case if it is one character; U+0130 has two and is left to the caller. */
int32_t unicode_lower(int32_t c);

/* ---- the tables; rows are sorted ---- */

struct char_range {
    int32_t first, last;
};
struct char_set {
    const struct char_range *v;
    size_t n;
};
extern const struct char_set newer_numbers;  /* are numbers, but not in Unicode 14 */
extern const struct char_set no_punctuation; /* are punctuation only in later versions */
extern const struct char_set not_normalized; /* change or combine only in later versions */

/* Characters newer than Unicode 14 that expressions know. */
struct newer_char {
    int32_t first, last;
    const char *category; /* "Lu" */
    const char *script;   /* NULL: none that expressions can name */
};
extern const struct newer_char newer_chars[];
extern const size_t n_newer_chars;

/* Capitals whose lower case Unicode 14 does not know: c + way. */
struct newer_case {
    int32_t first, last, way;
};
extern const struct newer_case newer_cases[];
extern const size_t n_newer_cases;

#endif
