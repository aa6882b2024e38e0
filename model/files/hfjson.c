/* hfjson.c - the one place that turns JSON values into checked C values, so that all keys follow
 * the same rules and give the same messages. */
#include "model/files/hfjson.h"
#include "base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_EXACT 9007199254740992.0 /* 2^53: JSON numbers are doubles here */
#define MAX_TOKEN 2147483647.0

static bool is_used(const struct hf_used *used, const cJSON *item)
{
    for (int i = 0; i < used->n; i++)
        if (used->item[i] == item) return true;
    return false;
}

const cJSON *hf_get(const struct hf_reader *r, const cJSON *obj, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(obj, key);

    if (!item || is_used(r->used, item)) return item;
    CHECK(r->used->n < HF_MAX_USED); /* the tables are smaller */
    r->used->item[r->used->n++] = item;
    return item;
}

bool hf_get_object(const struct hf_reader *r, const cJSON *obj, const char *key, const cJSON **out)
{
    *out = hf_get(r, obj, key);
    if (cJSON_IsNull(*out)) *out = NULL;
    return !*out || cJSON_IsObject(*out) || hf_refuse(r, key, *out, "an object");
}

bool hf_refuse(const struct hf_reader *r, const char *key, const cJSON *v, const char *allowed, ...)
{
    char what[512], name[128];
    va_list ap;

    va_start(ap, allowed);
    vsnprintf(what, sizeof what, allowed, ap);
    va_end(ap);
    snprintf(name, sizeof name, "%s%s", r->prefix, key);
    return v ? jsonc_refuse(r->doc, v, r->e, name, "%s", what)
             : jsonc_fail(r->doc, NULL, r->e, "%s is missing; allowed: %s", name, what);
}

bool hf_fail(const struct hf_reader *r, const cJSON *obj, const char *key, const char *fmt, ...)
{
    char what[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return jsonc_fail(r->doc, cJSON_GetObjectItemCaseSensitive(obj, key), r->e, "%s%s %s",
                      r->prefix, key, what);
}

/* Whether a value could have an effect if something read it. */
static bool says_something(const cJSON *v)
{
    const char *text = cJSON_GetStringValue(v);

    return cJSON_IsTrue(v) || cJSON_IsNumber(v) || (text && *text) || v->child;
}

static bool is_one_of(const char *key, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(*names, key) == 0) return true;
    return false;
}

/* Keeps the list short: whoever writes a thousand keys learns enough from the first few. */
enum { LIST_CHARS = 700 };
static const char and_more[] = ", ...";

static bool is_cut(const char *list)
{
    size_t n = strlen(list), k = sizeof and_more - 1;

    return n > k && strcmp(list + n - k, and_more) == 0;
}

bool hf_list_unused(const struct hf_reader *r, const cJSON *obj, const char *const *harmless,
                    bool values, char **list)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, obj)
    {
        const char *so_far = *list ? *list : "", *gap = *list ? ", " : "";
        char *value = NULL, *longer;
        bool full = strlen(so_far) > LIST_CHARS;

        if (is_cut(so_far)) return true;
        if (is_used(r->used, item) || is_one_of(item->string, harmless) || !says_something(item))
            continue;
        if (values && !item->child) value = jsonc_spelling(r->doc, item, r->e);
        longer = full ? mem_printf(r->e, "%s%s", so_far, and_more)
                      : mem_printf(r->e, "%s%s%s%.80s%s%.40s", so_far, gap, r->prefix, item->string,
                                   value ? " " : "", value ? value : "");
        free(value);
        if (!longer) return false;
        free(*list);
        *list = longer;
    }
    return true;
}

bool hf_is_int(const cJSON *v, double lo, double hi)
{
    return cJSON_IsNumber(v) && v->valuedouble >= lo && v->valuedouble <= hi &&
           fabs(v->valuedouble) <= MAX_EXACT && v->valuedouble == floor(v->valuedouble);
}

/* "a, b, c" from either kind of list. */
static void list_names(char *buf, size_t size, const struct hf_field *f)
{
    size_t at = 0;

    buf[0] = '\0';
    for (size_t i = 0; at < size; i++) {
        const char *name = f->choices ? f->choices[i].name : f->names[i];
        int n;
        if (!name) break;
        n = snprintf(buf + at, size - at, "%s%s", i ? ", " : "", name);
        at += n > 0 ? (size_t)n : 0;
    }
}

static bool read_int(const struct hf_reader *r, const struct hf_field *f, const cJSON *v,
                     int variant, void *dst)
{
    int64_t *out = dst;

    *out = (int64_t)(v ? 0 : f->def[variant]); /* the tables hold integers */
    if (!v || cJSON_IsNull(v)) return true;
    if (!hf_is_int(v, f->lo, f->hi))
        return hf_refuse(r, f->key, v, "a whole number from %.0f to %.0f", f->lo, f->hi);
    *out = (int64_t)v->valuedouble;
    return true;
}

static bool read_num(const struct hf_reader *r, const struct hf_field *f, const cJSON *v,
                     int variant, void *dst)
{
    double *out = dst;

    *out = v ? 0 : f->def[variant];
    if (!v || cJSON_IsNull(v)) return true;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= f->lo && v->valuedouble <= f->hi))
        return hf_refuse(r, f->key, v, "a number from %g to %g", f->lo, f->hi);
    *out = v->valuedouble;
    return true;
}

static bool read_bool(const struct hf_reader *r, const struct hf_field *f, const cJSON *v,
                      int variant, void *dst)
{
    *(bool *)dst = v ? cJSON_IsTrue(v) : f->def[variant] != 0;
    return !v || cJSON_IsBool(v) || cJSON_IsNull(v) || hf_refuse(r, f->key, v, "true, false");
}

static bool read_token(const struct hf_reader *r, const struct hf_field *f, const cJSON *v,
                       int variant, void *dst)
{
    int64_t *out = dst;

    *out = v ? HF_NO_TOKEN : (int64_t)f->def[variant];
    if (!v || cJSON_IsNull(v)) return true;
    if (!hf_is_int(v, HF_NO_TOKEN, MAX_TOKEN))
        return hf_refuse(r, f->key, v, "a token id, -1 or null");
    *out = (int64_t)v->valuedouble;
    return true;
}

static bool read_choice(const struct hf_reader *r, const struct hf_field *f, const cJSON *v,
                        int variant, void *dst)
{
    char names[256];
    const char *s = cJSON_GetStringValue(v);
    int *out = dst;

    *out = (int)f->def[variant];
    if (!v) return true;
    for (const struct hf_choice *c = f->choices; s && c->name; c++) {
        if (strcmp(c->name, s) == 0) {
            *out = c->value;
            return true;
        }
    }
    list_names(names, sizeof names, f);
    return hf_refuse(r, f->key, v, "%s", names);
}

static bool read_name(const struct hf_reader *r, const struct hf_field *f, const cJSON *v,
                      int variant, void *dst)
{
    char names[256];
    const char *s = cJSON_GetStringValue(v), **out = dst;

    (void)variant;
    *out = v ? s : f->def_name;
    if (!v || cJSON_IsNull(v)) return true;
    if (s && !f->names) return true;
    for (const char *const *n = f->names; s && *n; n++) {
        if (strcmp(*n, s) == 0) return true;
    }
    if (!f->names) return hf_refuse(r, f->key, v, "a text");
    list_names(names, sizeof names, f);
    return hf_refuse(r, f->key, v, "%s", names);
}

static bool read_fixed(const struct hf_reader *r, const struct hf_field *f, const cJSON *v,
                       int variant, void *dst)
{
    (void)variant;
    (void)dst;
    if (!v || cJSON_IsNull(v) || hf_is_int(v, f->lo, f->lo)) return true;
    return hf_refuse(r, f->key, v, "to leave it out (null, %g)", f->lo);
}

/* One row per kind: its reader, and whether null requires the field's permission. */
static const struct {
    bool (*read)(const struct hf_reader *, const struct hf_field *, const cJSON *, int, void *);
    bool null_needs_leave;
} kinds[] = {
    [HF_INT] = {read_int, true},       [HF_NUM] = {read_num, true},
    [HF_BOOL] = {read_bool, true},     [HF_TOKEN] = {read_token, false},
    [HF_CHOICE] = {read_choice, true}, [HF_NAME] = {read_name, true},
    [HF_FIXED] = {read_fixed, false},
};

bool hf_read_fields(const struct hf_reader *r, const cJSON *obj, const struct hf_field *fields,
                    size_t n, int variant, void *dst)
{
    for (size_t i = 0; i < n; i++) {
        const struct hf_field *f = &fields[i];
        const cJSON *v = hf_get(r, obj, f->key);
        if (cJSON_IsNull(v) && kinds[f->kind].null_needs_leave && !f->nullable)
            return hf_refuse(r, f->key, v, "a value; leave the key out for the usual one");
        if (!kinds[f->kind].read(r, f, v, variant, (char *)dst + f->offset)) return false;
    }
    return true;
}

/* The JSON form of a field; kinds that are never written have none. */
static cJSON *field_value(const struct hf_field *f, const void *at)
{
    const char *s;

    switch (f->kind) {
    case HF_INT:
        return cJSON_CreateNumber((double)*(const int64_t *)at);
    case HF_BOOL:
        return cJSON_CreateBool(*(const bool *)at);
    case HF_NAME:
        s = *(const char *const *)at;
        return s ? cJSON_CreateString(s) : cJSON_CreateNull();
    case HF_NUM:
    case HF_TOKEN:
    case HF_CHOICE:
    case HF_FIXED:
        break;
    }
    check_failed(__FILE__, __LINE__, "a kind that can be written");
}

bool hf_write_fields(cJSON *obj, const struct hf_field *fields, size_t n, const void *src,
                     bool keep_null, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        cJSON *v = field_value(&fields[i], (const char *)src + fields[i].offset);
        bool had = cJSON_GetObjectItemCaseSensitive(obj, fields[i].key) != NULL;
        if (!v) return err_set(e, "out of memory for a config");
        if (had && !cJSON_ReplaceItemInObjectCaseSensitive(obj, fields[i].key, v)) {
            cJSON_Delete(v);
            return err_set(e, "out of memory for a config");
        }
        /* cJSON 1.7.15 adds the value without its key if out of memory */
        if (had && !v->string) return err_set(e, "out of memory for a config");
        if (had) continue;
        if (cJSON_IsNull(v) && !keep_null) {
            cJSON_Delete(v);
        } else if (!cJSON_AddItemToObject(obj, fields[i].key, v)) {
            cJSON_Delete(v);
            return err_set(e, "out of memory for a config");
        }
    }
    return true;
}

bool hf_set_key(cJSON *obj, const char *key, cJSON *value, struct err *e)
{
    cJSON_DeleteItemFromObjectCaseSensitive(obj, key);
    if (value && cJSON_AddItemToObject(obj, key, value)) return true;
    cJSON_Delete(value);
    return err_set(e, "out of memory for a config");
}
