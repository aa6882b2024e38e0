/* store.c - a table of float rows in HDF5 parts, with its keys in a hash table in memory. A part's
 * values lie in its file as plain bytes: HDF5 says where, then they are mapped. So a store of
 * thousands of parts takes no file descriptors, and a row costs a copy. */
#include "data/store.h"
#include "base/file.h"
#include "base/h5out.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { KEY = 64, ABOUT_MAX = 4096 };

struct store_part {
    struct file_map map;
    const uint8_t *values; /* in the map, not aligned */
    int64_t first, n;      /* its entries are [first, first + n) */
};

static void slot_put(struct store *s, int64_t index)
{
    uint64_t at = hash_fnv(s->key[index], KEY) % (uint64_t)s->n_slots;

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
    for (at = hash_fnv(key, KEY) % (uint64_t)s->n_slots; s->slots[at] >= 0;
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
    hid_t attr = H5Aopen(file, "about", H5P_DEFAULT), type, space;
    bool ok = false;

    if (attr < 0) return err_set(e, "%s: is not a part of a store; delete it", path);
    type = H5Aget_type(attr);
    space = H5Aget_space(attr);
    if (H5Tget_class(type) == H5T_STRING && !H5Tis_variable_str(type) &&
        H5Tget_size(type) < sizeof found && H5Sget_simple_extent_npoints(space) == 1)
        ok = H5Aread(attr, type, found) >= 0;
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attr);
    if (ok && strcmp(found, about) == 0) return true;
    return err_set(e, "%s: is about \"%s\", needed is \"%s\"; delete it", path, found, about);
}

static char *part_path(const struct store *s, int number, struct err *e)
{
    return mem_printf(e, "%s/part-%05d.h5", s->dir, number);
}

static bool dims_of(hid_t set, int rank, hsize_t *dims)
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

/* Finds the values in the map; they must be all there, as floats of this machine. */
static bool find_values(const struct store *s, struct store_part *p, hid_t set)
{
    hsize_t dims[2] = {0, 0};
    const haddr_t at = set < 0 ? HADDR_UNDEF : H5Dget_offset(set); /* huge where there is none */
    const hid_t type = set < 0 ? -1 : H5Dget_type(set);
    bool ok = type >= 0 && H5Tequal(type, H5T_NATIVE_FLOAT) > 0 && dims_of(set, 2, dims);

    if (type >= 0) H5Tclose(type);
    if (!ok || at > p->map.size || dims[1] != (hsize_t)s->width ||
        dims[0] > (p->map.size - at) / sizeof(float) / dims[1])
        return false;
    p->values = p->map.data + at;
    p->n = (int64_t)dims[0];
    return true;
}

/* Maps a part and adds its keys. */
static bool read_part(struct store *s, hid_t file, const char *path, struct err *e)
{
    struct store_part p = {.first = s->n};
    const hid_t values = H5Dopen2(file, "values", H5P_DEFAULT);
    const hid_t keys = H5Dopen2(file, "keys", H5P_DEFAULT);
    hsize_t n = 0;
    bool ok = mem_grow(&s->parts, &s->cap_parts, s->n_parts + 1, sizeof *s->parts, e) &&
              read_about(file, path, s->about, e) && file_map_open(&p.map, path, e);

    if (ok && (!find_values(s, &p, values) || !dims_of(keys, 1, &n) || n != (hsize_t)p.n))
        ok = err_set(e, "%s: is damaged; delete it", path);
    ok = ok && read_keys(s, keys, p.n, path, e);
    if (values >= 0) H5Dclose(values);
    if (keys >= 0) H5Dclose(keys);
    if (ok)
        s->parts[s->n_parts++] = p;
    else
        file_map_close(&p.map);
    return ok;
}

static bool open_part(struct store *s, int number, struct err *e)
{
    char *path = part_path(s, number, e);
    hid_t file = path ? h5_open(path) : -1;
    bool ok = file >= 0 ? read_part(s, file, path, e)
                        : path && err_set(e, "%s: is damaged or not HDF5; delete it", path);

    if (file >= 0) H5Fclose(file);
    if (ok && number >= s->next_part) s->next_part = number + 1;
    free(path);
    return ok;
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
    char *path = part_path(s, s->next_part, e), *flat = NULL;
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
    ok = open_part(s, s->next_part, e);
out:
    free(path);
    free(flat);
    return ok;
}

static bool take_lock(struct store *s, struct err *e)
{
    char *name = mem_printf(e, "%s/lock", s->dir);
    bool ok = false, stopped = false;

    if (!name) return false;
    s->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (s->lock >= 0) ok = flock(s->lock, LOCK_EX | LOCK_NB) == 0;
    if (s->lock >= 0 && !ok && errno == EWOULDBLOCK) {
        const struct timespec tick = {0, 100000000};
        log_line("%s: waiting for another run that writes there", s->dir);
        do {
            nanosleep(&tick, NULL);
            ok = flock(s->lock, LOCK_EX | LOCK_NB) == 0;
        } while (!ok && errno == EWOULDBLOCK && !signals_came());
        stopped = !ok && signals_came();
    }
    if (!ok && !stopped) err_set(e, "%s: %s", name, strerror(errno));
    free(name);
    return ok || (stopped && signals_go_on(e));
}

/* "part-00012.h5" is 12; -1 for any other name. */
static int part_number(const char *name)
{
    int number = -1, len = 0;

    return sscanf(name, "part-%5d.h5%n", &number, &len) == 1 && len && !name[len] ? number : -1;
}

static int is_part(const struct dirent *d)
{
    return part_number(d->d_name) >= 0;
}

/* In the order of their names; a number may be missing, because its file was deleted. */
static bool open_parts(struct store *s, struct err *e)
{
    struct dirent **names;
    int n = scandir(s->dir, &names, is_part, alphasort);
    bool ok = n >= 0 || err_set(e, "%s: %s", s->dir, strerror(errno));

    for (int i = 0; i < n; i++) {
        ok = ok && open_part(s, part_number(names[i]->d_name), e);
        free(names[i]);
    }
    if (n >= 0) free(names);
    return ok;
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
    if (write && !take_lock(s, e)) goto fail;
    if (!open_parts(s, e)) goto fail;
    return true;
fail:
    store_close(s, &ignored);
    return false;
}

bool store_close(struct store *s, struct err *e)
{
    bool ok = true;

    if (s->n_pending) ok = flush(s, e);
    for (size_t i = 0; i < s->n_parts; i++)
        file_map_close(&s->parts[i].map);
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
    int64_t most = STORE_PART_BYTES / (int64_t)sizeof(float) / s->width;

    CHECK(s->lock >= 0 && strlen(key) == KEY && store_find(s, key) < 0);
    if (most < 1) most = 1;
    if (!mem_grow(&s->pending, &s->cap_pending, (size_t)(most * s->width), sizeof *s->pending, e))
        return false; /* pages of it are taken as they are filled */
    if (s->n_pending == most && !flush(s, e)) return false;
    if (!reserve(s, s->n + 1, e)) return false;
    memcpy(s->pending + s->n_pending++ * s->width, values, (size_t)s->width * sizeof *values);
    memcpy(s->key[s->n], key, KEY + 1);
    slot_put(s, s->n++);
    return true;
}

void store_get(const struct store *s, int64_t index, float *values)
{
    const size_t row = (size_t)s->width * sizeof *values;
    int64_t pending = index - (s->n - s->n_pending);
    const struct store_part *p = s->parts;

    CHECK(0 <= index && index < s->n);
    if (pending >= 0) {
        memcpy(values, s->pending + pending * s->width, row);
        return;
    }
    while (index >= p->first + p->n)
        p++;
    memcpy(values, p->values + (size_t)(index - p->first) * row, row);
}
