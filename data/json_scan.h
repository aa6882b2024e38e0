/* json_scan.h - the places of the elements of a large JSON list, or of the lines of a JSON Lines
 * file, without building a tree of the whole: each element is found by its brackets and quotes, and
 * is then parsed on its own. The data may be a mapped file of many GB.
 *
 *     struct json_scan s;
 *     bool found;
 *     size_t begin, end;
 *     if (!json_scan_open(&s, map.data, map.size, path, e)) return false;
 *     while ((ok = json_scan_next(&s, &begin, &end, &found, e)) && found)
 *         use(map.data + begin, end - begin, s.place.line, s.place.col);
 *
 * Checked here: the list's brackets and commas, that brackets match, that strings end on their
 * line, what stands behind the end. A UTF-8 byte order mark is skipped. Not checked: what is inside
 * an element, beyond brackets and quotes. */
#ifndef DATA_JSON_SCAN_H
#define DATA_JSON_SCAN_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Deeper brackets in one element are counted, but not which kind closes which. */
#define JSON_SCAN_DEPTH 256

/* A byte's place for people: both from 1; columns count characters. */
struct json_place {
    size_t byte;
    int64_t line, col;
};

struct json_scan {
    const uint8_t *data; /* borrowed, as `name` is */
    size_t size, at;
    const char *name;
    size_t count;            /* elements found so far */
    struct json_place place; /* of the last one's begin */
    bool first_of_line;      /* no element before it begins on its line */
    bool lines;              /* JSON Lines; else one list */
    bool done;
};

/* A file whose first character is '[' is a list, one that begins with '{' is JSON Lines; anything
 * else (also an empty file) is an error. Errors are "NAME:LINE:COL: ... (byte N)", or say what the
 * file is where it is no text. */
bool json_scan_open(struct json_scan *s, const uint8_t *data, size_t size, const char *name,
                    struct err *e);

/* The next element: bytes [*begin, *end) without white space around them. *found is false behind
 * the last one. After a failure the scan must not go on. */
bool json_scan_next(struct json_scan *s, size_t *begin, size_t *end, bool *found, struct err *e);

#endif
