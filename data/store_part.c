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

uint32_t store_sum(const char *key, const float *values, int64_t count)
{
    uLong sum = crc32_z(0, (const Bytef *)key, STORE_KEY);

    return (uint32_t)crc32_z(sum, (const Bytef *)values, (size_t)count * sizeof *values);
}

/* ---- write ---- */

/* Key strings without a NUL. */
static hid_t key_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);

    H5Tset_size(type, STORE_KEY);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    return type;
}

bool part_write(const char *path, const char *about, const struct part_entries *all, struct err *e)
{
    uint32_t *sums = mem_new((size_t)all->n, sizeof *sums, "the sums of a store", e);
    const hid_t key = key_type();
    const hsize_t n = (hsize_t)all->n;
    const float *at = all->values;
    struct h5_out out = {0};
    bool ok = sums;

    for (int64_t i = 0; ok && i < all->n; at += all->counts[i++])
        sums[i] = store_sum(all->keys + i * STORE_KEY, at, all->counts[i]);
    const struct h5_array arrays[] = {
        {"values", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, {(hsize_t)(at - all->values)}, all->values},
        {"counts", H5T_STD_U64LE, H5T_NATIVE_INT64, 1, {n}, all->counts},
        {"keys", key, key, 1, {n}, all->keys},
        {"sums", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, {n}, sums}};
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

/* The array `name`, which must be a list of values like `want`; a count of 0 matches any. */
static bool find_list(struct h5_in *f, const struct h5_links *top, const char *name,
                      const struct h5_values *want, struct h5_values *v, struct err *e)
{
    uint64_t header;

    if (!h5_links_find(top, name, &header, e)) return false;
    if (!h5_in_array(f, header, v, e)) return err_context(e, "%s", name);
    return (v->rank == 1 && v->kind == want->kind && v->size == want->size && !v->big_endian &&
            (!want->count || v->count == want->count)) ||
           err_set(e, "%s are of another kind or number", name);
}

/* Turns the counts in p->begin into offsets; the counts must add up to `total`. */
static bool add_up(struct store_part *p, uint64_t total, struct err *e)
{
    uint64_t at = 0;

    for (int64_t i = 0; i < p->n; i++) {
        const uint64_t count = (uint64_t)p->begin[i];
        if (count < 1 || count > total - at)
            return err_set(e, "is damaged: its counts are not those of its values");
        p->begin[i] = (int64_t)at;
        at += count;
    }
    p->begin[p->n] = (int64_t)at;
    return at == total || err_set(e, "is damaged: its counts are not those of its values");
}

/* Checks that all lists are there; reads them, except for the values, whose offset is recorded. */
static bool open_lists(struct store_part *p, struct h5_in *f, char **keys, struct err *e)
{
    enum { VALUES, COUNTS, KEYS, SUMS, LISTS };
    static const char *const names[LISTS] = {"values", "counts", "keys", "sums"};
    struct h5_values want[LISTS] = {[VALUES] = {.kind = H5_KIND_FLOAT, .size = sizeof(float)},
                                    [COUNTS] = {.kind = H5_KIND_UINT, .size = sizeof(uint64_t)},
                                    [KEYS] = {.kind = H5_KIND_TEXT, .size = STORE_KEY},
                                    [SUMS] = {.kind = H5_KIND_UINT, .size = sizeof(uint32_t)}};
    struct h5_values v[LISTS];
    struct h5_links top;
    bool ok = h5_in_links(f, f->root, &top, e);

    for (int i = 0; ok && i < LISTS; i++) {
        ok = find_list(f, &top, names[i], &want[i], &v[i], e);
        if (!ok) err_context(e, "is of an older form, or damaged");
        if (ok && v[i].count == 0) ok = err_set(e, "is damaged: it has no entries");
        if (ok && i == COUNTS) want[KEYS].count = want[SUMS].count = v[COUNTS].count;
    }
    if (ok) {
        p->n = (int64_t)v[COUNTS].count; /* all in the file, so sizes cannot overflow */
        p->values_at = f->base + v[VALUES].at;
        p->sums_at = f->base + v[SUMS].at;
        *keys = mem_new((size_t)p->n, STORE_KEY, "the keys of a store", e);
        p->begin = mem_new((size_t)p->n + 1, sizeof *p->begin, "the entries of a store", e);
        p->sums = mem_new((size_t)p->n, sizeof *p->sums, "the sums of a store", e);
    }
    ok = ok && *keys && p->begin && p->sums &&
         h5_in_read(f, &v[KEYS], 0, v[KEYS].count, *keys, e) &&
         h5_in_read(f, &v[COUNTS], 0, v[COUNTS].count, p->begin, e) &&
         h5_in_read(f, &v[SUMS], 0, v[SUMS].count, p->sums, e) && add_up(p, v[VALUES].count, e);
    h5_links_free(&top);
    return ok;
}

bool part_open(struct store_part *p, const char *path, const char *about, char **keys,
               struct err *e)
{
    struct h5_in f;
    bool ok;
    int failed;

    *p = (struct store_part){.fd = -1};
    *keys = NULL;
    errno = 0;
    p->fd = file_open(path, e);
    ok = p->fd >= 0 && h5_in_start(&f, p->fd, e) && check_about(&f, about, e) &&
         open_lists(p, &f, keys, e);
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
    free(p->begin);
    free(p->sums);
    *p = (struct store_part){.fd = -1};
}

bool part_reopen(struct store_part *p, const char *path, struct err *e)
{
    if (p->fd < 0) p->fd = file_open(path, e);
    return p->fd >= 0;
}

/* ---- entries ---- */

static size_t bytes_of(const struct store_part *p, int64_t i)
{
    return (size_t)(p->begin[i + 1] - p->begin[i]) * sizeof(float);
}

static uint64_t place_of(const struct store_part *p, int64_t i)
{
    return p->values_at + (uint64_t)p->begin[i] * sizeof(float);
}

static uint32_t sum_of(const struct store_part *p, int64_t i, const char *key, const float *values)
{
    return store_sum(key, values, p->begin[i + 1] - p->begin[i]);
}

bool part_get(const struct store_part *p, int64_t i, const char *key, float *values, struct err *e)
{
    return file_read_at(p->fd, place_of(p, i), bytes_of(p, i), values, e) &&
           (sum_of(p, i, key, values) == p->sums[i] || err_set(e, "its checksum is wrong"));
}

bool part_mend(struct store_part *p, const char *path, int64_t i, const char *key,
               const float *values, struct err *e)
{
    const uint32_t sum = sum_of(p, i, key, values);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok;

    if (fd < 0) return err_system(e, errno, "%s", "");
    errno = ENOSPC; /* for a short write, which sets no errno */
    ok = pwrite(fd, values, bytes_of(p, i), (off_t)place_of(p, i)) == (ssize_t)bytes_of(p, i) &&
         pwrite(fd, &sum, sizeof sum, (off_t)(p->sums_at + (uint64_t)i * sizeof sum)) ==
             (ssize_t)sizeof sum;
    if (!ok) err_system(e, errno, "%s", "");
    if (close(fd) != 0 && ok) ok = err_system(e, errno, "%s", "");
    if (ok) p->sums[i] = sum;
    return ok;
}
