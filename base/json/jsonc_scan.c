/* jsonc_scan.c - the strict scan of JSON: blanks the comments, checks the grammar (RFC 8259) with
 * messages that say where, and records where every value and its key begin. */
#include "base/json/jsonc_scan.h"
#include "base/mem.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_CHARS 63 /* cJSON's own limit in older releases */

struct scan {
    const struct jsonc *doc; /* for its name, text and first line */
    const struct jsonc_rules *rules;
    const char *text;
    size_t len, at;
    int depth, max_depth;
    struct jsonc_pos *pos;
    size_t npos, cap, max_values;
    bool found_zero;
    struct err *e;
};

static bool scan_value(struct scan *s, size_t key);

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

struct jsonc_place jsonc_place_at(const struct jsonc *doc, size_t at)
{
    struct jsonc_place p = {doc->line, doc->col};

    for (size_t i = 0; i < at; i++) {
        if (doc->text[i] == '\n') {
            p.line++;
            p.col = 1;
        } else {
            p.col += !is_continuation(doc->text[i]);
        }
    }
    return p;
}

/* Sets "NAME:LINE:COL: message, near 'the text from `at` to the end of its
 * line'"; returns false. */
__attribute__((format(printf, 3, 4))) static bool scan_fail(struct scan *s, size_t at,
                                                            const char *fmt, ...)
{
    char msg[512], near[40];
    struct jsonc_place place = jsonc_place_at(s->doc, at);
    size_t end = at;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    while (end < s->len && s->text[end] != '\n')
        end++;
    while (end > at && is_blank(s->text[end - 1]))
        end--;
    if (end == at) {
        snprintf(near, sizeof near, "the end of the %s", end == s->len ? "text" : "line");
    } else {
        near[0] = '\'';
        text_plain(near + 1, sizeof near - 2, s->text + at, end - at);
        strcat(near, "'");
    }
    return err_set(s->e, "%s:%" PRId64 ":%" PRId64 ": %s, near %s", s->doc->path, place.line,
                   place.col, msg, near);
}

/* Overwrites comments with spaces, keeping newlines. An unterminated string is taken to end with
 * its line: the scan will report it there, before anything misread after it. */
static bool blank_comments(struct scan *s, char *t)
{
    size_t i = 0, from;

    while (i < s->len) {
        if (t[i] == '"') {
            for (i++; i < s->len && t[i] != '"' && t[i] != '\n'; i++)
                i += t[i] == '\\' && i + 1 < s->len && t[i + 1] != '\n';
            i++;
        } else if (t[i] == '/' && t[i + 1] == '/') { /* t ends with a NUL, so t[i + 1] exists */
            while (i < s->len && t[i] != '\n')
                t[i++] = ' ';
        } else if (t[i] == '/' && t[i + 1] == '*') {
            from = i;
            for (i += 2; i < s->len && (t[i] != '*' || t[i + 1] != '/');)
                i++;
            if (i >= s->len) return scan_fail(s, from, "a /* comment is not closed");
            for (i += 2; from < i; from++)
                if (t[from] != '\n') t[from] = ' ';
        } else {
            i++;
        }
    }
    return true;
}

/* Skips white space; returns the next character, 0 at the end. */
static char scan_peek(struct scan *s)
{
    while (s->at < s->len && (is_blank(s->text[s->at]) || s->text[s->at] == '\n'))
        s->at++;
    return s->at < s->len ? s->text[s->at] : '\0';
}

/* The four hex digits at `at` as a number, -1 if they are not. */
static long hex4(const struct scan *s, size_t at)
{
    char digits[5] = {0};

    if (s->len - at < 4) return -1;
    memcpy(digits, s->text + at, 4);
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

/* s->at is at the 'u' of an escape. A high surrogate must be followed by a low one. */
static bool scan_unicode(struct scan *s, bool zeros)
{
    long code = hex4(s, s->at + 1), low = -1;
    size_t from = s->at - 1;

    if (code < 0) return scan_fail(s, from, "\\u needs four hexadecimal digits");
    if (code == 0 && !zeros) return scan_fail(s, from, "\\u0000 is not allowed here");
    s->found_zero |= code == 0;
    s->at += 5;
    if (code < 0xd800 || code > 0xdfff) return true;
    if (s->len - s->at >= 6 && memcmp(s->text + s->at, "\\u", 2) == 0) low = hex4(s, s->at + 2);
    if (code > 0xdbff || low < 0xdc00 || low > 0xdfff)
        return scan_fail(s, from, "lone surrogate \\u%04lx", (unsigned long)code);
    s->at += 6;
    return true;
}

/* Skips characters that need no check: ASCII except quotes, backslashes and controls. */
static void skip_plain(struct scan *s)
{
    const unsigned char *t = (const unsigned char *)s->text;

    while (s->at < s->len && t[s->at] >= 0x20 && t[s->at] < 0x80 && t[s->at] != '"' &&
           t[s->at] != '\\')
        s->at++;
}

/* zeros: whether \u0000 is allowed. */
static bool scan_string(struct scan *s, bool zeros)
{
    size_t from = s->at++, len;

    while (s->at < s->len && s->text[s->at] != '"') {
        char c = s->text[s->at];
        if (c == '\n') break;
        if ((unsigned char)c < 0x20)
            return scan_fail(s, s->at, "a control character in a string (write \\u%04x)", c);
        if (c == '\\') {
            s->at++;
            if (s->at < s->len && s->text[s->at] == 'u') {
                if (!scan_unicode(s, zeros)) return false;
            } else if (s->at < s->len && s->text[s->at] && strchr("\"\\/bfnrt", s->text[s->at])) {
                s->at++;
            } else {
                return scan_fail(s, s->at - 1, "an unknown escape in a string");
            }
            continue;
        }
        len = text_utf8_len(s->text + s->at, s->len - s->at);
        if (len == 0) return scan_fail(s, s->at, "a byte that is not UTF-8 in a string");
        s->at += len;
        skip_plain(s);
    }
    if (s->at >= s->len || s->text[s->at] != '"')
        return scan_fail(s, from, "a string is not closed on its line");
    s->at++;
    return true;
}

static size_t skip_digits(struct scan *s)
{
    size_t from = s->at;

    while (s->at < s->len && s->text[s->at] >= '0' && s->text[s->at] <= '9')
        s->at++;
    return s->at - from;
}

/* -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?  (RFC 8259, section 6) */
static bool scan_number(struct scan *s)
{
    size_t from = s->at;
    const char *t = s->text; /* NUL-terminated: looking at t[s->at] is safe */
    bool good, leading_zero;

    s->at += t[s->at] == '-';
    leading_zero = t[s->at] == '0';
    good = leading_zero ? (s->at++, true) : skip_digits(s) > 0;
    if (leading_zero && skip_digits(s) > 0)
        return scan_fail(s, from, "a number must not begin with 0");
    if (good && t[s->at] == '.') {
        s->at++;
        good = skip_digits(s) > 0;
    }
    if (good && (t[s->at] == 'e' || t[s->at] == 'E')) {
        s->at++;
        s->at += t[s->at] == '-' || t[s->at] == '+';
        good = skip_digits(s) > 0;
    }
    if (!good) return scan_fail(s, from, "not a number in JSON's spelling");
    if (s->at - from > NUMBER_CHARS)
        return scan_fail(s, from, "a number of more than %d characters", NUMBER_CHARS);
    return true;
}

static bool scan_word(struct scan *s)
{
    static const char *const words[] = {"true", "false", "null"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t n = strlen(words[i]);
        if (s->len - s->at >= n && memcmp(s->text + s->at, words[i], n) == 0) {
            s->at += n;
            return true;
        }
    }
    return scan_fail(s, s->at, "a value is needed");
}

/* "key" : value */
static bool scan_member(struct scan *s)
{
    size_t key = s->at;

    if (scan_peek(s) != '"') return scan_fail(s, s->at, "a key in double quotes is needed");
    if (!scan_string(s, false)) return false;
    if (scan_peek(s) != ':') return scan_fail(s, s->at, "a colon is needed after the key");
    s->at++;
    return scan_value(s, key);
}

/* A list or an object: s->at is at its bracket. */
static bool scan_container(struct scan *s)
{
    bool object = s->text[s->at] == '{';
    char close = object ? '}' : ']';
    size_t comma;

    s->at++;
    if (scan_peek(s) == close) {
        s->at++;
        return true;
    }
    for (;;) {
        scan_peek(s);
        if (!(object ? scan_member(s) : scan_value(s, SIZE_MAX))) return false;
        if (scan_peek(s) == close) break;
        comma = s->at;
        if (scan_peek(s) != ',') return scan_fail(s, s->at, "a comma or %c is needed", close);
        s->at++;
        if (scan_peek(s) == close)
            return scan_fail(s, comma, "a trailing comma is not allowed before %c", close);
    }
    s->at++;
    return true;
}

/* `key` is the offset of the value's key, SIZE_MAX if it has none. */
static bool scan_value(struct scan *s, size_t key)
{
    char c = scan_peek(s);
    bool ok;

    if (s->npos == s->max_values) return scan_fail(s, s->at, "more than %zu values", s->max_values);
    if (!mem_grow(&s->pos, &s->cap, s->npos + 2, sizeof *s->pos, s->e)) return false;
    s->pos[s->npos++] = (struct jsonc_pos){NULL, key == SIZE_MAX ? s->at : key, s->at};
    if (c == '"') return scan_string(s, s->rules->zeros);
    if (c == '-' || (c >= '0' && c <= '9')) return scan_number(s);
    if (c != '{' && c != '[') return scan_word(s);
    if (s->depth == s->max_depth)
        return scan_fail(s, s->at, "nested more than %d levels deep", s->max_depth);
    s->depth++;
    ok = scan_container(s);
    s->depth--;
    return ok;
}

bool jsonc_scan(struct jsonc *doc, size_t len, const struct jsonc_rules *rules, struct err *e)
{
    struct scan s = {.doc = doc, .rules = rules, .text = doc->text, .len = len, .e = e};
    bool ok;

    s.max_depth = rules->max_depth ? rules->max_depth : JSONC_DEPTH;
    s.max_values = rules->max_values ? rules->max_values : JSONC_VALUES;
    ok = (rules->plain || blank_comments(&s, doc->text)) && scan_value(&s, SIZE_MAX);
    scan_peek(&s);
    if (ok && s.at < len) ok = scan_fail(&s, s.at, "there is more text after the value");
    if (!ok) {
        free(s.pos);
        return false;
    }
    s.pos[s.npos] = (struct jsonc_pos){0};
    doc->pos = s.pos;
    doc->npos = s.npos;
    doc->zeros = s.found_zero;
    return true;
}
