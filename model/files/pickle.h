/* pickle.h - Python pickles, as far as torch.save uses them for tensors by name (protocol 2;
 * the opcodes are those that torch.load accepts with weights_only). Nothing is executed: a call
 * of a Python function stays a value that records the function and its arguments, and a
 * function that the caller does not list is refused by name. Values refer to each other by row
 * number in one table, so that a self-referential pickle is harmless; the table has at most one
 * row per byte of the pickle. */
#ifndef MODEL_FILES_PICKLE_H
#define MODEL_FILES_PICKLE_H

#include "model/files/zip.h"

#define PICKLE_VALUES 1000000 /* rows, 48 bytes each: enough for 50 000 tensors by name */
#define PICKLE_NAME 256       /* bytes of a function's name */

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,   /* number */
    PICKLE_INT,    /* number */
    PICKLE_FLOAT,  /* value not kept */
    PICKLE_TEXT,   /* text */
    PICKLE_GLOBAL, /* text: "MODULE\nNAME\n" */
    PICKLE_TUPLE,  /* items */
    PICKLE_LIST,   /* items */
    PICKLE_DICT,   /* items: key, value, key, value ...; also an OrderedDict */
    PICKLE_CALL,   /* items: the function, its arguments (a tuple) */
    PICKLE_OUTSIDE /* items: one, a tuple that describes something outside the pickle (a storage) */
};

struct pickle_value {
    enum pickle_kind kind;
    int64_t number;
    struct bytes text;    /* points into the pickle */
    uint32_t first, last; /* cells of its items; 0 if it has none */
    uint32_t count;       /* items */
};

/* One item of a value, and the cell of the next. */
struct pickle_cell {
    uint32_t value, next;
};

struct pickle {
    struct pickle_value *value;
    struct pickle_cell *cell; /* [0] means none */
    size_t values, cells, value_cap, cell_cap;
    uint32_t root;
};

/* Reads all of `in`, which must stay valid while *p is used. `globals` lists the functions that
 * may occur as "MODULE\nNAME\n", NULL-terminated. The message does not name the file; on
 * failure *p is zeroed. */
bool pickle_read(struct pickle *p, struct bytes in, const char *const *globals, struct err *e);
void pickle_free(struct pickle *p); /* fine on a zeroed struct */

/* The i-th item of a tuple, list, dict or call; NULL if there is none. Takes time
 * proportional to i. */
const struct pickle_value *pickle_item(const struct pickle *p, const struct pickle_value *v,
                                       uint32_t i);

/* Whether v is the text `want`, or the global of that name. */
bool pickle_is(const struct pickle_value *v, enum pickle_kind kind, const char *want);

#endif
