/* store.c - a table of float rows in HDF5 parts, with its keys in a hash table in memory. */
#include "data/store.h"
#include "base/file.h"
#include "base/h5out.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { KEY = 64, ABOUT_MAX = 4096, PART_BYTES = 64 << 20, MAX_PARTS = 100000 };

struct store_part {
    hid_t file, values;
    int64_t first, n; /* its entries are [first, first + n) */
};

static uint64_t key_hash(const char *key)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a */

    for (int i = 0; i < KEY; i++)
        h = (h ^ (uint8_t)key[i]) * 1099511628211u;
    return h;
}

static void slot_put(struct store *s, int64_t index)
{
    uint64_t at = key_hash(s->key[index]) % (uint64_t)s->n_slots;

    while (s->slots[at] >= 0)
        at = (at + 1) % (uint64_t)s->n_slots;
    s->slots[at] = index;
}

/* Makes room for n keys in the list and, at most half full, in the hash table. */
static bool reserve(struct store *s, int64_t n, struct err *e)
{
    int64_t want = s->n_slots ? s->n_slots : 256, *slots;

    if (!mem_grow(&s->key, &s->cap_keys, (size_t)n, sizeof *s->key, e)) return false;
    if (2 * n <= s->n_slots) return true;
    while (want < 2 * n)
        want *= 2;
    slots = mem_new((size_t)want, sizeof *slots, "the keys of a store", e);
    if (!slots) return false;
    free(s->slots);
    s->slots = slots;
    s->n_slots = want;
    memset(slots, -1, (size_t)want * sizeof *slots);
    for (int64_t i = 0; i < s->n; i++)
        slot_put(s, i);
    return true;
}

int64_t store_find(const struct store *s, const char *key)
{
    uint64_t at;

    if (s->n_slots == 0) return -1;
    for (at = key_hash(key) % (uint64_t)s->n_slots; s->slots[at] >= 0;
         at = (at + 1) % (uint64_t)s->n_slots)
        if (memcmp(s->key[s->slots[at]], key, KEY) == 0) return s->slots[at];
    return -1;
}

/* A fixed-length string type: keys without, texts with room for the NUL. */
static hid_t string_type(size_t size)
{
    hid_t type = H5Tcopy(H5T_C_S1);

    H5Tset_size(type, size);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    return type;
}

static bool read_about(hid_t file, const char *path, const char *about, struct err *e)
{
    char found[ABOUT_MAX] = "";
    hid_t attr = H5Aopen(file, "about", H5P_DEFAULT), type;
    bool ok = false;

    if (attr < 0) return err_set(e, "%s: is not a part of a store; delete it", path);
    type = H5Aget_type(attr);
    if (H5Tget_class(type) == H5T_STRING && !H5Tis_variable_str(type) &&
        H5Tget_size(type) < sizeof found)
        ok = H5Aread(attr, type, found) >= 0;
    H5Tclose(type);
    H5Aclose(attr);
    if (ok && strcmp(found, about) == 0) return true;
    return err_set(e, "%s: is about \"%s\", needed is \"%s\"; delete it", path, found, about);
}

static bool dims_of(hid_t set, int rank, hsize_t dims[2])
{
    hid_t space = set < 0 ? -1 : H5Dget_space(set);
    bool ok = space >= 0 && H5Sget_simple_extent_ndims(space) == rank &&
              H5Sget_simple_extent_dims(space, dims, NULL) == rank;

    if (space >= 0) H5Sclose(space);
    return ok;
}

static bool read_keys(struct store *s, hid_t set, int64_t n, const char *path, struct err *e)
{
    hid_t type = string_type(KEY);
    char *flat = mem_new((size_t)n, KEY, "the keys of a store", e);
    bool ok = flat && reserve(s, s->n + n, e);

    if (ok && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, flat) < 0)
        ok = err_set(e, "%s: its keys cannot be read; delete it", path);
    for (int64_t i = 0; ok && i < n; i++) {
        memcpy(s->key[s->n], flat + i * KEY, KEY);
        s->key[s->n][KEY] = '\0';
        slot_put(s, s->n++);
    }
    free(flat);
    H5Tclose(type);
    return ok;
}

/* Opens one part and adds its keys. */
static bool open_part(struct store *s, const char *path, struct err *e)
{
    struct store_part p = {.first = s->n};
    hsize_t values[2] = {0, 0}, keys[2] = {0, 0};
    hid_t set;
    bool ok;

    if (!mem_grow(&s->parts, &s->cap_parts, s->n_parts + 1, sizeof *s->parts, e)) return false;
    p.file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (p.file < 0) return err_set(e, "%s: is damaged or not HDF5; delete it", path);
    p.values = H5Dopen2(p.file, "values", H5P_DEFAULT);
    set = H5Dopen2(p.file, "keys", H5P_DEFAULT);
    ok = read_about(p.file, path, s->about, e);
    if (ok && (!dims_of(p.values, 2, values) || !dims_of(set, 1, keys) || keys[0] != values[0] ||
               values[1] != (hsize_t)s->width || keys[0] > PART_BYTES))
        ok = err_set(e, "%s: is damaged; delete it", path);
    ok = ok && read_keys(s, set, (int64_t)keys[0], path, e);
    if (set >= 0) H5Dclose(set);
    p.n = (int64_t)keys[0];
    if (ok) {
        s->parts[s->n_parts++] = p;
        return true;
    }
    if (p.values >= 0) H5Dclose(p.values);
    H5Fclose(p.file);
    return false;
}

/* The pending entries, with their keys behind each other. */
static bool write_part(const struct store *s, const char *path, const char *keys, struct err *e)
{
    hid_t key = string_type(KEY);
    const hsize_t n = (hsize_t)s->n_pending;
    const struct h5_array values = {"values", H5T_IEEE_F32LE,         H5T_NATIVE_FLOAT,
                                    2,        {n, (hsize_t)s->width}, s->pending};
    const struct h5_array names = {"keys", key, key, 1, {n}, keys};
    struct h5_out out;
    bool ok = h5_out_open(&out, path, 0, e) && h5_out_text(&out, "about", s->about, e) &&
              h5_out_write(&out, out.file, &values, e) && h5_out_write(&out, out.file, &names, e) &&
              h5_out_finish(&out, e) && h5_out_commit(&out, e);

    if (!ok) h5_out_abort(&out);
    H5Tclose(key);
    return ok;
}

/* Publishes what is pending as the next part, and opens it in place of the memory. */
static bool flush(struct store *s, struct err *e)
{
    int64_t first = s->n - s->n_pending;
    char *path = mem_printf(e, "%s/part-%05zu.h5", s->dir, s->n_parts), *flat = NULL;
    bool ok = false;

    if (path) flat = mem_new((size_t)s->n_pending, KEY, "the keys of a store", e);
    if (!flat) goto out;
    for (int64_t i = 0; i < s->n_pending; i++)
        memcpy(flat + i * KEY, s->key[first + i], KEY);
    if (!write_part(s, path, flat, e)) goto out;
    s->n = first; /* open_part adds them again */
    s->n_pending = 0;
    memset(s->slots, -1, (size_t)s->n_slots * sizeof *s->slots);
    for (int64_t i = 0; i < s->n; i++)
        slot_put(s, i);
    ok = open_part(s, path, e);
out:
    free(path);
    free(flat);
    return ok;
}

static bool take_lock(struct store *s, struct err *e)
{
    char *name = mem_printf(e, "%s/lock", s->dir);

    if (!name) return false;
    s->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (s->lock < 0 || flock(s->lock, LOCK_EX) != 0) err_set(e, "%s: %s", name, strerror(errno));
    free(name);
    return s->lock >= 0;
}

bool store_open(struct store *s, const char *dir, const char *about, int64_t width, bool write,
                struct err *e)
{
    struct err ignored;

    CHECK(width > 0 && strlen(about) < ABOUT_MAX);
    memset(s, 0, sizeof *s);
    s->lock = -1;
    s->width = width;
    s->dir = mem_strdup(dir, e);
    s->about = s->dir ? mem_strdup(about, e) : NULL;
    if (!s->about || !file_mkdirs(dir, e)) goto fail;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* errors are ours to tell */
    if (write && !take_lock(s, e)) goto fail;
    for (size_t i = 0; i < MAX_PARTS; i++) {
        char *path = mem_printf(e, "%s/part-%05zu.h5", dir, i);
        bool there = path && file_exists(path), ok = path && (!there || open_part(s, path, e));
        free(path);
        if (!ok) goto fail;
        if (!there) break;
    }
    return true;
fail:
    store_close(s, &ignored);
    return false;
}

bool store_close(struct store *s, struct err *e)
{
    bool ok = true;

    if (s->n_pending) ok = flush(s, e);
    for (size_t i = 0; i < s->n_parts; i++) {
        H5Dclose(s->parts[i].values);
        H5Fclose(s->parts[i].file);
    }
    if (s->dir && s->lock >= 0) close(s->lock);
    free(s->dir);
    free(s->about);
    free(s->parts);
    free(s->key);
    free(s->slots);
    free(s->pending);
    memset(s, 0, sizeof *s);
    return ok;
}

bool store_put(struct store *s, const char *key, const float *values, struct err *e)
{
    int64_t most = PART_BYTES / (int64_t)sizeof(float) / s->width;

    CHECK(s->lock >= 0 && strlen(key) == KEY && store_find(s, key) < 0);
    if (most < 1) most = 1;
    if (!s->pending) {
        s->pending = mem_new((size_t)(most * s->width), sizeof *s->pending, "a part of a store", e);
        if (!s->pending) return false;
    }
    if (s->n_pending == most && !flush(s, e)) return false;
    if (!reserve(s, s->n + 1, e)) return false;
    memcpy(s->pending + s->n_pending++ * s->width, values, (size_t)s->width * sizeof *values);
    memcpy(s->key[s->n], key, KEY + 1);
    slot_put(s, s->n++);
    return true;
}

bool store_get(const struct store *s, int64_t index, float *values, struct err *e)
{
    int64_t pending = index - (s->n - s->n_pending);
    const struct store_part *p = s->parts;
    hsize_t start[2] = {0, 0}, count[2] = {1, (hsize_t)s->width};
    hid_t space, mem;
    bool ok;

    CHECK(0 <= index && index < s->n);
    if (pending >= 0) {
        memcpy(values, s->pending + pending * s->width, (size_t)s->width * sizeof *values);
        return true;
    }
    while (index >= p->first + p->n)
        p++;
    start[0] = (hsize_t)(index - p->first);
    space = H5Dget_space(p->values);
    mem = H5Screate_simple(2, count, NULL);
    ok = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
         H5Dread(p->values, H5T_NATIVE_FLOAT, mem, space, H5P_DEFAULT, values) >= 0;
    H5Sclose(space);
    H5Sclose(mem);
    return ok || err_set(e, "%s: entry %lld cannot be read", s->dir, (long long)index);
}
