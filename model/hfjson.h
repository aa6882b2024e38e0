/* hfjson.h - reads the keys of a JSON object into the fields of a struct, by a table: one row per
 * key with its kind, range and default. Private to model/hfconfig*.c. */
#ifndef MODEL_HFJSON_H
#define MODEL_HFJSON_H

#include "base/err.h"

#include <cjson/cJSON.h>
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
    double def[2];
    bool nullable; /* null is allowed: 0, HF_NO_TOKEN or NULL */
    const struct hf_choice *choices;
    const char *const *names;
    const char *def_name;
};

/* Rows for a struct's member of the key's name. Whole numbers start at 1. */
#define HF_ROW(type, member) .key = #member, .offset = offsetof(struct type, member)
#define HF_INT_ROW(type, member, max, d0, d1)                                                      \
    {                                                                                              \
        HF_ROW(type, member), .kind = HF_INT, .lo = 1, .hi = max, .def = { d0, d1 }                \
    }
#define HF_NUM_ROW(type, member, min, max, d)                                                      \
    {                                                                                              \
        HF_ROW(type, member), .kind = HF_NUM, .lo = min, .hi = max, .def = { d, d }                \
    }
#define HF_BOOL_ROW(type, member, d)                                                               \
    {                                                                                              \
        HF_ROW(type, member), .kind = HF_BOOL, .def = { d, d }                                     \
    }

struct hf_reader {
    const char *file;
    const char *prefix; /* before a key in messages, "text_config." */
    struct err *e;
};

/* The value under `key`, NULL where it is not there. Fails where it is there twice. */
bool hf_get(const struct hf_reader *r, const cJSON *obj, const char *key, const cJSON **out);

/* As hf_get, for an object: null counts as not there, anything else is refused. */
bool hf_get_object(const struct hf_reader *r, const cJSON *obj, const char *key, const cJSON **out);

/* "FILE: PREFIXKEY is VALUE; allowed: ..." and false. v may be NULL: "is missing". */
bool hf_refuse(const struct hf_reader *r, const char *key, const cJSON *v, const char *allowed, ...)
    __attribute__((format(printf, 4, 5)));

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
