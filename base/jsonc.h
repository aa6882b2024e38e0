/* jsonc.h - every JSON text that the programs read: settings (with comments) and other programs'
 * files. cJSON makes the tree; a strict scan of the same text goes before it, for what cJSON cannot
 * do: messages that name line and column, duplicate keys, limits, strings with a zero character in
 * them, and the place and exact spelling of each value.
 *
 * Beyond JSON only slash-slash and slash-star comments (unless `plain`) and a UTF-8 byte order mark
 * are read; trailing commas are errors. Stricter than JSON: no duplicate keys in one object, no
 * zero character (\u0000) in a key, and in a string only where `zeros` allows it, no half of a
 * surrogate pair, nesting and the number of values are limited, numbers have at most 63 characters.
 *
 * A parse error is one line: "FILE:LINE:COL: what is wrong, near '...'". Columns count characters,
 * not bytes; both start at 1. */
#ifndef BASE_JSONC_H
#define BASE_JSONC_H

#include "base/err.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#define JSONC_DEPTH 64                       /* lists and objects inside each other */
#define JSONC_CONFIG_BYTES ((size_t)1 << 20) /* a limit for files that people write by hand */
#define JSONC_VALUES 4000000                 /* values of a text: about 400 MB when parsed */

struct jsonc_pos {
    const cJSON *item;
    size_t key, value; /* byte offsets into text; key = value where the item has no key */
};

struct jsonc {
    cJSON *root;
    char *text; /* comments blanked with spaces, so that offsets and lines are the file's */
    char *path; /* the name that messages use */
    struct jsonc_pos *pos; /* [npos + 1] one per value in the text; see find_pos in jsonc.c */
    size_t npos;
    int64_t line, col; /* of the text's first character */
    bool zeros;        /* some string has a \u0000 in it: its `valuestring` ends there */
};

/* Reads a file of at most `limit` bytes. On failure fills *e and leaves *doc zeroed. */
bool jsonc_read(struct jsonc *doc, const char *path, size_t limit, struct err *e);

/* The same for `len` bytes in memory, which are copied; messages call them `name`. */
bool jsonc_parse(struct jsonc *doc, const char *name, const char *text, size_t len, struct err *e);

/* What differs from a file of settings. */
struct jsonc_rules {
    int64_t line, col; /* where the text begins in its file; 0: at 1 */
    size_t max_values; /* 0: JSONC_VALUES */
    bool plain;        /* no comments: JSON as other programs write it */
    bool pipe;         /* the file may be a pipe */
    bool settings;     /* people write it: YAML and the like are told what it must be */
    bool zeros;        /* strings may hold \u0000; their text comes from jsonc_string */
};
bool jsonc_read_as(struct jsonc *doc, const char *path, size_t limit,
                   const struct jsonc_rules *rules, struct err *e);
bool jsonc_parse_as(struct jsonc *doc, const char *name, const char *text, size_t len,
                    const struct jsonc_rules *rules, struct err *e);

void jsonc_close(struct jsonc *doc); /* fine on a zeroed struct */

/* The value under a path such as "svd.low_rank" or "data.train[1].path" ("" is the root), borrowed
 * from *doc, or NULL. A key that has a dot or a bracket in it cannot be named. */
const cJSON *jsonc_find(const struct jsonc *doc, const char *path);

/* The line where that value's key stands (in a list: where the value begins), 0 where there is no
 * such value. */
int jsonc_line(const struct jsonc *doc, const char *path);
int jsonc_item_line(const struct jsonc *doc, const cJSON *item);

/* The same with the column; {0, 0} where the item is not of this document. */
struct jsonc_place {
    int64_t line, col; /* from 1; columns count characters */
};
struct jsonc_place jsonc_item_place(const struct jsonc *doc, const cJSON *item);

/* The text from an item's first character on (not cut where it ends), NULL where the item is not of
 * this document. For numbers: cJSON keeps only a double of them, the text has all digits. */
const char *jsonc_item_text(const struct jsonc *doc, const cJSON *item);

/* "FILE:LINE:COL: message" about an item of this document (NULL: "FILE: message"), and false. */
bool jsonc_fail(const struct jsonc *doc, const cJSON *item, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* "FILE:LINE:COL: NAME is VALUE; allowed: ..." about an item of this document, its value as the
 * file spells it (a long one cut), and false. */
bool jsonc_refuse(const struct jsonc *doc, const cJSON *item, struct err *e, const char *name,
                  const char *allowed, ...) __attribute__((format(printf, 5, 6)));

/* An item as the file spells it, without white space between its parts; an item of no document as
 * jsonc_print has it. The caller frees it; NULL where there is no memory. */
char *jsonc_spelling(const struct jsonc *doc, const cJSON *item, struct err *e);

/* The characters of a string item with their number: they may hold zeros, which end cJSON's
 * `valuestring` (without doc->zeros it is the whole string). NULL where there is no memory; the
 * caller frees it. */
char *jsonc_string(const struct jsonc *doc, const cJSON *item, size_t *len, struct err *e);

/* ---- writing ---- */

/* A string item of n bytes, zeros and all. NULL where there is no memory. */
cJSON *jsonc_new_string(const char *s, size_t n);

enum { JSONC_NUMBER = 32 }; /* bytes for one, with its NUL */
/* The fewest digits that read back as v, which is finite. */
void jsonc_number(char out[JSONC_NUMBER], double v);
/* Makes what cJSON cannot hold raw items (cJSON_IsRaw), with the spelling of the text: all numbers,
 * and strings with zeros. A tree that was read is printed as it was then. */
bool jsonc_keep_spelling(struct jsonc *doc, struct err *e);

/* The text of a tree, with line breaks and tabs or without; each number has the fewest digits that
 * read back as the same double (cJSON's own printing loses the last bit). The caller frees it. */
char *jsonc_print(const cJSON *root, bool pretty, struct err *e);

#endif
