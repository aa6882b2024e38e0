/* hfjson.h - reads the keys of a JSON object into the fields of a struct, by a table: one row per
 * key with its kind, range and default; and says which keys nobody asked for. Private to
 * model/hf*.c. */
#ifndef MODEL_FILES_HFJSON_H
#define MODEL_FILES_HFJSON_H

#include "base/err.h"
#include "base/json/jsonc.h"

#include <stddef.h>
#include <stdint.h>

enum hf_kind {
    HF_INT,    /* int64_t in lo..hi */
    HF_NUM,    /* double in lo..hi */
    HF_BOOL,   /* bool */
    HF_TOKEN,  /* int64_t: HF_NO_TOKEN or a token id */
    HF_CHOICE, /* an enum, stored as int: the value of the name in `choices` */
    HF_NAME,   /* const char *: one of `names`, any text where that is NULL */
    HF_FIXED,  /* stored nowhere: must be left out, null or the number `lo` */
};

struct hf_choice {
    const char *name;
    int value;
};

/* def[v] is the default of variant v (a model type); an HF_NAME has def_name. */
struct hf_field {
    const char *key;
    enum hf_kind kind;
    size_t offset;
    double lo, hi;
    double def[4];
    bool nullable; /* null is allowed: 0, HF_NO_TOKEN or NULL */
    const struct hf_choice *choices;
    const char *const *names;
    const char *def_name;
};

/* Rows for a struct's member of the key's name. Whole numbers start at 1. */
#define HF_ROW(type, member) .key = #member, .offset = offsetof(struct type, member)
#define HF_INT_ROW(type, member, max, ...)                                                         \
    {                                                                                              \
        HF_ROW(type, member), .kind = HF_INT, .lo = 1, .hi = max, .def = { __VA_ARGS__ }           \
    }
#define HF_NUM_ROW(type, member, min, max, d)                                                      \
    {                                                                                              \
        HF_ROW(type, member), .kind = HF_NUM, .lo = min, .hi = max, .def = { d, d, d, d }          \
    }
#define HF_BOOL_ROW(type, member, d)                                                               \
    {                                                                                              \
        HF_ROW(type, member), .kind = HF_BOOL, .def = { d, d, d, d }                               \
    }

/* The values that were asked for. */
enum { HF_MAX_USED = 256 };
struct hf_used {
    const cJSON *item[HF_MAX_USED];
    int n;
};

struct hf_reader {
    const struct jsonc *doc; /* for the messages' file, line and column */
    const char *prefix;      /* before a key in messages, "text_config." */
    struct hf_used *used;
    struct err *e;
};

/* The value under `key`, NULL where it is not there; it counts as used. */
const cJSON *hf_get(const struct hf_reader *r, const cJSON *obj, const char *key);

/* As hf_get, for an object: null counts as not there, anything else is refused. */
bool hf_get_object(const struct hf_reader *r, const cJSON *obj, const char *key, const cJSON **out);

/* "FILE:LINE:COL: PREFIXKEY is VALUE; allowed: ..." and false. v may be NULL: "FILE: PREFIXKEY is
 * missing; ...". */
bool hf_refuse(const struct hf_reader *r, const char *key, const cJSON *v, const char *allowed, ...)
    __attribute__((format(printf, 4, 5)));

/* "FILE:LINE:COL: PREFIXKEY ..." about the value under `key`, which may be left out ("FILE: ..."),
 * and false. */
bool hf_fail(const struct hf_reader *r, const cJSON *obj, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds to *list (NULL at first; the caller frees it) "PREFIXKEY, ..." for each key of obj that was
 * not asked for, is not one of `harmless` (NULL at the end) and says something: null, false, an
 * empty text, list or object do not. With `values` numbers and words stand behind their keys. A
 * list that grows long ends in "...". */
bool hf_list_unused(const struct hf_reader *r, const cJSON *obj, const char *const *harmless,
                    bool values, char **list);

/* A whole number in lo..hi that a double holds exactly. */
bool hf_is_int(const cJSON *v, double lo, double hi);

/* Fills all n fields of the struct at `dst` from obj; NULL stands for an empty object. */
bool hf_read_fields(const struct hf_reader *r, const cJSON *obj, const struct hf_field *fields,
                    size_t n, int variant, void *dst);

/* The reverse: sets the fields' keys in obj. A NULL string becomes null where the key has been
 * there or `keep_null`, and is left out otherwise. */
bool hf_write_fields(cJSON *obj, const struct hf_field *fields, size_t n, const void *src,
                     bool keep_null, struct err *e);

#endif
