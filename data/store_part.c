/* store_part.c - see store_part.h. */
#include "data/store_part.h"

#include "base/file.h"
#include "base/hdf5/h5in.h"
#include "base/hdf5/h5out.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

uint32_t store_sum(const char *key, const float *row, int64_t width)
{
    uLong sum = crc32_z(0, (const Bytef *)key, STORE_KEY);

    return (uint32_t)crc32_z(sum, (const Bytef *)row, (size_t)width * sizeof *row);
}

/* ---- write ---- */

/* Keys without a NUL. */
static hid_t key_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);

    H5Tset_size(type, STORE_KEY);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    return type;
}

bool part_write(const char *path, const char *about, const struct part_rows *r, struct err *e)
{
    uint32_t *sums = mem_new((size_t)r->n, sizeof *sums, "the sums of a store", e);
    const hid_t key = key_type();
    const hsize_t n = (hsize_t)r->n, width = (hsize_t)r->width;
    const struct h5_array arrays[] = {
        {"values", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, {n, width}, r->values},
        {"keys", key, key, 1, {n}, r->keys},
        {"sums", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, {n}, sums}};
    struct h5_out out = {0};
    bool ok = sums;

    for (int64_t i = 0; ok && i < r->n; i++)
        sums[i] = store_sum(r->keys + i * STORE_KEY, r->values + i * r->width, r->width);
    ok = ok && h5_out_open(&out, path, 0, e) && h5_out_text(&out, "about", about, e);
    for (size_t i = 0; ok && i < sizeof arrays / sizeof *arrays; i++)
        ok = h5_out_write(&out, out.file, &arrays[i], e);
    ok = ok && h5_out_finish(&out, e) && h5_out_commit(&out, e);
    if (!ok) h5_out_abort(&out);
    H5Tclose(key);
    free(sums);
    return ok;
}

/* ---- open ---- */

static bool check_about(struct h5_in *f, const char *about, struct err *e)
{
    char found[STORE_ABOUT] = "";
    struct h5_values v;
    bool there;

    if (!h5_in_attribute(f, f->root, "about", &v, &there, e)) return false;
    if (!there) return err_set(e, "is not a part of a store");
    if (!h5_in_text(f, &v, found, sizeof found, e) && e->machine) return false;
    return strcmp(found, about) == 0 ||
           err_set(e, "is about \"%s\", needed is \"%s\"", found, about);
}

/* The array `name`, which must have these values. */
static bool find_array(struct h5_in *f, const struct h5_links *top, const char *name,
                       const struct h5_values *want, struct h5_values *v, struct err *e)
{
    uint64_t header;

    if (!h5_links_find(top, name, &header, e)) return false;
    if (!h5_in_array(f, header, v, e)) return err_context(e, "%s", name);
    for (int i = 0; i < want->rank; i++)
        if (v->rank != want->rank || v->kind != want->kind || v->size != want->size ||
            v->big_endian || (want->dims[i] && v->dims[i] != want->dims[i]))
            return err_set(e, "is damaged: %s are of another kind or number", name);
    return true;
}

/* Checks that all is there; keys and sums are read, where the values are is kept. */
static bool open_arrays(struct store_part *p, struct h5_in *f, char **keys, struct err *e)
{
    const struct h5_values rows = {
        H5_KIND_FLOAT, sizeof(float), .rank = 2, {0, (uint64_t)p->width}};
    struct h5_values v[3], texts = {H5_KIND_TEXT, STORE_KEY, .rank = 1};
    struct h5_values numbers = {H5_KIND_UINT, sizeof(uint32_t), .rank = 1};
    struct h5_links top;
    bool ok = h5_in_links(f, f->root, &top, e) && find_array(f, &top, "values", &rows, &v[0], e);

    if (ok) texts.dims[0] = numbers.dims[0] = v[0].dims[0];
    ok = ok && find_array(f, &top, "keys", &texts, &v[1], e);
    if (ok && !find_array(f, &top, "sums", &numbers, &v[2], e))
        ok = err_context(e, "is of an older form, or damaged");
    if (ok && v[0].dims[0] == 0) ok = err_set(e, "is damaged: it has no entries");
    if (ok) {
        p->n = (int64_t)v[0].dims[0]; /* < 2^63 / width: the values are all in the file */
        p->values_at = f->base + v[0].at;
        p->sums_at = f->base + v[2].at;
        *keys = mem_new((size_t)p->n, STORE_KEY, "the keys of a store", e);
        p->sums = mem_new((size_t)p->n, sizeof *p->sums, "the sums of a store", e);
    }
    ok = ok && *keys && p->sums && h5_in_read(f, &v[1], 0, v[1].count, *keys, e) &&
         h5_in_read(f, &v[2], 0, v[2].count, p->sums, e);
    h5_links_free(&top);
    return ok;
}

bool part_open(struct store_part *p, const char *path, const char *about, int64_t width,
               char **keys, struct err *e)
{
    struct h5_in f;
    bool ok;
    int failed;

    *p = (struct store_part){.fd = -1, .width = width};
    *keys = NULL;
    errno = 0;
    p->fd = file_open(path, e);
    ok = p->fd >= 0 && h5_in_start(&f, p->fd, e) && check_about(&f, about, e) &&
         open_arrays(p, &f, keys, e);
    if (ok) return true;
    failed = errno;
    part_close(p);
    free(*keys);
    *keys = NULL;
    errno = failed;
    return err_context(e, "%s", path);
}

void part_shut(struct store_part *p)
{
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
}

void part_close(struct store_part *p)
{
    part_shut(p);
    free(p->sums);
    *p = (struct store_part){.fd = -1};
}

bool part_reopen(struct store_part *p, const char *path, struct err *e)
{
    if (p->fd < 0) p->fd = file_open(path, e);
    return p->fd >= 0;
}

/* ---- rows ---- */

bool part_get(const struct store_part *p, int64_t i, const char *key, float *row, struct err *e)
{
    const size_t bytes = (size_t)p->width * sizeof *row;

    return file_read_at(p->fd, p->values_at + (uint64_t)i * bytes, bytes, row, e) &&
           (store_sum(key, row, p->width) == p->sums[i] || err_set(e, "its checksum is wrong"));
}

bool part_mend(struct store_part *p, const char *path, int64_t i, const char *key, const float *row,
               struct err *e)
{
    const size_t bytes = (size_t)p->width * sizeof *row;
    const uint32_t sum = store_sum(key, row, p->width);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok;

    if (fd < 0) return err_system(e, errno, "%s", "");
    errno = ENOSPC; /* what a short write means */
    ok = pwrite(fd, row, bytes, (off_t)(p->values_at + (uint64_t)i * bytes)) == (ssize_t)bytes &&
         pwrite(fd, &sum, sizeof sum, (off_t)(p->sums_at + (uint64_t)i * sizeof sum)) ==
             (ssize_t)sizeof sum;
    if (!ok) err_system(e, errno, "%s", "");
    if (close(fd) != 0 && ok) ok = err_system(e, errno, "%s", "");
    if (ok) p->sums[i] = sum;
    return ok;
}
