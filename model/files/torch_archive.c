/* torch_archive.c - see torch_archive.h. The Python function calls that represent tensors are those
 * of torch/_utils.py and torch/_tensor.py (2.13). */
#include "model/files/torch_archive.h"
#include "base/filekind.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define REBUILD "torch._utils\n_rebuild_tensor_v2\n"
#define REBUILD_V3 "torch._utils\n_rebuild_tensor_v3\n"
#define PARAMETER "torch._utils\n_rebuild_parameter\n"
#define PARAMETER_STATE "torch._utils\n_rebuild_parameter_with_state\n"
#define FROM_TYPE "torch._tensor\n_rebuild_from_type_v2\n"
#define UNTYPED "torch.storage\nUntypedStorage\n"

/* A dtype by its storage class, or by its own name if it has no class. */
static const struct {
    const char *storage, *dtype;
    enum st_dtype is;
} dtypes[] = {
    {"torch\nFloatStorage\n", "torch\nfloat32\n", ST_F32},
    {"torch\nHalfStorage\n", "torch\nfloat16\n", ST_F16},
    {"torch\nBFloat16Storage\n", "torch\nbfloat16\n", ST_BF16},
    {"torch\nDoubleStorage\n", "torch\nfloat64\n", ST_F64},
    {"torch\nLongStorage\n", "torch\nint64\n", ST_I64},
    {"torch\nIntStorage\n", "torch\nint32\n", ST_I32},
    {"torch\nShortStorage\n", "torch\nint16\n", ST_I16},
    {"torch\nCharStorage\n", "torch\nint8\n", ST_I8},
    {"torch\nByteStorage\n", "torch\nuint8\n", ST_U8},
    {"torch\nBoolStorage\n", "torch\nbool\n", ST_BOOL},
    {"torch\nComplexFloatStorage\n", "torch\ncomplex64\n", ST_C64},
    {NULL, "torch\nuint16\n", ST_U16},
    {NULL, "torch\nuint32\n", ST_U32},
    {NULL, "torch\nuint64\n", ST_U64},
    {NULL, "torch\nfloat8_e4m3fn\n", ST_F8_E4M3},
    {NULL, "torch\nfloat8_e5m2\n", ST_F8_E5M2},
    {NULL, "torch\nfloat8_e4m3fnuz\n", ST_F8_E4M3FNUZ},
    {NULL, "torch\nfloat8_e5m2fnuz\n", ST_F8_E5M2FNUZ},
    {NULL, "torch\nfloat8_e8m0fnu\n", ST_F8_E8M0},
};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

static const char *const others[] = {"collections\nOrderedDict\n",
                                     REBUILD,
                                     REBUILD_V3,
                                     PARAMETER,
                                     PARAMETER_STATE,
                                     FROM_TYPE,
                                     UNTYPED,
                                     "torch\nTensor\n",
                                     "torch.nn.parameter\nParameter\n",
                                     "torch\nSize\n"};
enum { OTHERS = sizeof others / sizeof *others };

static bool read_pickle(struct torch_archive *a, struct bytes text, struct err *e)
{
    const char *globals[OTHERS + 2 * DTYPES + 1];
    size_t n = 0;

    for (size_t i = 0; i < OTHERS; i++)
        globals[n++] = others[i];
    for (size_t i = 0; i < DTYPES; i++) {
        globals[n++] = dtypes[i].dtype;
        if (dtypes[i].storage) globals[n++] = dtypes[i].storage;
    }
    globals[n] = NULL;
    return pickle_read(&a->pickle, text, globals, e);
}

/* The member "NAME/" followed by `rest`, NULL if there is none. */
static const struct zip_member *find(const struct torch_archive *a, const char *rest,
                                     struct bytes key)
{
    struct err none;
    char *name = mem_printf(&none, "%.*s%s%.*s", (int)a->prefix.n, (const char *)a->prefix.p, rest,
                            (int)key.n, (const char *)key.p);
    const struct zip_member *m;

    if (!name) err_no_memory("a name in an archive");
    m = zip_find(&a->zip, name);
    free(name);
    return m;
}

static bool check_order(const struct torch_archive *a, struct err *e)
{
    const struct zip_member *m = find(a, "byteorder", (struct bytes){NULL, 0});
    struct bytes order;

    if (!m) return true;
    return zip_contents(&a->zip, m, &order, e) &&
           ((order.n == 6 && memcmp(order.p, "little", 6) == 0) ||
            err_set(e, "was written by a big-endian machine: load and save it again on this one"));
}

bool torch_archive_open(struct torch_archive *a, struct bytes file, struct err *e)
{
    static const char end[] = "/data.pkl";
    const struct zip_member *m;
    struct bytes text = {0};

    *a = (struct torch_archive){0};
    if (file.n < 2 || memcmp(file.p, "PK", 2) != 0)
        return file_kind_refuse(file.p, file.n, "file of torch.save", e);
    if (!zip_open(&a->zip, file, e)) return false;
    m = zip_find_end(&a->zip, end);
    if (!m) {
        err_set(e, "has no member ...%s: is it a file of torch.save?", end);
        goto fail;
    }
    a->prefix = (struct bytes){m->name.p, m->name.n - (sizeof end - 2)};
    if (check_order(a, e) && zip_checked(&a->zip, m, &text, e) && read_pickle(a, text, e)) {
        a->text = text.n;
        return true;
    }
fail:
    torch_archive_close(a);
    return false;
}

void torch_archive_close(struct torch_archive *a)
{
    pickle_free(&a->pickle);
    zip_close(&a->zip);
    *a = (struct torch_archive){0};
}

/* ---- a tensor ---- */

/* The function and the arguments of the call that makes a tensor, skipping calls that only wrap
 * one. A call's arguments precede it in the pickle, so this terminates. */
static const struct pickle_value *unwrap(const struct pickle *p, const struct pickle_value *v,
                                         const struct pickle_value **args)
{
    while (v && v->kind == PICKLE_CALL) {
        const struct pickle_value *f = pickle_item(p, v, 0);
        *args = pickle_item(p, v, 1);
        if (pickle_is(f, PICKLE_GLOBAL, FROM_TYPE)) { /* of (function, class, arguments, ...) */
            f = pickle_item(p, *args, 0);
            *args = pickle_item(p, *args, 2);
            return *args && (*args)->kind == PICKLE_TUPLE ? f : NULL;
        }
        if (!pickle_is(f, PICKLE_GLOBAL, PARAMETER) &&
            !pickle_is(f, PICKLE_GLOBAL, PARAMETER_STATE))
            return f;
        v = pickle_item(p, *args, 0);
    }
    return NULL;
}

static bool as_count(const struct pickle_value *v, size_t *n)
{
    if (!v || v->kind != PICKLE_INT || v->number < 0) return false;
    *n = (size_t)v->number;
    return true;
}

/* The storage ("storage", class, key, device, count) and the dtype; *size is the
 * storage's size in bytes. */
static bool read_storage(const struct pickle *p, const struct pickle_value *storage,
                         const struct pickle_value *dtype, struct torch_shape *t, size_t *size)
{
    const struct pickle_value *id, *class, *key;
    size_t count;
    int i = 0;

    if (!storage || storage->kind != PICKLE_OUTSIDE) return false;
    id = pickle_item(p, storage, 0);
    class = pickle_item(p, id, 1);
    key = pickle_item(p, id, 2);
    if (id->kind != PICKLE_TUPLE || !pickle_is(pickle_item(p, id, 0), PICKLE_TEXT, "storage") ||
        !key || key->kind != PICKLE_TEXT || !as_count(pickle_item(p, id, 4), &count))
        return false;
    while (i < DTYPES &&
           !(dtype ? pickle_is(dtype, PICKLE_GLOBAL, dtypes[i].dtype)
                   : dtypes[i].storage && pickle_is(class, PICKLE_GLOBAL, dtypes[i].storage)))
        i++;
    if (i == DTYPES || (dtype && !pickle_is(class, PICKLE_GLOBAL, UNTYPED))) return false;
    t->dtype = dtypes[i].is;
    t->key = key->text;
    *size = count;
    return dtype || size_mul(size, count, st_dtypes[t->dtype].bits / 8);
}

/* Shape and strides; *count is the number of values. A stride over at most one value does not
 * matter. */
static bool read_dims(const struct pickle *p, const struct pickle_value *dims,
                      const struct pickle_value *strides, struct torch_shape *t, size_t *count)
{
    size_t stride, d;
    size_t step = 1;

    if (!dims || dims->kind != PICKLE_TUPLE || !strides || strides->kind != PICKLE_TUPLE ||
        dims->count != strides->count || dims->count > ST_MAX_DIMS)
        return false;
    t->ndim = (int)dims->count;
    *count = 1;
    for (uint32_t i = 0; i < dims->count; i++) {
        if (!as_count(pickle_item(p, dims, i), &d) || !size_mul(count, *count, d)) return false;
        t->dim[i] = (int64_t)d;
    }
    t->contiguous = true;
    for (uint32_t i = dims->count; i-- > 0; step *= (size_t)t->dim[i]) {
        if (!as_count(pickle_item(p, strides, i), &stride)) return false;
        if (*count == 0) return true;
        t->contiguous = t->contiguous && (t->dim[i] == 1 || stride == step);
    }
    return true;
}

bool torch_read_shape(const struct torch_archive *a, const struct pickle_value *v,
                      struct torch_shape *t, const char **why)
{
    const struct pickle *p = &a->pickle;
    const struct pickle_value *args = NULL, *function = unwrap(p, v, &args);
    const bool v3 = pickle_is(function, PICKLE_GLOBAL, REBUILD_V3);
    size_t offset, size, end;
    size_t count, width;

    *t = (struct torch_shape){0};
    *why = "is not a tensor";
    if (!v3 && !pickle_is(function, PICKLE_GLOBAL, REBUILD)) return false;
    *why = "is not a tensor of a supported dtype and shape";
    if (!read_storage(p, pickle_item(p, args, 0), v3 ? pickle_item(p, args, 6) : NULL, t, &size) ||
        !as_count(pickle_item(p, args, 1), &offset) ||
        !read_dims(p, pickle_item(p, args, 2), pickle_item(p, args, 3), t, &count))
        return false;
    *why = "does not fit its storage";
    width = st_dtypes[t->dtype].bits / 8;
    if (!size_mul(&t->bytes, count, width) || !size_mul(&t->at, offset, width) ||
        !size_add(&end, t->at, t->bytes))
        return false;
    return !t->contiguous || end <= size;
}

bool torch_values(const struct torch_archive *a, const struct torch_shape *t, bool checked,
                  struct bytes *out, struct err *e)
{
    const struct zip_member *m = find(a, "data/", t->key);

    if (!m)
        return err_set(e, "has no member data/%.*s, where its values should be", (int)t->key.n,
                       (const char *)t->key.p);
    if (!(checked ? zip_checked : zip_contents)(&a->zip, m, out, e)) return false;
    if (t->at > out->n || out->n - t->at < t->bytes)
        return err_set(e, "member data/%.*s has %zu bytes, its tensor ends at byte %zu",
                       (int)t->key.n, (const char *)t->key.p, out->n, t->at + t->bytes);
    *out = (struct bytes){out->p + t->at, t->bytes};
    return true;
}
