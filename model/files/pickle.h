/* pickle.h - Python's pickles as far as torch.save writes them for tensors by name (protocol 2; the
 * opcodes are those that torch.load reads with weights_only). Nothing is run: a call of a Python
 * function stays a value that says which function and with what, and a function that the caller
 * does not list is refused by name. Values are numbers of rows of one table, so that a pickle that
 * refers to itself is no danger; the table has at most one row for a byte of the pickle. */
#ifndef MODEL_FILES_PICKLE_H
#define MODEL_FILES_PICKLE_H

#include "model/files/zip.h"

#define PICKLE_VALUES 1000000 /* rows, of 48 bytes: over 50 000 tensors by name */
#define PICKLE_NAME 256       /* bytes of a function's name */

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,   /* number */
    PICKLE_INT,    /* number */
    PICKLE_FLOAT,  /* its value is not kept */
    PICKLE_TEXT,   /* text */
    PICKLE_GLOBAL, /* text: "MODULE\nNAME\n" */
    PICKLE_TUPLE,  /* items */
    PICKLE_LIST,   /* items */
    PICKLE_DICT,   /* items: key, value, key, value ...; an OrderedDict too */
    PICKLE_CALL,   /* items: the function, its arguments (a tuple) */
    PICKLE_OUTSIDE /* items: one, the tuple that says what lies outside of the pickle (storages) */
};

struct pickle_value {
    enum pickle_kind kind;
    int64_t number;
    struct bytes text;    /* in the pickle */
    uint32_t first, last; /* of its items: cells; 0 where it has none */
    uint32_t count;       /* items */
};

/* One item of a value, and the next one's cell. */
struct pickle_cell {
    uint32_t value, next;
};

struct pickle {
    struct pickle_value *value;
    struct pickle_cell *cell; /* [0] is none */
    size_t values, cells, value_cap, cell_cap;
    uint32_t root;
};

/* Reads the whole of `in`, which must stay while *p is used. `globals` ends with NULL and has the
 * functions that may occur, as "MODULE\nNAME\n". The message does not name the file; *p is zeroed
 * on failure. */
bool pickle_read(struct pickle *p, struct bytes in, const char *const *globals, struct err *e);
void pickle_free(struct pickle *p); /* fine on a zeroed struct */

/* The i-th item of a tuple, list, dict or call; NULL where there is none. Takes time in proportion
 * to i. */
const struct pickle_value *pickle_item(const struct pickle *p, const struct pickle_value *v,
                                       uint32_t i);

/* Whether v is the text `want`, or the global of that name. */
bool pickle_is(const struct pickle_value *v, enum pickle_kind kind, const char *want);

#endif
