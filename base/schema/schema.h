/* schema.h - a strict config reader made of tables: one row per option says its key, its type, the
 * field that takes it, its default, what is allowed, and one line of help. From the same rows come
 * the error messages, the resolved dump, the comparison on --resume and the reference in Markdown.
 *
 *     struct source { const char *path; double weight; };
 *     struct config {
 *         const char *name;
 *         struct { int64_t low_rank; int kind; double ratio; bool has_ratio; } svd;
 *         struct { double lr; struct schema_doubles betas; } optim;
 *         struct schema_objects sources; // of struct source
 *     };
 *     enum { KIND_HIGH, KIND_LOW }; // in the order of the names in the row
 *
 *     static const struct schema_row source_rows[] = {
 *         {"path", SCHEMA_STRING(struct source, path), .min_len = 1, .help = "LLaVA JSON"},
 *         {"weight", SCHEMA_DOUBLE(struct source, weight), .def = "1", .min = SCHEMA_ABOVE(0),
 *          .help = "how often it is drawn, relative to the others"},
 *     };
 *     static const struct schema source_schema = SCHEMA(struct source, source_rows);
 *
 *     static const struct schema_row rows[] = {
 *         {"name", SCHEMA_STRING(struct config, name), .help = "..."}, // no .def: must be given
 *         {"svd.low_rank", SCHEMA_INT(struct config, svd.low_rank), .def = "64",
 *          .min = SCHEMA_FROM(1), .max = SCHEMA_TO(4096), .help = "rank of the latent, columns"},
 *         {"svd.kind", SCHEMA_ENUM(struct config, svd.kind, "high", "low"), .def = "\"high\"",
 *          .help = "which pairs keep RoPE"},
 *         {"svd.ratio", SCHEMA_DOUBLE(struct config, svd.ratio),
 *          SCHEMA_NULL(struct config, svd.has_ratio), .def = "null", .help = "..."},
 *         {"optim.lr", SCHEMA_DOUBLE(struct config, optim.lr), .def = "1e-4",
 *          .min = SCHEMA_ABOVE(0), .may_change = true, .help = "peak learning rate"},
 *         {"optim.betas", SCHEMA_DOUBLES(struct config, optim.betas), .def = "[0.9, 0.95]",
 *          .min_len = 2, .max_len = 2, .min = SCHEMA_FROM(0), .max = SCHEMA_BELOW(1),
 *          .help = "decay of the two moments, per step"},
 *         {"sources", SCHEMA_OBJECTS(struct config, sources, source_schema), .def = "[]",
 *          .help = "the training data"},
 *     };
 *     static const struct schema config_schema = SCHEMA(struct config, rows);
 *
 *     struct config c;
 *     if (!schema_load(&config_schema, &c, "a.json", sets, nsets, e)) return false;
 *     const struct source *src = c.sources.v; // c.sources.n of them
 *     schema_free(&config_schema, &c);
 *
 * Every error is one line, and only the first is reported:
 *     a.json:7: svd.low_rank: must be 1..4096, found 0
 *     --set 2: svd.kind: one of high, low; found "hi"; did you mean "high"?
 */
#ifndef BASE_SCHEMA_SCHEMA_H
#define BASE_SCHEMA_SCHEMA_H

#include "base/err.h"
#include "base/json/jsonc.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The field's type for each row type, in brackets. The config owns everything behind a pointer: the
 * program reads it and never assigns it. */
enum schema_type {
    SCHEMA_TYPE_BOOL,   /* [bool] */
    SCHEMA_TYPE_INT,    /* [int64_t] 4.0 is accepted as 4, 4.5 is an error */
    SCHEMA_TYPE_DOUBLE, /* [double] finite */
    SCHEMA_TYPE_STRING, /* [const char *] UTF-8; NULL is null */
    SCHEMA_TYPE_ENUM,   /* [int or an enum] the index into the row's names */
    SCHEMA_TYPE_INTS,   /* [struct schema_ints] and so on */
    SCHEMA_TYPE_DOUBLES,
    SCHEMA_TYPE_STRINGS,
    SCHEMA_TYPE_ENUMS,
    SCHEMA_TYPE_OBJECTS, /* [struct schema_objects] elements have their own table */
};

struct schema_ints {
    int64_t *v;
    int64_t n;
};
struct schema_doubles {
    double *v;
    int64_t n;
};
struct schema_strings {
    const char **v;
    int64_t n;
};
struct schema_enums {
    int *v;
    int64_t n;
};
struct schema_objects {
    void *v; /* n structs of the sub-table's size */
    int64_t n;
};

#define SCHEMA_LIST_LIMIT 4096 /* elements, if a row gives no max_len */

struct schema_bound {
    enum { SCHEMA_NO_BOUND, SCHEMA_INCLUSIVE, SCHEMA_EXCLUSIVE } kind;
    double v;
};

struct schema_row {
    const char *key; /* dotted: "svd.low_rank" is {"svd": {"low_rank": ...}} */
    enum schema_type type;
    size_t offset; /* of the field in the table's struct */

    const char *def;              /* JSON text; NULL: the option must be given */
    struct schema_bound min, max; /* INT, DOUBLE and each element of their lists */
    int64_t min_len, max_len;     /* lists: elements; STRING: characters; 0: no limit */
    const char *const *names;     /* ENUM, ENUMS: the allowed strings, NULL-terminated */
    const struct schema *sub;     /* OBJECTS */
    bool path;                    /* STRING: names a file or a directory */
    bool nullable;                /* null is allowed */
    size_t has;                   /* nullable, not STRING: 1 + offset of a bool, false for null */
    bool may_change;              /* may differ in a resumed run */
    bool may_move;                /* STRING: may differ too, but null stays null: the program
                                     compares what it names */
    const char *help;             /* one line, with the unit */
};

struct schema {
    const struct schema_row *rows;
    size_t nrows, size; /* size of the struct, in bytes */
    size_t given;       /* 1 + offset of a bool *, for schema_given; 0: not recorded */
};

/* Macros, so that each checks at compile time that the field has the row's type. */
/* clang-format off */
#define SCHEMA(S, table) {(table), sizeof(table) / sizeof((table)[0]), sizeof(S), 0}
#define SCHEMA_WITH_GIVEN(S, table, f) \
    {(table), sizeof(table) / sizeof((table)[0]), sizeof(S), 1 + SCHEMA_OFFSET_(S, f, bool *)}

#define SCHEMA_OFFSET_(S, f, T) _Generic(((S){0}).f, T: offsetof(S, f))
#define SCHEMA_FIELD_(TYPE, S, f, T) \
    .type = SCHEMA_TYPE_##TYPE, .offset = SCHEMA_OFFSET_(S, f, T)
#define SCHEMA_NAMES_(...) .names = (const char *const[]){__VA_ARGS__, NULL}

#define SCHEMA_BOOL(S, f) SCHEMA_FIELD_(BOOL, S, f, bool)
#define SCHEMA_INT(S, f) SCHEMA_FIELD_(INT, S, f, int64_t)
#define SCHEMA_DOUBLE(S, f) SCHEMA_FIELD_(DOUBLE, S, f, double)
#define SCHEMA_STRING(S, f) SCHEMA_FIELD_(STRING, S, f, const char *)
#define SCHEMA_PLACE(S, f) SCHEMA_STRING(S, f), .path = true /* of a file or a directory */
#define SCHEMA_INTS(S, f) SCHEMA_FIELD_(INTS, S, f, struct schema_ints)
#define SCHEMA_DOUBLES(S, f) SCHEMA_FIELD_(DOUBLES, S, f, struct schema_doubles)
#define SCHEMA_STRINGS(S, f) SCHEMA_FIELD_(STRINGS, S, f, struct schema_strings)
#define SCHEMA_ENUMS(S, f, ...) \
    SCHEMA_FIELD_(ENUMS, S, f, struct schema_enums), SCHEMA_NAMES_(__VA_ARGS__)
#define SCHEMA_OBJECTS(S, f, table) \
    SCHEMA_FIELD_(OBJECTS, S, f, struct schema_objects), .sub = &(table)
/* An enum's own type is int or unsigned, at the compiler's choice. */
#define SCHEMA_ENUM(S, f, ...) \
    .type = SCHEMA_TYPE_ENUM, SCHEMA_NAMES_(__VA_ARGS__), \
    .offset = _Generic(((S){0}).f, int: offsetof(S, f), unsigned: offsetof(S, f))

/* Allows null, which sets this bool of the struct to false. A string needs only .nullable. */
#define SCHEMA_NULL(S, f) .nullable = true, .has = 1 + SCHEMA_OFFSET_(S, f, bool)

#define SCHEMA_FROM(x) {SCHEMA_INCLUSIVE, (x)} /* .min */
#define SCHEMA_ABOVE(x) {SCHEMA_EXCLUSIVE, (x)}
#define SCHEMA_TO(x) {SCHEMA_INCLUSIVE, (x)} /* .max */
#define SCHEMA_BELOW(x) {SCHEMA_EXCLUSIVE, (x)}
/* clang-format on */

/* Fills *config (s->size bytes, need not be initialised) with the defaults, then from the file
 * (NULL: none), then from each "KEY=VALUE" of `sets`, in order. A VALUE is read as JSON and, if it
 * is not JSON, taken as a string; for a string or enum row it is always the string itself, unless
 * it is a JSON string ("null" is null for a nullable row). Lists and objects replace earlier
 * values, except that KEY may address keys within an object ("svd={...}" changes only the keys it
 * names) and an existing element of a list of objects ("data.train[1].path=x"). On failure fills *e
 * and leaves *config zeroed, nothing to free. */
bool schema_load(const struct schema *s, void *config, const char *path, const char *const *sets,
                 size_t nsets, struct err *e);

/* The same with a file already parsed; doc may be NULL and is not kept. */
bool schema_load_doc(const struct schema *s, void *config, const struct jsonc *doc,
                     const char *const *sets, size_t nsets, struct err *e);

/* Overrides, as above, of a config that is loaded; a message names the i-th of them "LABEL[i]". On
 * failure some may have been applied. What they set counts as given. */
bool schema_apply(const struct schema *s, void *config, const char *const *sets, size_t nsets,
                  const char *label, struct err *e);

/* A config with the same values, and the same rows given. On failure *copy is zeroed. */
bool schema_copy(const struct schema *s, void *copy, const void *config, struct err *e);

/* *same: the rows whose keys begin with `group` ("" or "svd."), but for the row `except` (NULL:
 * none), have equal values in both. */
bool schema_same(const struct schema *s, const void *a, const void *b, const char *group,
                 const char *except, bool *same, struct err *e);

/* Whether the file or an override set this row of the table. */
bool schema_given(const struct schema *s, const void *config, const struct schema_row *row);

/* Releases all strings and lists and zeroes *config; fine on a zeroed struct. */
void schema_free(const struct schema *s, void *config);

/* Checks the table itself: no key twice, none both option and group, help everywhere, rows complete
 * for their type, defaults accepted by their own rows. For testing a table. */
bool schema_check(const struct schema *s, struct err *e);

/* The resolved config as JSON, indented by two spaces: every key, in the table's order. Reading it
 * back gives the same values to the last bit. In new memory; NULL with *e set on failure. */
char *schema_dump(const struct schema *s, const void *config, struct err *e);

/* The keys that differ, on one line: "svd.low_rank (was 64, now 32), name (was \"a\", now \"b\")",
 * or "" if none do. With locked_only, whatever may differ in a resumed run is left out. In new
 * memory; NULL with *e set on failure. */
char *schema_dump_diff(const struct schema *s, const void *was, const void *now, bool locked_only,
                       struct err *e);

/* The settings as a Markdown table: key, type, default, allowed, help. A list of objects is
 * followed by its elements as "sources[].path". Write errors stay in fp. */
void schema_markdown(const struct schema *s, FILE *fp);

#endif
