/* lower.c - Python's str.lower(), and how long str.upper() is. One character at a time, but for
 * U+0130, of which lower() makes two, and the capital sigma, whose lower case differs at the end of
 * a word. */
#include "data/metric/metric_parts.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

enum { SIGMA = 0x3a3, SMALL_SIGMA = 0x3c3, FINAL_SIGMA = 0x3c2, DOTTED_I = 0x130, DOT = 0x307 };

/* Unicode's Final_Sigma: behind a cased character and before none, without those that case ignores.
 * What a match takes from the text before its sigma has no other final one in it. */
static const char final_sigma[] = "(?!\\p{Case_Ignorable})\\p{Cased}\\p{Case_Ignorable}*+\\x{3a3}"
                                  "(?!\\p{Case_Ignorable}*+\\p{Cased})";

/* out[n] is p in lower case, character by character, and s[bytes] is p as UTF-8: puts the final
 * sigmas right. */
static void end_words(int32_t *out, const char *s, size_t bytes, const pcre2_code *code,
                      pcre2_match_data *data)
{
    size_t at = 0, points = 0, len;

    while (pcre2_match(code, (PCRE2_SPTR)s, bytes, at, PCRE2_NO_UTF_CHECK, data, NULL) > 0) {
        size_t end = pcre2_get_ovector_pointer(data)[1];
        for (; at < end; at += len, points++)
            utf8_get(s + at, &len);
        out[points - 1] = FINAL_SIGMA;
    }
}

static void final_sigmas(struct work *w, struct points p, int32_t *out)
{
    char *s = work_new(w, p.n, 4);
    size_t bytes = 0, at;
    int code;
    pcre2_code *pattern =
        pcre2_compile((PCRE2_SPTR)final_sigma, sizeof final_sigma - 1, PCRE2_UTF, &code, &at, NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);

    for (size_t i = 0; s && i < p.n; i++)
        bytes += utf8_put(s + bytes, p.v[i]);
    if (s && pattern && data)
        end_words(out, s, bytes, pattern, data);
    else if (s)
        w->failed = !err_set(w->e, "out of memory for an expression");
    pcre2_match_data_free(data);
    pcre2_code_free(pattern);
}

struct points points_lower(struct work *w, struct points p)
{
    int32_t *out = work_new(w, p.n, 2 * sizeof *out);
    struct points low = {.v = out, .n = p.n};
    bool sigma = false;
    size_t dots = 0, to;

    if (!out) return (struct points){0};
    for (size_t i = 0; i < p.n; i++) {
        out[i] = unicode_lower(p.v[i]);
        sigma |= p.v[i] == SIGMA;
        dots += p.v[i] == DOTTED_I;
    }
    if (sigma) final_sigmas(w, p, out);
    low.n = to = p.n + dots;
    for (size_t i = p.n; dots && i-- > 0;) { /* from the end, over what was moved already */
        if (p.v[i] == DOTTED_I) out[--to] = DOT;
        out[--to] = p.v[i] == DOTTED_I ? 'i' : out[i];
    }
    return low;
}

/* Where upper() makes several characters of one, so does case folding, of which utf8proc has the
 * length; but for two capitals, of which upper() makes nothing. */
size_t points_upper_length(struct points p)
{
    size_t n = 0;

    for (size_t i = 0; i < p.n; i++) {
        utf8proc_int32_t folded[4];
        utf8proc_ssize_t len = 1;
        int last = UTF8PROC_BOUNDCLASS_START;
        if (utf8proc_category(p.v[i]) != UTF8PROC_CATEGORY_LU)
            len = utf8proc_decompose_char(p.v[i], folded, 4, UTF8PROC_CASEFOLD, &last);
        n += len > 0 ? (size_t)len : 1;
    }
    return n;
}
