/* safetensors.c - reading. A header is untrusted: its length is checked against the file, the
 * number of its JSON values against a limit, and each tensor against the rules of the format,
 * before anything is allocated for it. */
#include "model/files/safetensors.h"
#include "base/filekind.h"
#include "base/mem.h"
#include "base/plural.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_HEADER = 100000000, /* bytes, the limit of the reference implementation */
    MAX_VALUES = 1000000,   /* JSON values: over 100 000 tensors, and 100 MB when parsed */
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

/* A member of a tensor's entry, NULL if absent. */
static const cJSON *member(const cJSON *entry, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(entry, key);
}

static bool read_dtype(struct st_tensor *t, const struct jsonc *h, const cJSON *entry,
                       struct err *e)
{
    const cJSON *v = member(entry, "dtype");

    if (!cJSON_IsString(v))
        return jsonc_fail(h, v ? v : entry, e, "tensor %s: no \"dtype\" as a string", t->name);
    for (int i = 0; i < ST_DTYPES; i++) {
        if (strcmp(st_dtypes[i].name, v->valuestring) == 0) {
            t->dtype = (enum st_dtype)i;
            return true;
        }
    }
    return jsonc_fail(h, v, e,
                      "tensor %s: unknown dtype \"%.32s\"; F32, BF16, F16 and the like are known",
                      t->name, v->valuestring);
}

/* Fills ndim and dim, and *need with the bytes that such a tensor takes. */
static bool read_shape(struct st_tensor *t, const struct jsonc *h, const cJSON *entry, size_t *need,
                       struct err *e)
{
    const cJSON *v = member(entry, "shape"), *item;
    size_t count = 1, bits, d;

    if (!cJSON_IsArray(v))
        return jsonc_fail(h, v ? v : entry, e, "tensor %s: no \"shape\" as a list", t->name);
    cJSON_ArrayForEach(item, v)
    {
        if (t->ndim == ST_MAX_DIMS)
            return jsonc_fail(h, item, e, "tensor %s: more than %d dimensions", t->name,
                              ST_MAX_DIMS);
        if (!as_size(item, &d))
            return jsonc_fail(h, item, e,
                              "tensor %s: dimension %d is not a whole number of 0 or more", t->name,
                              t->ndim);
        if (!size_mul(&count, count, d)) goto huge;
        t->dim[t->ndim++] = (int64_t)d; /* under 2^53 */
    }
    if (!size_mul(&bits, count, st_dtypes[t->dtype].bits)) goto huge;
    if (bits % 8 != 0)
        return jsonc_fail(h, v, e, "tensor %s: its %zu values of %s do not fill whole bytes",
                          t->name, count, st_dtypes[t->dtype].name);
    *need = bits / 8;
    return true;
huge:
    return jsonc_fail(h, v, e, "tensor %s: its shape overflows", t->name);
}

static bool read_tensor(struct st_tensor *t, const struct jsonc *h, const cJSON *entry,
                        const uint8_t *data, size_t size, struct err *e)
{
    const cJSON *range = member(entry, "data_offsets");
    size_t begin, end, need = 0;

    if (!st_name_is_plain(t->name))
        return jsonc_fail(h, entry, e, "a tensor's name is empty or has control characters");
    if (!cJSON_IsObject(entry)) return jsonc_fail(h, entry, e, "tensor %s: not an object", t->name);
    if (!read_dtype(t, h, entry, e) || !read_shape(t, h, entry, &need, e)) return false;
    if (!cJSON_IsArray(range) || cJSON_GetArraySize(range) != 2 || !as_size(range->child, &begin) ||
        !as_size(range->child->next, &end) || begin > end)
        return jsonc_fail(h, range ? range : entry, e,
                          "tensor %s: \"data_offsets\" must be [begin, end]", t->name);
    if (end > size)
        return jsonc_fail(h, range, e,
                          "tensor %s: ends at byte %zu, the file has %zu bytes of data: it is cut "
                          "short" ST_COPY_AGAIN,
                          t->name, end, size);
    if (end - begin != need)
        return jsonc_fail(h, range, e, "tensor %s: has %zu bytes, its shape and dtype %s make %zu",
                          t->name, end - begin, st_dtypes[t->dtype].name, need);
    t->data = data + begin;
    t->bytes = end - begin;
    t->aligned = (uintptr_t)t->data % st_dtypes[t->dtype].align == 0;
    return true;
}

/* The ranges must cover the data exactly once, without gaps. */
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
            return err_set(e, "%s: tensor %s: %zu byte%s before it: of no tensor", f->path, t->name,
                           (size_t)(p - at), plural(p - at));
        at += t->bytes;
    }
    if (at != data + size)
        return err_set(e, "%s: the last %zu byte%s: of no tensor", f->path,
                       (size_t)(data + size - at), plural(data + size - at));
    return true;
}

static bool check_metadata(const struct jsonc *h, const cJSON *meta, struct err *e)
{
    const cJSON *item;

    if (!cJSON_IsObject(meta)) return jsonc_fail(h, meta, e, "__metadata__ is not an object");
    cJSON_ArrayForEach(item, meta)
    {
        if (!cJSON_IsString(item))
            return jsonc_fail(h, item, e, "__metadata__ \"%.64s\" is not a string", item->string);
    }
    return true;
}

static bool refuse_other(const struct st_file *f, struct err *e)
{
    const struct file_map *m = &f->map;

    file_kind_refuse(m->data, m->size, "safetensors file", e);
    if (m->size > 4 && memcmp(m->data, "PK\x03\x04", 4) == 0)
        err_set(e, "%s: if it is a PyTorch file, rename it to pytorch_model.bin", e->msg);
    return err_context(e, "%s", f->path);
}

/* The header's length, which must fit the file. */
static bool read_length(const struct st_file *f, size_t *len, struct err *e)
{
    const struct file_map *m = &f->map;
    const bool begins = m->size > 8 && m->data[8] == '{';
    uint64_t n = 0;

    for (int i = begins ? 7 : -1; i >= 0; i--)
        n = n << 8 | m->data[i];
    *len = (size_t)n;
    if (begins && n > 0 && n <= MAX_HEADER && n <= m->size - 8) return true;
    if (!begins) return refuse_other(f, e);
    if (n > MAX_HEADER)
        return err_set(e,
                       "%s: header of %" PRIu64 " bytes, at most %d are allowed: the file is "
                       "damaged, or no safetensors file; download it again",
                       f->path, n, MAX_HEADER);
    return err_set(
        e, "%s: header of %" PRIu64 " bytes, the file has %zu: it is cut short" ST_COPY_AGAIN,
        f->path, n, m->size);
}

static bool read_header(struct st_file *f, struct err *e)
{
    /* Positions in messages are the file's: its one line of text begins after 8 bytes. */
    static const struct jsonc_rules rules = {
        .line = 1, .col = 9, .plain = true, .max_values = MAX_VALUES};
    const uint8_t *data;
    const cJSON *item;
    size_t len, size;

    if (!read_length(f, &len, e) ||
        !jsonc_parse_as(&f->header, f->path, (const char *)f->map.data + 8, len, &rules, e))
        return false;
    data = f->map.data + 8 + len;
    size = f->map.size - 8 - len;
    f->tensors = mem_new((size_t)cJSON_GetArraySize(f->header.root), sizeof *f->tensors,
                         "the tensors of a file", e);
    if (!f->tensors) return err_context(e, "%s", f->path);
    cJSON_ArrayForEach(item, f->header.root)
    {
        struct st_tensor *t = &f->tensors[f->count];
        if (strcmp(item->string, "__metadata__") == 0) {
            if (!check_metadata(&f->header, item, e)) return false;
            continue;
        }
        t->name = item->string;
        t->file = f->path;
        if (!read_tensor(t, &f->header, item, data, size, e)) return false;
        f->count++;
    }
    if (!check_cover(f, data, size, e)) return false;
    qsort(f->tensors, f->count, sizeof *f->tensors, by_name);
    return true;
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
    jsonc_close(&f->header);
    free(f->names);
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
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(f->header.root, "__metadata__");

    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(meta, key));
}

size_t st_count(const struct st_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->ndim; i++)
        n *= (size_t)t->dim[i]; /* cannot overflow: checked by read_shape */
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
            "cannot: give the model as it was before",
            t->file, t->name, info->name);
    if (first > count || n > count - first)
        return err_set(e, "%s: tensor %s: values %zu to %zu are wanted, it has %zu", t->file,
                       t->name, first, first + n, count);
    if (n) info->to_f32(dst, (const uint8_t *)t->data + first * (info->bits / 8), n);
    return true;
}
