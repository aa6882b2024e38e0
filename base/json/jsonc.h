/* jsonc.h - reads all JSON of the programs: settings (with comments) and other programs' files.
 * cJSON builds the tree; a strict scan of the text comes first, for what cJSON cannot do: messages
 * with line and column, duplicate keys, limits, strings that contain zero characters, and the
 * position and exact spelling of each value.
 *
 * Extensions to JSON: slash-slash and slash-star comments (unless `plain`) and a UTF-8 byte order
 * mark; trailing commas are errors. Stricter than JSON: no duplicate keys in an object, no zero
 * character (\u0000) in a key, and in a string only where `zeros` allows it, no unpaired
 * surrogates, limits on nesting and on the number of values, numbers of at most 63 characters.
 *
 * A parse error is one line: "FILE:LINE:COL: what is wrong, near '...'". Columns count characters,
 * not bytes; both start at 1. */
#ifndef BASE_JSON_JSONC_H
#define BASE_JSON_JSONC_H

#include "base/err.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

#define JSONC_DEPTH 64                       /* nesting of lists and objects */
#define JSONC_CONFIG_BYTES ((size_t)1 << 20) /* limit for files that people write by hand */
#define JSONC_VALUES 4000000                 /* values in one text: about 400 MB when parsed */

/* A bit in the `type` of number items beside cJSON's own: spelled with a fraction or an exponent,
 * as 1.0, which other programs may not take for 1. cJSON_Duplicate keeps it,
 * jsonc_print writes it. */
enum { JSONC_FRACTION = 1 << 16 };

struct jsonc_pos {
    const cJSON *item;
    size_t key, value; /* byte offsets into text; key = value if the item has no key */
};

struct jsonc {
    cJSON *root;
    char *text; /* comments overwritten with spaces, so that offsets and lines match the file */
    char *path; /* name used in messages */
    struct jsonc_pos *pos; /* [npos + 1] one per value in the text; see find_pos in jsonc.c */
    size_t npos;
    int64_t line, col; /* position of the text's first character */
    bool zeros;        /* some string contains \u0000: its `valuestring` ends there */
};

/* Reads a file of at most `limit` bytes. On failure fills *e and leaves *doc zeroed. */
bool jsonc_read(struct jsonc *doc, const char *path, size_t limit, struct err *e);

/* The same for `len` bytes in memory, which are copied; messages call them `name`. */
bool jsonc_parse(struct jsonc *doc, const char *name, const char *text, size_t len, struct err *e);

/* How other texts differ from a settings file. */
struct jsonc_rules {
    int64_t line, col; /* where the text begins in its file; 0: at 1 */
    size_t max_values; /* 0: JSONC_VALUES */
    int max_depth;     /* below JSONC_DEPTH; 0: that */
    bool plain;        /* no comments: JSON as other programs write it */
    bool pipe;         /* the file may be a pipe */
    bool settings;     /* people write it: if it is YAML or the like, say that it must be JSON */
    bool zeros;        /* strings may hold \u0000; their text comes from jsonc_string */
};
bool jsonc_read_as(struct jsonc *doc, const char *path, size_t limit,
                   const struct jsonc_rules *rules, struct err *e);
bool jsonc_parse_as(struct jsonc *doc, const char *name, const char *text, size_t len,
                    const struct jsonc_rules *rules, struct err *e);

void jsonc_close(struct jsonc *doc); /* fine on a zeroed struct */

/* The value at a path such as "svd.low_rank" or "data.train[1].path" ("" is the root), borrowed
 * from *doc; NULL if there is none. Keys that contain a dot or a bracket cannot be addressed. */
const cJSON *jsonc_find(const struct jsonc *doc, const char *path);

/* The line of that value's key (of the value itself in a list), 0 if there is no such value. */
int jsonc_line(const struct jsonc *doc, const char *path);
int jsonc_item_line(const struct jsonc *doc, const cJSON *item);

/* The same with the column; {0, 0} if the item is not of this document. */
struct jsonc_place {
    int64_t line, col; /* from 1; columns count characters */
};
struct jsonc_place jsonc_item_place(const struct jsonc *doc, const cJSON *item);

/* The text starting at an item's first character (and not cut at its end), NULL if the item is not
 * of this document. For numbers: cJSON keeps only a double, the text has all digits. */
const char *jsonc_item_text(const struct jsonc *doc, const cJSON *item);

/* "FILE:LINE:COL: message" about an item of this document (NULL: "FILE: message"), and false. */
bool jsonc_fail(const struct jsonc *doc, const cJSON *item, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Sets "FILE:LINE:COL: NAME is VALUE; allowed: ..." about an item of this document, with its value
 * as spelled in the file (cut if long); returns false. */
bool jsonc_refuse(const struct jsonc *doc, const cJSON *item, struct err *e, const char *name,
                  const char *allowed, ...) __attribute__((format(printf, 5, 6)));

/* An item as spelled in the file, without white space between tokens; an item of no document is
 * printed by jsonc_print. The caller frees it; NULL if out of memory. */
char *jsonc_spelling(const struct jsonc *doc, const cJSON *item, struct err *e);

/* The characters of a string item and their number: unlike cJSON's `valuestring` they may include
 * zeros (without doc->zeros both are the same). The caller frees it; NULL if out of memory. */
char *jsonc_string(const struct jsonc *doc, const cJSON *item, size_t *len, struct err *e);

/* ---- writing ---- */

/* A string item of n bytes, which may include zeros. NULL if out of memory. */
cJSON *jsonc_new_string(const char *s, size_t n);

enum { JSONC_NUMBER = 32 }; /* bytes for a number with its NUL */
/* The fewest digits that read back as v, which must be finite. */
void jsonc_number(char out[JSONC_NUMBER], double v);
/* Turns what cJSON cannot represent into raw items (cJSON_IsRaw) spelled as in the text: all
 * numbers, and strings with zeros. The tree then prints as it was read. */
bool jsonc_keep_spelling(struct jsonc *doc, struct err *e);

/* The text of a tree, with or without line breaks and tabs; each number has the fewest digits that
 * read back as the same double (cJSON's own printing loses the last bit), and a fraction or an
 * exponent if it had one when it was read. The caller frees it. */
char *jsonc_print(const cJSON *root, bool pretty, struct err *e);

#endif
