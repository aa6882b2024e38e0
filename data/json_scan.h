/* json_scan.h - the places of the elements of a large JSON list, or of the lines of a JSON Lines
 * file, without building a tree of the whole: each element is found by its brackets and quotes, and
 * is then parsed on its own. The data may be a mapped file of many GB.
 *
 *     struct json_scan s;
 *     bool found;
 *     size_t begin, end;
 *     if (!json_scan_open(&s, map.data, map.size, path, e)) return false;
 *     while ((ok = json_scan_next(&s, &begin, &end, &found, e)) && found)
 *         use(map.data + begin, end - begin);
 *
 * Checked here: the list's brackets and commas, that brackets match, that strings end on their
 * line, what stands behind the end. A UTF-8 byte order mark is skipped. Not checked: what is inside
 * an element, beyond brackets and quotes. */
#ifndef DATA_JSON_SCAN_H
#define DATA_JSON_SCAN_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define JSON_SCAN_DEPTH 256 /* brackets inside each other, in one element */

struct json_scan {
    const uint8_t *data; /* borrowed, as `name` is */
    size_t size, at;
    const char *name;
    size_t count; /* elements found so far */
    bool lines;   /* JSON Lines; else one list */
    bool done;
};

/* A file whose first character is '[' is a list, one that begins with '{' is JSON Lines; anything
 * else (also an empty file) is an error. Errors are "NAME:LINE: ... (byte N)". */
bool json_scan_open(struct json_scan *s, const uint8_t *data, size_t size, const char *name,
                    struct err *e);

/* The next element: bytes [*begin, *end) without white space around them. *found is false behind
 * the last one. After a failure the scan must not go on. */
bool json_scan_next(struct json_scan *s, size_t *begin, size_t *end, bool *found, struct err *e);

/* The line, from 1, that a byte is in; counts from the file's beginning each time. */
uint64_t json_scan_line(const struct json_scan *s, size_t byte);

#endif
