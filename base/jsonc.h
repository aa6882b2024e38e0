/* jsonc.h - JSON with comments, and the line of everything in it. cJSON makes the tree; a strict
 * scan of the same text goes before it, for what cJSON cannot do: messages that name line and
 * column, duplicate keys, limits, and the place and exact spelling of each value.
 *
 * Beyond JSON only slash-slash and slash-star comments and a UTF-8 byte order mark are read;
 * trailing commas are errors. Stricter than JSON: no duplicate keys in one object, no zero
 * character in a string (\u0000), nesting and size are limited, numbers have at most 63 characters.
 *
 * A parse error is one line: "FILE:LINE:COL: what is wrong, near '...'". Columns count characters,
 * not bytes; both start at 1. */
#ifndef BASE_JSONC_H
#define BASE_JSONC_H

#include "base/err.h"

#include <cjson/cJSON.h>
#include <stddef.h>

#define JSONC_DEPTH 64                       /* lists and objects inside each other */
#define JSONC_CONFIG_BYTES ((size_t)1 << 20) /* a limit for files that people write by hand */

struct jsonc_pos {
    const cJSON *item;
    size_t key, value; /* byte offsets into text; key = value where the item has no key */
};

struct jsonc {
    cJSON *root;
    char *text; /* comments blanked with spaces, so that offsets and lines are the file's */
    char *path; /* the name that messages use */
    struct jsonc_pos *pos; /* one per value in the text, sorted by item */
    size_t npos;
};

/* Reads a file of at most `limit` bytes. On failure fills *e and leaves *doc zeroed. */
bool jsonc_read(struct jsonc *doc, const char *path, size_t limit, struct err *e);

/* The same for `len` bytes in memory, which are copied; messages call them `name`. */
bool jsonc_parse(struct jsonc *doc, const char *name, const char *text, size_t len, struct err *e);

void jsonc_close(struct jsonc *doc); /* fine on a zeroed struct */

/* The value under a path such as "svd.low_rank" or "data.train[1].path" ("" is the root), borrowed
 * from *doc, or NULL. A key that has a dot or a bracket in it cannot be named. */
const cJSON *jsonc_find(const struct jsonc *doc, const char *path);

/* The line where that value's key stands (in a list: where the value begins), 0 where there is no
 * such value. */
int jsonc_line(const struct jsonc *doc, const char *path);
int jsonc_item_line(const struct jsonc *doc, const cJSON *item);

/* The text from an item's first character on (not cut where it ends), NULL where the item is not of
 * this document. For numbers: cJSON keeps only a double of them, the text has all digits. */
const char *jsonc_item_text(const struct jsonc *doc, const cJSON *item);

/* Copies `n` bytes of hostile text to `out` (size > 4) for a message on one line: control
 * characters and bytes that are not UTF-8 become '?', and what does not fit becomes "...". Returns
 * out. */
char *jsonc_snippet(char *out, size_t size, const char *s, size_t n);

#endif
