/* safetensors.c - reading. A header is somebody else's: its length is held against the file, the
 * number of its JSON values against a limit, and each tensor against the rules of the format,
 * before anything is allocated for it. */
#include "model/safetensors.h"
#include "base/mem.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_HEADER = 100000000, /* bytes, the limit of the reference implementation */
    MAX_VALUES = 4000000,   /* JSON values: over 600 000 tensors, and 256 MB when parsed */
};
#define MAX_EXACT 9007199254740992.0 /* 2^53: JSON numbers are doubles here */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;

    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

/* A JSON number as an exact size; false for anything else. */
static bool as_size(const cJSON *v, size_t *out)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0) || v->valuedouble > MAX_EXACT) return false;
    *out = (size_t)v->valuedouble;
    return (double)*out == v->valuedouble;
}

bool st_name_is_plain(const char *name)
{
    if (!*name) return false;
    for (; *name; name++) {
        if ((unsigned char)*name < 32 || *name == 127) return false;
    }
    return true;
}

static bool read_dtype(struct st_tensor *t, const cJSON *v, struct err *e)
{
    if (!cJSON_IsString(v))
        return err_set(e, "%s: tensor %s: no \"dtype\" as a string", t->file, t->name);
    for (int i = 0; i < ST_DTYPES; i++) {
        if (strcmp(st_dtypes[i].name, v->valuestring) == 0) {
            t->dtype = (enum st_dtype)i;
            return true;
        }
    }
    return err_set(e,
                   "%s: tensor %s: unknown dtype \"%.32s\"; F32, BF16, F16 and the like are known",
                   t->file, t->name, st_name_is_plain(v->valuestring) ? v->valuestring : "?");
}

/* Fills ndim and dim, and *need with the bytes that such a tensor has. */
static bool read_shape(struct st_tensor *t, const cJSON *v, size_t *need, struct err *e)
{
    size_t count = 1, bits, d;
    const cJSON *item;

    if (!cJSON_IsArray(v))
        return err_set(e, "%s: tensor %s: no \"shape\" as a list", t->file, t->name);
    cJSON_ArrayForEach(item, v)
    {
        if (t->ndim == ST_MAX_DIMS)
            return err_set(e, "%s: tensor %s: more than %d dimensions", t->file, t->name,
                           ST_MAX_DIMS);
        if (!as_size(item, &d))
            return err_set(e, "%s: tensor %s: dimension %d is no whole number of 0 or more",
                           t->file, t->name, t->ndim);
        if (!size_mul(&count, count, d)) goto huge;
        t->dim[t->ndim++] = (int64_t)d; /* below 2^53 */
    }
    if (!size_mul(&bits, count, st_dtypes[t->dtype].bits)) goto huge;
    if (bits % 8 != 0)
        return err_set(e, "%s: tensor %s: its %zu values of %s do not fill whole bytes", t->file,
                       t->name, count, st_dtypes[t->dtype].name);
    *need = bits / 8;
    return true;
huge:
    return err_set(e, "%s: tensor %s: its shape overflows", t->file, t->name);
}

static bool read_tensor(struct st_tensor *t, const cJSON *v, const uint8_t *data, size_t size,
                        struct err *e)
{
    const cJSON *range = cJSON_GetObjectItemCaseSensitive(v, "data_offsets");
    size_t begin, end, need = 0;

    if (!st_name_is_plain(t->name))
        return err_set(e, "%s: a tensor's name is empty or has control characters", t->file);
    if (!cJSON_IsObject(v)) return err_set(e, "%s: tensor %s: not an object", t->file, t->name);
    if (!read_dtype(t, cJSON_GetObjectItemCaseSensitive(v, "dtype"), e)) return false;
    if (!read_shape(t, cJSON_GetObjectItemCaseSensitive(v, "shape"), &need, e)) return false;
    if (!cJSON_IsArray(range) || cJSON_GetArraySize(range) != 2 || !as_size(range->child, &begin) ||
        !as_size(range->child->next, &end) || begin > end)
        return err_set(e, "%s: tensor %s: \"data_offsets\" must be [begin, end]", t->file, t->name);
    if (end > size)
        return err_set(e, "%s: tensor %s: ends at byte %zu, the file has %zu bytes of data",
                       t->file, t->name, end, size);
    if (end - begin != need)
        return err_set(e, "%s: tensor %s: has %zu bytes, its shape and dtype %s make %zu", t->file,
                       t->name, end - begin, st_dtypes[t->dtype].name, need);
    t->data = data + begin;
    t->bytes = end - begin;
    t->aligned = (uintptr_t)t->data % st_dtypes[t->dtype].align == 0;
    return true;
}

/* The ranges must cover the data once, end to end. */
static bool check_cover(struct st_file *f, const uint8_t *data, size_t size, struct err *e)
{
    const uint8_t *at = data;

    qsort(f->tensors, f->count, sizeof *f->tensors, by_place);
    for (size_t i = 0; i < f->count; i++) {
        const struct st_tensor *t = &f->tensors[i];
        const uint8_t *p = t->data;
        if (p < at)
            return err_set(e, "%s: tensor %s: shares bytes with %s", f->path, t->name,
                           f->tensors[i - 1].name);
        if (p > at)
            return err_set(e, "%s: tensor %s: %zu bytes before it belong to no tensor", f->path,
                           t->name, (size_t)(p - at));
        at += t->bytes;
    }
    if (at != data + size)
        return err_set(e, "%s: the last %zu bytes belong to no tensor", f->path,
                       (size_t)(data + size - at));
    return true;
}

static bool check_names(struct st_file *f, struct err *e)
{
    qsort(f->tensors, f->count, sizeof *f->tensors, by_name);
    for (size_t i = 1; i < f->count; i++) {
        if (by_name(&f->tensors[i - 1], &f->tensors[i]) == 0)
            return err_set(e, "%s: tensor %s: is there twice", f->path, f->tensors[i].name);
    }
    return true;
}

/* cJSON makes 64 bytes of a value of 2: a hostile text must not grow without bound. */
static bool values_are_few(const char *text, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
        n += text[i] == ',' || text[i] == '[' || text[i] == '{';
    return n <= MAX_VALUES;
}

cJSON *st_parse_object(const char *text, size_t len, const char *path, struct err *e)
{
    const char *end = NULL;
    cJSON *json;

    if (!values_are_few(text, len)) {
        err_set(e, "%s: over %d JSON values", path, MAX_VALUES);
        return NULL;
    }
    json = cJSON_ParseWithLengthOpts(text, len, &end, false);
    while (json && end < text + len && *end != '\0' && strchr(" \t\r\n", *end))
        end++;
    if (cJSON_IsObject(json) && end == text + len) return json;
    cJSON_Delete(json);
    err_set(e, "%s: no JSON object, or something is behind it", path);
    return NULL;
}

static bool check_metadata(const struct st_file *f, const cJSON *meta, struct err *e)
{
    const cJSON *item;

    if (!cJSON_IsObject(meta)) return err_set(e, "%s: __metadata__ is no object", f->path);
    cJSON_ArrayForEach(item, meta)
    {
        if (!cJSON_IsString(item))
            return err_set(e, "%s: __metadata__ \"%.64s\" is no string", f->path,
                           st_name_is_plain(item->string) ? item->string : "?");
    }
    return true;
}

static bool read_header(struct st_file *f, struct err *e)
{
    const char *text = (const char *)f->map.data + 8;
    uint64_t len = 0;
    const uint8_t *data;
    const cJSON *item;
    size_t size, n;

    if (f->map.size < 8)
        return err_set(e, "%s: %zu bytes are too few for a safetensors file", f->path, f->map.size);
    for (int i = 7; i >= 0; i--)
        len = len << 8 | f->map.data[i];
    if (len > MAX_HEADER)
        return err_set(e, "%s: header of %" PRIu64 " bytes, at most %d are allowed", f->path, len,
                       MAX_HEADER);
    if (len > f->map.size - 8)
        return err_set(e, "%s: header of %" PRIu64 " bytes, the file has %zu", f->path, len,
                       f->map.size);
    if (len == 0 || text[0] != '{')
        return err_set(e, "%s: the header does not start with '{': no safetensors file", f->path);
    f->header = st_parse_object(text, (size_t)len, f->path, e);
    if (!f->header) return false;

    data = f->map.data + 8 + len;
    size = f->map.size - 8 - (size_t)len;
    n = (size_t)cJSON_GetArraySize(f->header); /* at most MAX_VALUES */
    f->tensors = mem_new(n, sizeof *f->tensors, "the tensors of a file", e);
    if (!f->tensors) return err_context(e, "%s", f->path);
    cJSON_ArrayForEach(item, f->header)
    {
        struct st_tensor *t = &f->tensors[f->count];
        if (strcmp(item->string, "__metadata__") == 0) {
            if (!check_metadata(f, item, e)) return false;
            continue;
        }
        t->name = item->string;
        t->file = f->path;
        if (!read_tensor(t, item, data, size, e)) return false;
        f->count++;
    }
    /* Names first: of two equal ranges under one name the message should say "twice". */
    return check_names(f, e) && check_cover(f, data, size, e) && check_names(f, e);
}

bool st_open(struct st_file *f, const char *path, struct err *e)
{
    memset(f, 0, sizeof *f);
    f->path = mem_strdup(path, e);
    if (f->path && file_map_open(&f->map, path, e) && read_header(f, e)) return true;
    st_close(f);
    return false;
}

void st_close(struct st_file *f)
{
    cJSON_Delete(f->header);
    free(f->tensors);
    free(f->path);
    file_map_close(&f->map);
    memset(f, 0, sizeof *f);
}

const struct st_tensor *st_find(const struct st_file *f, const char *name)
{
    struct st_tensor key = {.name = name};

    if (f->count == 0) return NULL;
    return bsearch(&key, f->tensors, f->count, sizeof *f->tensors, by_name);
}

const char *st_metadata(const struct st_file *f, const char *key)
{
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(f->header, "__metadata__");

    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(meta, key));
}

size_t st_count(const struct st_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->ndim; i++)
        n *= (size_t)t->dim[i]; /* read_shape saw that it fits */
    return n;
}

bool st_read_f32(const struct st_tensor *t, size_t first, size_t n, float *dst, struct err *e)
{
    const struct st_dtype_info *info = &st_dtypes[t->dtype];
    size_t count = st_count(t);

    if (!info->to_f32)
        return err_set(
            e,
            "%s: tensor %s: is %s; F64, F32, F16 and BF16 can be read, quantized weights "
            "cannot",
            t->file, t->name, info->name);
    if (first > count || n > count - first)
        return err_set(e, "%s: tensor %s: values %zu to %zu are wanted, it has %zu", t->file,
                       t->name, first, first + n, count);
    if (n) info->to_f32(dst, (const uint8_t *)t->data + first * (info->bits / 8), n);
    return true;
}
