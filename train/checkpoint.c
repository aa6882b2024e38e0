/* checkpoint.c - one checkpoint file: HDF5 behind a seal of size and checksum. The directory of
 * checkpoints is in checkpoint_dir.c. */
#include "train/checkpoint.h"

#include "base/file.h"
#include "base/h5out.h"
#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEAL_BYTES 512 /* the smallest user block */
#define SEAL_MAGIC "mha2mla checkpoint 1\n"
#define META_LIMIT ((hsize_t)64 << 20)
#define READ_BYTES ((size_t)1 << 20)

/* H5T_... are calls into the library, so that a table of them cannot be static. bf16 is no type of
 * HDF5's own: it is the upper half of an fp32, which HDF5 can be told. The caller closes it. */
static hid_t open_type(enum ckpt_type t, bool in_file)
{
    const hid_t types[CKPT_TYPES][2] = {[CKPT_F32] = {H5T_NATIVE_FLOAT, H5T_IEEE_F32LE},
                                        [CKPT_F64] = {H5T_NATIVE_DOUBLE, H5T_IEEE_F64LE},
                                        [CKPT_I64] = {H5T_NATIVE_INT64, H5T_STD_I64LE},
                                        [CKPT_U8] = {H5T_NATIVE_UINT8, H5T_STD_U8LE},
                                        [CKPT_BF16] = {H5T_NATIVE_FLOAT, H5T_IEEE_F32LE}};
    hid_t type = H5Tcopy(types[t][in_file]);

    if (t == CKPT_BF16) /* sign, exponent, its 8 bits, mantissa, its 7 bits */
        CHECK(H5Tset_fields(type, 15, 7, 8, 0, 7) >= 0 && H5Tset_size(type, 2) >= 0);
    return type;
}

static const char *const type_names[CKPT_TYPES] = {"f32", "f64", "i64", "u8", "bf16"};

/* ---- the seal ---- */

static void seal_make(char seal[SEAL_BYTES], uint64_t bytes, const char *hex)
{
    memset(seal, 0, SEAL_BYTES);
    snprintf(seal, SEAL_BYTES, SEAL_MAGIC "bytes %" PRIu64 "\nsha256 %s\n", bytes, hex);
}

/* SHA-256 of everything after the seal, and the size of the whole file. */
static bool seal_sum(FILE *fp, const char *path, char hex[65], uint64_t *bytes, struct err *e)
{
    uint8_t *buf = mem_new(READ_BYTES, 1, "reading a checkpoint", e);
    struct sha256 s;
    size_t got;
    bool ok;

    if (!buf) return false;
    sha256_init(&s);
    *bytes = SEAL_BYTES;
    while ((got = fread(buf, 1, READ_BYTES, fp)) > 0) {
        sha256_add(&s, buf, got);
        *bytes += got;
    }
    ok = !ferror(fp) || err_set(e, "%s: %s", path, strerror(errno));
    sha256_hex(&s, hex);
    free(buf);
    return ok;
}

static bool seal_verify(const char *path, struct err *e)
{
    char seal[SEAL_BYTES + 1] = "", want[SEAL_BYTES], hex[65];
    FILE *fp = fopen(path, "rb");
    uint64_t bytes, sealed;
    bool ok = false;

    if (!fp) return err_set(e, "%s: %s", path, strerror(errno));
    if (fread(seal, 1, SEAL_BYTES, fp) < SEAL_BYTES ||
        strncmp(seal, SEAL_MAGIC, strlen(SEAL_MAGIC)) != 0) {
        err_set(e, "%s: is not a checkpoint, or is cut short within its first %d bytes", path,
                SEAL_BYTES);
        goto out;
    }
    if (!seal_sum(fp, path, hex, &bytes, e)) goto out;
    seal_make(want, bytes, hex);
    sealed = strncmp(seal + strlen(SEAL_MAGIC), "bytes ", 6) == 0
                 ? strtoull(seal + strlen(SEAL_MAGIC) + 6, NULL, 10)
                 : bytes;
    if (sealed != bytes)
        err_set(e, "%s: is damaged: %" PRIu64 " bytes, %" PRIu64 " were saved", path, bytes,
                sealed);
    else if (memcmp(seal, want, SEAL_BYTES) != 0)
        err_set(e, "%s: is damaged: its content does not match its checksum", path);
    else
        ok = true;
out:
    fclose(fp);
    return ok;
}

/* Puts the seal over a finished HDF5 file, which is read back for it: mostly from the page cache.
 */
static bool seal_write(struct h5_out *o, struct err *e)
{
    char seal[SEAL_BYTES], hex[65];
    int fd = dup(o->fd);
    FILE *fp = fd < 0 ? NULL : fdopen(fd, "rb");
    uint64_t bytes;
    bool ok;

    if (!fp || fseek(fp, SEAL_BYTES, SEEK_SET) != 0) {
        err_set(e, "%s: %s", o->tmp, strerror(errno));
        if (fp)
            fclose(fp);
        else if (fd >= 0)
            close(fd);
        return false;
    }
    ok = seal_sum(fp, o->tmp, hex, &bytes, e);
    fclose(fp);
    if (!ok) return false;
    seal_make(seal, bytes, hex);
    errno = ENOSPC; /* what a short write means */
    if (pwrite(o->fd, seal, SEAL_BYTES, 0) == SEAL_BYTES) return true;
    return err_set(e, "%s: cannot be written: %s", o->path, strerror(errno));
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

/* Opens a dataset only where it lies in this very file as plain bytes: a link or an external file
 * would lead elsewhere, a filter could unpack to any size. */
static hid_t open_dataset(hid_t where, const char *name)
{
    H5L_info_t link;
    hid_t set, dcpl;
    bool plain;

    if (H5Lget_info(where, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD) return -1;
    set = H5Dopen2(where, name, H5P_DEFAULT);
    if (set < 0) return -1;
    dcpl = H5Dget_create_plist(set);
    plain = dcpl > 0 && H5Pget_layout(dcpl) == H5D_CONTIGUOUS && H5Pget_external_count(dcpl) == 0;
    if (dcpl > 0) H5Pclose(dcpl);
    if (plain) return set;
    H5Dclose(set);
    return -1;
}

/* The type as an index of type_names, or -1; and the shape, where it has `rank` dimensions. */
static int dataset_shape(hid_t set, int rank, hsize_t dims[2])
{
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    int found = -1;

    for (int t = 0; t < CKPT_TYPES; t++) {
        hid_t known = open_type((enum ckpt_type)t, true);
        if (type > 0 && H5Tequal(type, known) > 0) found = t;
        H5Tclose(known);
    }
    if (space < 0 || H5Sget_simple_extent_ndims(space) != rank ||
        H5Sget_simple_extent_dims(space, dims, NULL) != rank)
        found = -1;
    if (type > 0) H5Tclose(type);
    if (space > 0) H5Sclose(space);
    return found;
}

static bool item_check(hid_t group, const struct ckpt_item *it, const char *path, struct err *e)
{
    hid_t set = open_dataset(group, it->name);
    hsize_t dims[2] = {0, 0};
    int type;

    if (set < 0)
        return err_set(e, "%s: no item '%s': the checkpoint is of another model or configuration",
                       path, it->name);
    type = dataset_shape(set, 2, dims);
    H5Dclose(set);
    if (type < 0) return err_set(e, "%s: item '%s' is of an unknown kind", path, it->name);
    if ((enum ckpt_type)type != it->type || dims[0] != (hsize_t)it->rows ||
        dims[1] != (hsize_t)it->cols)
        return err_set(e, "%s: item '%s' is %s [%llu x %llu], this run needs %s [%lld x %lld]",
                       path, it->name, type_names[type], (unsigned long long)dims[0],
                       (unsigned long long)dims[1], type_names[it->type], (long long)it->rows,
                       (long long)it->cols);
    return true;
}

/* Called where every item is there and the file has more than n. */
static bool name_extra(hid_t group, hsize_t links, const struct ckpt_item *items, size_t n,
                       const char *path, struct err *e)
{
    char name[256] = "";

    for (hsize_t i = 0; i < links; i++) {
        bool known = false;

        H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name,
                           H5P_DEFAULT);
        for (size_t k = 0; k < n && !known; k++)
            known = strncmp(name, items[k].name, sizeof name - 1) == 0;
        if (!known) break;
    }
    return err_set(e, "%s: item '%s' is unknown to this run: another model or configuration", path,
                   name);
}

static bool read_items(hid_t group, const struct ckpt_item *items, size_t n, const char *path,
                       struct err *e)
{
    H5G_info_t info;

    for (size_t i = 0; i < n; i++)
        if (!item_check(group, &items[i], path, e)) return false;
    if (H5Gget_info(group, &info) < 0) return err_set(e, "%s: HDF5 cannot list its items", path);
    if (info.nlinks != n) return name_extra(group, info.nlinks, items, n, path, e);
    for (size_t i = 0; i < n; i++) {
        const struct ckpt_item *it = &items[i];
        hid_t set = open_dataset(group, it->name), type = open_type(it->type, false);
        bool ok = set > 0 && (it->rows == 0 || it->cols == 0 ||
                              H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, it->data) >= 0);

        if (set > 0) H5Dclose(set);
        H5Tclose(type);
        if (!ok) return err_set(e, "%s: item '%s' cannot be read", path, it->name);
    }
    return true;
}

static char *read_meta(hid_t file, const char *path, struct err *e)
{
    hid_t set = open_dataset(file, "meta");
    hsize_t dims[2] = {0, 0};
    char *meta = NULL;

    if (set < 0 || dataset_shape(set, 1, dims) != CKPT_U8 || dims[0] > META_LIMIT)
        err_set(e, "%s: has no meta of at most %llu bytes", path, (unsigned long long)META_LIMIT);
    else
        meta = mem_new((size_t)dims[0] + 1, 1, "a checkpoint's meta", e);
    if (meta && dims[0] &&
        H5Dread(set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, meta) < 0) {
        err_set(e, "%s: its meta cannot be read", path);
        free(meta);
        meta = NULL;
    }
    if (set > 0) H5Dclose(set);
    return meta;
}

bool checkpoint_load(const char *path, const struct ckpt_item *items, size_t n, char **meta_json,
                     struct err *e)
{
    hid_t file, group = -1;
    char *meta = NULL;
    bool ok = false;

    if (meta_json) *meta_json = NULL;
    if (!seal_verify(path, e)) return false;
    file = h5_open(path);
    if (file > 0) group = H5Gopen2(file, "items", H5P_DEFAULT);
    if (group < 0) {
        err_set(e, "%s: HDF5 cannot read it", path);
        goto out;
    }
    meta = read_meta(file, path, e);
    ok = meta && read_items(group, items, n, path, e);
    if (ok && meta_json) {
        *meta_json = meta;
        meta = NULL;
    }
out:
    free(meta);
    if (group > 0) H5Gclose(group);
    if (file > 0) H5Fclose(file);
    return ok;
}
