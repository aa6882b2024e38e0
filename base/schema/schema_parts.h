/* schema_parts.h - shared by the schema engine's files: schema.c walks keys, schema_value.c sets
 * one row's field, schema_print.c writes. Private to them. */
#ifndef BASE_SCHEMA_SCHEMA_PARTS_H
#define BASE_SCHEMA_SCHEMA_PARTS_H

#include "base/schema/schema.h"

#define SCHEMA_PATH 256 /* bytes of a key path in a message; longer ones are cut */

/* Where a value comes from, for messages. */
struct schema_source {
    const struct jsonc *doc; /* the values' document */
    const char *label;       /* "--set 2", "default"; NULL: doc is a file with lines */
    struct err *e;
};

/* All list fields are {pointer, count}, copied bytewise to and from this struct. */
struct schema_list {
    void *v;
    int64_t n;
};

/* schema.c: fills one zeroed element of a list of objects. On failure the element may be partly
 * filled: schema_free releases it. `shown` is the element's path. */
bool schema_fill(const struct schema_source *src, const struct schema *s, void *config,
                 const char *shown, const cJSON *object);

/* schema_value.c: sets the row's field in *config from item, releasing the old value; on failure
 * the field may be partly filled, and schema_clear releases it. `path` is for messages. */
bool schema_set(const struct schema_source *src, const struct schema_row *row, void *config,
                const char *path, const cJSON *item);
/* Releases the row's field and zeroes it. */
void schema_clear(const struct schema_row *row, void *config);
/* A key path formatted as by printf, cut with "..." if too long for a message. */
void schema_path(char path[SCHEMA_PATH], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Sets "FILE:LINE: PATH: ..." or "LABEL: PATH: ..."; returns false. item may be
 * NULL: no line then. */
bool schema_fail(const struct schema_source *src, const cJSON *item, const char *path,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Describes a value: "the string \"4\"", "the number 4.5", "a list". Returns out. */
const char *schema_found(const struct schema_source *src, const cJSON *item, char *out,
                         size_t size);

/* The name nearest to a wanted one, by edit distance. */
struct schema_nearest {
    const char *want;
    size_t want_len, distance;
    const char *best; /* borrowed, best_len bytes; NULL while nothing is near */
    size_t best_len;
};
void schema_nearest_try(struct schema_nearest *n, const char *name, size_t len);

bool schema_is_list(enum schema_type type);
struct schema_list schema_get_list(const struct schema_row *row, const void *config);

/* schema_print.c */
void schema_print_range(FILE *fp, const struct schema_row *row);  /* "1..4096", "above 0" */
void schema_print_length(FILE *fp, const struct schema_row *row); /* "2 elements" */
void schema_print_names(FILE *fp, const struct schema_row *row);  /* "one of a, b" */
void schema_print_string(FILE *fp, const char *s);                /* as a JSON string */

#endif
