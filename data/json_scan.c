/* json_scan.c - see json_scan.h. A byte table skips characters that need no check, so that the scan
 * runs near memory speed. */
#include "data/json_scan.h"
#include "base/filekind.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const bool marks[256] = {['"'] = true, ['['] = true, [']'] = true, ['{'] = true,
                                ['}'] = true, [','] = true, ['\n'] = true};

/* Advances a place to `byte`, which must not be before it. */
static void move_place(const struct json_scan *s, struct json_place *p, size_t byte)
{
    const uint8_t *at = s->data + p->byte, *end = s->data + byte, *line;
    int64_t col;

    while (at < end && (line = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        p->line++;
        p->col = 1;
        at = line + 1;
    }
    for (col = 0; at < end; at++)
        col += (*at & 0xc0) != 0x80;
    p->col += col;
    p->byte = byte;
}

static bool fail(const struct json_scan *s, size_t at, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static bool fail(const struct json_scan *s, size_t at, struct err *e, const char *fmt, ...)
{
    struct json_place place = s->place;
    char msg[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    move_place(s, &place, at);
    return err_set(e, "%s:%" PRId64 ":%" PRId64 ": %s (byte %zu)", s->name, place.line, place.col,
                   msg, at);
}

/* A byte as shown in messages: itself if printable. */
static const char *byte_name(uint8_t c, char out[8])
{
    if (c > ' ' && c < 0x7f)
        snprintf(out, 8, "'%c'", c);
    else
        snprintf(out, 8, "0x%02x", c);
    return out;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(struct json_scan *s)
{
    while (s->at < s->size && is_blank(s->data[s->at]))
        s->at++;
}

bool json_scan_open(struct json_scan *s, const uint8_t *data, size_t size, const char *name,
                    struct err *e)
{
    char c[8];

    *s = (struct json_scan){.data = data, .size = size, .name = name};
    if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) s->at = 3;
    s->place = (struct json_place){s->at, 1, 1};
    skip_blanks(s);
    if (s->at == size) return fail(s, s->at, e, "the file is empty; a JSON list is expected");
    if (data[s->at] != '[' && data[s->at] != '{')
        return file_kind_check(name, data, size, e) &&
               fail(s, s->at, e,
                    "found %s; a JSON list begins with '[', a line of JSON Lines with '{'",
                    byte_name(data[s->at], c));
    /* the zero of a wider form: without it the list would be as good as any
     * until its first value */
    if (s->at + 1 < size && data[s->at + 1] == 0 && !file_kind_check(name, data, size, e))
        return false;
    s->lines = data[s->at] == '{';
    if (!s->lines) s->at++;
    return true;
}

/* s->at is at the opening quote; moves it past the closing one. A line break inside is
 * reported here rather than left to the parser: it usually means a forgotten quote, and
 * this names its line. */
static bool skip_string(struct json_scan *s, struct err *e)
{
    size_t open = s->at++, back;

    do {
        const uint8_t *quote = memchr(s->data + s->at, '"', s->size - s->at);

        if (!quote) return fail(s, open, e, "a string that does not end");
        s->at = (size_t)(quote - s->data);
        /* an odd number of backslashes escapes the quote; the opening quote stops the count */
        for (back = 0; s->data[s->at - 1 - back] == '\\';)
            back++;
        s->at++;
    } while (back % 2 == 1);
    if (memchr(s->data + open, '\n', s->at - open))
        return fail(s, open, e, "a string that does not end on its line");
    return true;
}

/* Brackets open within one value, as the closing brackets expected for the outermost of them. */
struct open_brackets {
    uint8_t due[JSON_SCAN_DEPTH];
    size_t n;
};

/* s->at is at a bracket; moves past it. */
static bool skip_bracket(struct json_scan *s, struct open_brackets *open, struct err *e)
{
    uint8_t c = s->data[s->at];

    if (c == '[' || c == '{') {
        if (open->n < JSON_SCAN_DEPTH) open->due[open->n] = c == '[' ? ']' : '}';
        open->n++;
    } else if (--open->n < JSON_SCAN_DEPTH && c != open->due[open->n]) {
        return fail(s, s->at, e, "found '%c' where '%c' is due", c, open->due[open->n]);
    }
    s->at++;
    return true;
}

/* Moves s->at past the value that begins there. */
static bool skip_value(struct json_scan *s, struct err *e)
{
    struct open_brackets open = {.n = 0};
    size_t begin = s->at;
    char name[8];

    if (s->at < s->size && s->data[s->at] == '/')
        return fail(s, s->at, e, "found '/' where a value is due; comments are not read here");
    while (s->at < s->size) {
        uint8_t c = s->data[s->at];
        bool closes = c == ']' || c == '}';

        if (!marks[c] && !(open.n == 0 && is_blank(c))) {
            s->at++;
            continue;
        }
        if (open.n == 0 && (closes || c == ',' || is_blank(c))) break; /* after a bare value */
        if (c == '"') {
            if (!skip_string(s, e)) return false;
        } else if (closes || c == '[' || c == '{') {
            if (!skip_bracket(s, &open, e)) return false;
        } else if (c == '\n' && s->lines) {
            return fail(s, s->at, e, "the line ends inside a value; JSON Lines has one a line");
        } else {
            s->at++;
        }
        if (open.n == 0 && (c == '"' || closes)) return true;
    }
    if (open.n > 0) return fail(s, begin, e, "the file ends inside the value that begins here");
    if (begin == s->size) return fail(s, begin, e, "the file ends where a value is due");
    if (s->at == begin)
        return fail(s, begin, e, "found %s where a value is due", byte_name(s->data[begin], name));
    return true;
}

/* A list: what separates two elements, or follows the last one. */
static bool list_step(struct json_scan *s, struct err *e)
{
    char c[8];

    skip_blanks(s);
    if (s->at == s->size) return fail(s, s->at, e, "the file ends inside the list");
    if (s->data[s->at] == ']') {
        s->at++;
        skip_blanks(s);
        s->done = true;
        return s->at == s->size || fail(s, s->at, e, "found %s after the end of the list",
                                        byte_name(s->data[s->at], c));
    }
    if (s->count == 0) return true;
    if (s->data[s->at] != ',')
        return fail(s, s->at, e, "found %s where ',' or ']' is due", byte_name(s->data[s->at], c));
    s->at++;
    skip_blanks(s);
    return true;
}

/* JSON Lines: the rest of the previous line, and empty lines. */
static bool line_step(struct json_scan *s, struct err *e)
{
    size_t from = s->at;
    char c[8];

    skip_blanks(s);
    if (s->at == s->size) {
        s->done = true;
        return true;
    }
    if (s->count > 0 && !memchr(s->data + from, '\n', s->at - from))
        return fail(s, s->at, e, "found %s after a line's value", byte_name(s->data[s->at], c));
    return s->data[s->at] == '{' ||
           fail(s, s->at, e, "found %s; a line of JSON Lines begins with '{'",
                byte_name(s->data[s->at], c));
}

bool json_scan_next(struct json_scan *s, size_t *begin, size_t *end, bool *found, struct err *e)
{
    int64_t line = s->place.line;

    *found = false;
    if (s->done) return true;
    if (s->lines ? !line_step(s, e) : !list_step(s, e)) return false;
    if (s->done) return true;
    *begin = s->at;
    if (!skip_value(s, e)) return false;
    *end = s->at;
    move_place(s, &s->place, *begin);
    s->first_of_line = s->count == 0 || s->place.line > line;
    s->count++;
    *found = true;
    return true;
}

/* s->at is behind '{' or ','. Moves it to the value of the next member, whose key is
 * [*begin, *end) with its quotes. */
static bool member_key(struct json_scan *s, size_t *begin, size_t *end, struct err *e)
{
    skip_blanks(s);
    *begin = s->at;
    if (s->at == s->size || s->data[s->at] != '"') return fail(s, s->at, e, "a key is due");
    if (!skip_string(s, e)) return false;
    *end = s->at;
    skip_blanks(s);
    if (s->at == s->size || s->data[s->at] != ':') return fail(s, s->at, e, "':' is due");
    s->at++;
    skip_blanks(s);
    return true;
}

bool json_scan_open_member(struct json_scan *s, const uint8_t *data, size_t size, const char *name,
                           const char *key, bool *found, struct err *e)
{
    const size_t n = strlen(key);
    size_t begin = 0, end = 0;

    *found = false;
    if (!json_scan_open(s, data, size, name, e)) return false;
    if (!s->lines) return true;
    s->lines = false; /* one object, over any number of lines */
    do {
        s->at++;
        if (!member_key(s, &begin, &end, e)) return false;
        if (end - begin == n + 2 && memcmp(data + begin + 1, key, n) == 0) break;
        if (!skip_value(s, e)) return false;
        skip_blanks(s);
    } while (s->at < s->size && s->data[s->at] == ',');
    if (end - begin != n + 2 || memcmp(data + begin + 1, key, n) != 0) return true;
    if (s->at == s->size || s->data[s->at] != '[')
        return fail(s, s->at, e, "\"%s\" must be a list", key);
    begin = s->at;
    if (!skip_value(s, e)) return false;
    *s = (struct json_scan){
        .data = data, .size = s->at, .at = begin + 1, .name = name, .place = s->place};
    *found = true;
    return true;
}
