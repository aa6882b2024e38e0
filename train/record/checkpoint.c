/* checkpoint.c - one checkpoint file: HDF5 after a seal with size and checksum. checkpoint_dir.c
 * handles the directory of checkpoints. */
#include "train/record/checkpoint.h"

#include "base/file.h"
#include "base/hdf5/h5in.h"
#include "base/hdf5/h5out.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/signals.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEAL_BYTES 512 /* the smallest user block */
#define SEAL_MAGIC "mha2mla checkpoint 1\n"
#define META_LIMIT ((size_t)64 << 20)

/* H5T_... are calls into the library, so a table of them cannot be static. HDF5 has no bf16 type of
 * its own, but can be told that it is the upper half of an fp32. The caller closes the type. */
static hid_t open_type(enum ckpt_type t, bool in_file)
{
    const hid_t types[CKPT_TYPES][2] = {[CKPT_F32] = {H5T_NATIVE_FLOAT, H5T_IEEE_F32LE},
                                        [CKPT_F64] = {H5T_NATIVE_DOUBLE, H5T_IEEE_F64LE},
                                        [CKPT_I64] = {H5T_NATIVE_INT64, H5T_STD_I64LE},
                                        [CKPT_U8] = {H5T_NATIVE_UINT8, H5T_STD_U8LE},
                                        [CKPT_BF16] = {H5T_NATIVE_FLOAT, H5T_IEEE_F32LE}};
    hid_t type = H5Tcopy(types[t][in_file]);

    if (t == CKPT_BF16) /* positions: sign, exponent and its 8 bits, mantissa and its 7 bits */
        CHECK(H5Tset_fields(type, 15, 7, 8, 0, 7) >= 0 && H5Tset_size(type, 2) >= 0);
    return type;
}

/* ---- the seal ---- */

static void seal_make(char seal[SEAL_BYTES], uint64_t bytes, const char *hex)
{
    memset(seal, 0, SEAL_BYTES);
    snprintf(seal, SEAL_BYTES, SEAL_MAGIC "bytes %" PRIu64 "\nsha256 %s\n", bytes, hex);
}

/* SHA-256 of everything after the seal, and the size of the whole file. */
static bool seal_sum(int fd, const char *path, char hex[65], uint64_t *bytes,
                     bool (*go_on)(struct err *e), struct err *e)
{
    struct sha256 s;
    bool ok;

    sha256_init(&s);
    ok = sha256_add_file(&s, fd, SEAL_BYTES, bytes, go_on, e) || err_context(e, "%s", path);
    sha256_hex(&s, hex);
    *bytes += SEAL_BYTES;
    return ok;
}

static bool seal_verify(int fd, const char *path, struct err *e)
{
    char seal[SEAL_BYTES + 1] = "", want[SEAL_BYTES], hex[65];
    uint64_t bytes, sealed;

    if (pread(fd, seal, SEAL_BYTES, 0) < SEAL_BYTES ||
        strncmp(seal, SEAL_MAGIC, strlen(SEAL_MAGIC)) != 0)
        return err_set(e, "%s: is not a checkpoint, or is cut short within its first %d bytes",
                       path, SEAL_BYTES);
    if (!seal_sum(fd, path, hex, &bytes, signals_go_on, e)) return false;
    seal_make(want, bytes, hex);
    sealed = strncmp(seal + strlen(SEAL_MAGIC), "bytes ", 6) == 0
                 ? strtoull(seal + strlen(SEAL_MAGIC) + 6, NULL, 10)
                 : bytes;
    if (sealed != bytes)
        return err_set(e, "%s: is damaged: %" PRIu64 " bytes, %" PRIu64 " were saved", path, bytes,
                       sealed);
    return memcmp(seal, want, SEAL_BYTES) == 0 ||
           err_set(e, "%s: is damaged: its content does not match its checksum", path);
}

/* Writes the seal of a finished HDF5 file, which is read back for this: mostly from the page cache.
 * Not interruptible: a signal makes the run save, it must not stop the saving. */
static bool seal_write(struct h5_out *o, struct err *e)
{
    char seal[SEAL_BYTES], hex[65];
    uint64_t bytes;

    if (!seal_sum(o->fd, o->tmp, hex, &bytes, NULL, e)) return false;
    seal_make(seal, bytes, hex);
    errno = ENOSPC; /* for a short write, which sets no errno */
    if (pwrite(o->fd, seal, SEAL_BYTES, 0) == SEAL_BYTES) return true;
    return err_system(e, errno, "%s: cannot be written", o->path);
}

/* ---- save ---- */

static bool write_items(struct h5_out *o, const struct ckpt_item *items, size_t n, struct err *e)
{
    hid_t group = H5Gcreate2(o->file, "items", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = group > 0 || h5_out_failed(o, "make a group", e);

    for (size_t i = 0; ok && i < n; i++) {
        const struct ckpt_item *it = &items[i];
        struct h5_array a = {.name = it->name,
                             .file_type = open_type(it->type, true),
                             .mem_type = open_type(it->type, false),
                             .rank = 2,
                             .dims = {(hsize_t)it->rows, (hsize_t)it->cols},
                             .data = it->data};

        CHECK(it->rows >= 0 && it->cols >= 0);
        if (!it->name[0] || strchr(it->name, '/') || strcmp(it->name, ".") == 0)
            ok = err_set(e, "%s: '%s' cannot be an item's name: a slash, or empty", o->path,
                         it->name);
        else if (H5Lexists(group, it->name, H5P_DEFAULT) > 0)
            ok = err_set(e, "%s: two items are named '%s'", o->path, it->name);
        else
            ok = h5_out_write(o, group, &a, e);
        H5Tclose(a.file_type);
        H5Tclose(a.mem_type);
    }
    if (group > 0) H5Gclose(group);
    return ok;
}

bool checkpoint_save(const char *path, const struct ckpt_item *items, size_t n,
                     const char *meta_json, struct err *e)
{
    struct h5_out out;
    struct h5_array meta = {.name = "meta", .rank = 1, .data = meta_json};
    bool ok;

    if (!h5_out_open(&out, path, SEAL_BYTES, e)) return false;
    meta.file_type = H5T_STD_U8LE;
    meta.mem_type = H5T_NATIVE_UINT8;
    meta.dims[0] = strlen(meta_json);
    ok = write_items(&out, items, n, e) && h5_out_write(&out, out.file, &meta, e) &&
         h5_out_finish(&out, e) && seal_write(&out, e) && h5_out_commit(&out, e);
    if (!ok) h5_out_abort(&out);
    return ok;
}

/* ---- load ---- */

/* How its values are stored in a file. */
static const struct {
    const char *name;
    enum h5_kind kind;
    uint64_t size;
} in_file[CKPT_TYPES] = {[CKPT_F32] = {"f32", H5_KIND_FLOAT, 4},
                         [CKPT_F64] = {"f64", H5_KIND_FLOAT, 8},
                         [CKPT_I64] = {"i64", H5_KIND_INT, 8},
                         [CKPT_U8] = {"u8", H5_KIND_UINT, 1},
                         [CKPT_BF16] = {"bf16", H5_KIND_BF16, 2}};

/* The type of an array, or CKPT_TYPES if no item has such values. */
static enum ckpt_type type_of(const struct h5_values *v)
{
    int t = 0;

    while (t < CKPT_TYPES &&
           (v->big_endian || v->kind != in_file[t].kind || v->size != in_file[t].size))
        t++;
    return (enum ckpt_type)t;
}

void ckpt_list_free(struct ckpt_list *l)
{
    free(l->items);
    free(l->names);
    *l = (struct ckpt_list){0};
}

/* An open file being loaded. */
struct loading {
    struct h5_in f;
    const char *path;
    struct h5_links top, items; /* of / and /items */
    struct h5_values *values;   /* [n] of the requested items */
};

static bool item_check(struct loading *l, const struct ckpt_item *it, struct h5_values *v,
                       struct err *e)
{
    enum ckpt_type type;
    uint64_t header;

    if (!h5_links_find(&l->items, it->name, &header, e))
        return err_set(e,
                       "%s: no item '%s' (%s): the checkpoint is of another model or "
                       "configuration",
                       l->path, it->name, e->msg);
    if (!h5_in_array(&l->f, header, v, e))
        return err_context(e, "%s: item '%s'", l->path, it->name);
    type = type_of(v);
    if (type == CKPT_TYPES || v->rank != 2)
        return err_set(e, "%s: item '%s' is of an unknown kind", l->path, it->name);
    if (type != it->type || v->dims[0] != (uint64_t)it->rows || v->dims[1] != (uint64_t)it->cols)
        return err_set(e,
                       "%s: item '%s' is %s [%" PRIu64 " x %" PRIu64 "], this run needs %s [%lld x "
                       "%lld]",
                       l->path, it->name, in_file[type].name, v->dims[0], v->dims[1],
                       in_file[it->type].name, (long long)it->rows, (long long)it->cols);
    return true;
}

/* Called when every item is there and the file has more than n. */
static bool name_extra(const struct loading *l, const struct ckpt_item *items, size_t n,
                       struct err *e)
{
    const char *extra = "";

    for (size_t i = 0; i < l->items.n && !*extra; i++) {
        bool known = false;

        for (size_t k = 0; k < n && !known; k++)
            known = strcmp(l->items.link[i].name, items[k].name) == 0;
        if (!known) extra = l->items.link[i].name;
    }
    return err_set(e, "%s: item '%.200s' is unknown to this run: another model or configuration",
                   l->path, extra);
}

/* Checks all items before writing to the memory of the first one. */
static bool read_items(struct loading *l, const struct ckpt_item *items, size_t n, struct err *e)
{
    l->values = mem_new(n, sizeof *l->values, "the items of a checkpoint", e);
    if (!l->values) return false;
    for (size_t i = 0; i < n; i++)
        if (!item_check(l, &items[i], &l->values[i], e)) return false;
    if (l->items.n != n) return name_extra(l, items, n, e);
    for (size_t i = 0; i < n; i++) {
        const struct ckpt_item *it = &items[i];
        const uint64_t count = it->n ? (uint64_t)it->n : l->values[i].count;

        if (!signals_go_on(e)) return false;
        CHECK(it->from >= 0 && (uint64_t)it->from + count <= l->values[i].count);
        if (it->data && !h5_in_read(&l->f, &l->values[i], (uint64_t)it->from, count, it->data, e))
            return err_context(e, "%s: item '%s'", l->path, it->name);
    }
    return true;
}

/* In new memory; NULL on failure. */
static char *read_meta(struct loading *l, struct err *e)
{
    struct h5_values v;
    uint64_t header;
    char *meta = NULL;

    if (!h5_links_find(&l->top, "meta", &header, e) || !h5_in_array(&l->f, header, &v, e)) {
        err_context(e, "%s: meta", l->path);
    } else if (type_of(&v) != CKPT_U8 || v.rank != 1 || v.count > META_LIMIT) {
        err_set(e, "%s: has no meta of at most %zu bytes", l->path, META_LIMIT);
    } else {
        meta = mem_new(v.count + 1, 1, "a checkpoint's meta", e);
        if (meta && !h5_in_read(&l->f, &v, 0, v.count, meta, e)) {
            err_context(e, "%s: meta", l->path);
            free(meta);
            meta = NULL;
        }
    }
    return meta;
}

/* Loads the HDF5 part, which the seal does not make trustworthy: anybody can make one that fits. */
static bool load(int fd, const char *path, const struct ckpt_item *items, size_t n, char **meta,
                 struct err *e)
{
    struct loading l = {.path = path};
    uint64_t group;
    bool ok =
        (h5_in_start(&l.f, fd, e) && h5_in_links(&l.f, l.f.root, &l.top, e) &&
         h5_links_find(&l.top, "items", &group, e) && h5_in_links(&l.f, group, &l.items, e)) ||
        err_context(e, "%s", path);

    *meta = ok ? read_meta(&l, e) : NULL;
    ok = *meta && read_items(&l, items, n, e);
    h5_links_free(&l.top);
    h5_links_free(&l.items);
    free(l.values);
    return ok;
}

bool checkpoint_load(const char *path, const struct ckpt_item *items, size_t n, char **meta_json,
                     struct err *e)
{
    char *meta = NULL;
    int fd = file_open(path, e);
    bool ok = (fd >= 0 || err_context(e, "%s", path)) && seal_verify(fd, path, e) &&
              load(fd, path, items, n, &meta, e);

    if (ok && meta_json) {
        *meta_json = meta;
        meta = NULL;
    } else if (meta_json) {
        *meta_json = NULL;
    }
    free(meta);
    if (fd >= 0) close(fd);
    return ok;
}
