/* hfjson.h - reads the keys of a JSON object into the fields of a struct, driven by a table:
 * one row per key with its kind, range and default; and reports keys that were not read.
 * Private to model/config/. */
#ifndef MODEL_FILES_HFJSON_H
#define MODEL_FILES_HFJSON_H

#include "base/err.h"
#include "base/json/jsonc.h"

#include <stddef.h>
#include <stdint.h>

enum { HF_NO_TOKEN = -1 };

enum hf_kind {
    HF_INT,    /* int64_t in lo..hi */
    HF_NUM,    /* double in lo..hi */
    HF_BOOL,   /* bool */
    HF_TOKEN,  /* int64_t: HF_NO_TOKEN or a token id */
    HF_CHOICE, /* an enum, stored as int: the value of the name in `choices` */
    HF_NAME,   /* const char *: one of `names`, or any text if that is NULL */
    HF_FIXED,  /* not stored: must be absent, null or the number `lo` */
};

struct hf_choice {
    const char *name;
    int value;
};

/* def[v] is the default for variant v (a model type); an HF_NAME has def_name. */
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

/* Rows for a struct member named like its key. Integers start at 1. */
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

/* The values that were read. */
enum { HF_MAX_USED = 256 };
struct hf_used {
    const cJSON *item[HF_MAX_USED];
    int n;
};

struct hf_reader {
    const struct jsonc *doc; /* gives file, line and column for messages */
    const char *prefix;      /* precedes keys in messages: "text_config." */
    struct hf_used *used;
    struct err *e;
};

/* The value under `key`, NULL if absent; marks it as used. */
const cJSON *hf_get(const struct hf_reader *r, const cJSON *obj, const char *key);

/* As hf_get, for an object: null counts as absent, anything else is refused. */
bool hf_get_object(const struct hf_reader *r, const cJSON *obj, const char *key, const cJSON **out);

/* Sets "FILE:LINE:COL: PREFIXKEY is VALUE; allowed: ..."; returns false. v may be NULL: "FILE:
 * PREFIXKEY is missing; ...". */
bool hf_refuse(const struct hf_reader *r, const char *key, const cJSON *v, const char *allowed, ...)
    __attribute__((format(printf, 4, 5)));

/* Sets "FILE:LINE:COL: PREFIXKEY ..." about the value under `key`, which may be absent
 * ("FILE: ..."); returns false. */
bool hf_fail(const struct hf_reader *r, const cJSON *obj, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds "PREFIXKEY, ..." to *list (initially NULL; the caller frees it) for each key of obj that
 * was not read, is not in `harmless` (NULL-terminated) and has a value: null, false, or an empty
 * text, list or object do not count. With `values`, numbers and words follow their keys. A long
 * list ends in "...". */
bool hf_list_unused(const struct hf_reader *r, const cJSON *obj, const char *const *harmless,
                    bool values, char **list);

/* An integer in lo..hi that a double represents exactly. */
bool hf_is_int(const cJSON *v, double lo, double hi);

/* Fills all n fields of the struct at `dst` from obj; NULL counts as an empty object. */
bool hf_read_fields(const struct hf_reader *r, const cJSON *obj, const struct hf_field *fields,
                    size_t n, int variant, void *dst);

/* The inverse: sets the fields' keys in obj. A NULL string becomes null if the key was there or
 * with `keep_null`, and is left out otherwise. */
bool hf_write_fields(cJSON *obj, const struct hf_field *fields, size_t n, const void *src,
                     bool keep_null, struct err *e);

/* Sets a key, replacing its value; takes over `value`, of which NULL is out of memory. */
bool hf_set_key(cJSON *obj, const char *key, cJSON *value, struct err *e);

#endif
