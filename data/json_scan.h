/* json_scan.h - finds the elements of a large JSON list, or the lines of a JSON Lines file, without
 * building a tree of the whole: each element is delimited by its brackets and quotes, and is then
 * parsed on its own. The data may be a mapped file of many GB.
 *
 *     struct json_scan s;
 *     bool found;
 *     size_t begin, end;
 *     if (!json_scan_open(&s, map.data, map.size, path, e)) return false;
 *     while ((ok = json_scan_next(&s, &begin, &end, &found, e)) && found)
 *         use(map.data + begin, end - begin, s.place.line, s.place.col);
 *
 * Checked here: the list's brackets and commas, that brackets match, that strings end on their
 * line, and that nothing follows the end. A UTF-8 byte order mark is skipped. Not checked: the
 * inside of an element, beyond brackets and quotes. */
#ifndef DATA_JSON_SCAN_H
#define DATA_JSON_SCAN_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Brackets nested deeper than this in one element are counted, but their kinds are not matched. */
#define JSON_SCAN_DEPTH 256

/* A byte's position for people: both from 1; columns count characters. */
struct json_place {
    size_t byte;
    int64_t line, col;
};

struct json_scan {
    const uint8_t *data; /* borrowed, like `name` */
    size_t size, at;
    const char *name;
    size_t count;            /* elements found so far */
    struct json_place place; /* start of the last one */
    bool first_of_line;      /* no other element begins earlier on its line */
    bool lines;              /* JSON Lines; else one list */
    bool done;
};

/* A file whose first character is '[' is a list, one that begins with '{' is JSON Lines; anything
 * else, including an empty file, is an error. Errors are "NAME:LINE:COL: ... (byte N)", or say what
 * the file is if it is not text. */
bool json_scan_open(struct json_scan *s, const uint8_t *data, size_t size, const char *name,
                    struct err *e);

/* The next element: bytes [*begin, *end) without surrounding white space. *found is false after the
 * last one. The scan must not be continued after a failure. */
bool json_scan_next(struct json_scan *s, size_t *begin, size_t *end, bool *found, struct err *e);

/* The same for the list that is the member `key` of an object, which is the whole of the data; what
 * is behind the list is not looked at. *found is false where the object has no such member, or
 * there is no object: not an error. A key is compared as it is spelled. */
bool json_scan_open_member(struct json_scan *s, const uint8_t *data, size_t size, const char *name,
                           const char *key, bool *found, struct err *e);

#endif
