/* store.c - lists of floats in part files (store_part.h), with an in-memory hash table of their
 * keys. */
#include "data/store.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "data/store_part.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static uint64_t key_hash(const char *key)
{
    return hash_fnv(key, STORE_KEY);
}

/* Makes room for n keys. */
static bool reserve(struct store *s, int64_t n, struct err *e)
{
    return mem_grow(&s->key, &s->cap_keys, (size_t)n, sizeof *s->key, e) &&
           slots_reserve(&s->slots, n, e);
}

/* Appends a key, for which there is room. */
static void add_key(struct store *s, const char *key)
{
    memcpy(s->key[s->n], key, STORE_KEY);
    s->key[s->n][STORE_KEY] = '\0';
    slots_put(&s->slots, key_hash(key), s->n++);
}

int64_t store_find(const struct store *s, const char *key)
{
    uint64_t hash = key_hash(key), step = 0;
    int64_t i;

    while ((i = slots_next(&s->slots, hash, &step)) >= 0)
        if (memcmp(s->key[i], key, STORE_KEY) == 0) return i;
    return -1;
}

static char *part_path(const struct store *s, int number, struct err *e)
{
    return mem_printf(e, "%s/part-%05d.h5", s->dir, number);
}

/* Keeps at most STORE_OPEN files open: each part maps to one slot, and part k closes the others of
 * its slot. */
static void hold_open(struct store *s, size_t k)
{
    for (size_t i = k % STORE_OPEN; i < s->n_parts; i += STORE_OPEN)
        if (i != k) part_shut(&s->parts[i]);
}

/* Adds the entries of an open part; on success the store owns the part. */
static bool add_part(struct store *s, struct store_part *p, const char *keys, struct err *e)
{
    if (!mem_grow(&s->parts, &s->cap_parts, s->n_parts + 1, sizeof *s->parts, e) ||
        !reserve(s, s->n + p->n, e))
        return false;
    p->first = s->n;
    for (int64_t i = 0; i < p->n; i++)
        add_key(s, keys + i * STORE_KEY);
    s->parts[s->n_parts++] = *p;
    hold_open(s, s->n_parts - 1);
    return true;
}

/* A part that is damaged or of an older format is no loss: its entries can be recomputed. A writer
 * deletes it, so that it is not met again. */
static void leave_out(const struct store *s, const char *path, const struct err *why)
{
    if (s->lock < 0)
        log_line("cache: %s: not used", why->msg);
    else if (unlink(path) == 0)
        log_line("cache: %s: deleted, its entries are computed again", why->msg);
    else
        log_line("cache: %s: not used, and cannot be deleted: %s", why->msg, strerror(errno));
}

/* A file that has vanished since the directory was read was deleted by another run. */
static bool open_part(struct store *s, int number, struct err *e)
{
    struct store_part p;
    char *path = part_path(s, number, e), *keys = NULL;
    struct err why;
    bool ok = path;

    if (ok && part_open(&p, path, s->about, &keys, &why)) {
        p.number = number;
        ok = add_part(s, &p, keys, e);
        if (!ok) part_close(&p);
    } else if (ok && errno == 0) {
        leave_out(s, path, &why);
    } else if (ok && errno != ENOENT) {
        *e = why;
        ok = false;
    }
    if (ok && number >= s->next_part) s->next_part = number + 1;
    free(keys);
    free(path);
    return ok;
}

/* Publishes the pending rows as the next part, and opens that in place of the memory. */
static bool flush(struct store *s, struct err *e)
{
    int64_t all = s->n, first = s->n - s->n_pending;
    char *path = part_path(s, s->next_part, e), *flat = NULL;
    struct part_entries entries;
    bool ok = false;

    if (path) flat = mem_new((size_t)s->n_pending, STORE_KEY, "the keys of a store", e);
    if (!flat) goto out;
    for (int64_t i = 0; i < s->n_pending; i++)
        memcpy(flat + i * STORE_KEY, s->key[first + i], STORE_KEY);
    entries = (struct part_entries){flat, s->pending, s->counts, s->n_pending};
    if (!part_write(path, s->about, &entries, e)) goto out;
    s->n = first; /* open_part adds them again */
    s->n_pending = 0;
    s->n_values = 0;
    slots_clear(&s->slots);
    for (int64_t i = 0; i < s->n; i++)
        slots_put(&s->slots, key_hash(s->key[i]), i);
    ok = open_part(s, s->next_part, e) &&
         (s->n == all || err_set(e, "%s: does not hold what was written to it", path));
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
    if (!ok && !stopped) err_system(e, errno, "%s", name);
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

/* In order of their names; numbers may be missing, since files may have been deleted. */
static bool open_parts(struct store *s, struct err *e)
{
    struct dirent **names;
    int n = scandir(s->dir, &names, is_part, alphasort);
    bool ok = n >= 0 || errno == ENOENT || err_system(e, errno, "%s", s->dir);

    for (int i = 0; i < n; i++) {
        ok = ok && open_part(s, part_number(names[i]->d_name), e);
        free(names[i]);
    }
    if (n >= 0) free(names);
    return ok;
}

bool store_open(struct store *s, const char *dir, const char *about, bool write, struct err *e)
{
    struct err ignored;

    CHECK(strlen(about) < STORE_ABOUT);
    memset(s, 0, sizeof *s);
    s->lock = -1;
    s->dir = mem_strdup(dir, e);
    s->about = s->dir ? mem_strdup(about, e) : NULL;
    if (!s->about || (write && !file_mkdirs(dir, e))) goto fail;
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
        part_close(&s->parts[i]);
    if (s->dir && s->lock >= 0) close(s->lock);
    free(s->dir);
    free(s->about);
    free(s->parts);
    free(s->key);
    slots_free(&s->slots);
    free(s->pending);
    free(s->counts);
    memset(s, 0, sizeof *s);
    return ok;
}

bool store_put(struct store *s, const char *key, const float *values, int64_t count, struct err *e)
{
    const size_t most = STORE_PART_BYTES / sizeof *values, n = (size_t)count;

    CHECK(s->lock >= 0 && count > 0 && strlen(key) == STORE_KEY && store_find(s, key) < 0);
    if (s->n_pending && s->n_values + n > most && !flush(s, e)) return false;
    if (!mem_grow(&s->pending, &s->cap_pending, n > most ? n : most, sizeof *s->pending, e))
        return false; /* its pages are only allocated as they are filled */
    if (!mem_grow(&s->counts, &s->cap_counts, (size_t)s->n_pending + 1, sizeof *s->counts, e) ||
        !reserve(s, s->n + 1, e))
        return false;
    memcpy(s->pending + s->n_values, values, n * sizeof *values);
    s->n_values += n;
    s->counts[s->n_pending++] = count;
    add_key(s, key);
    return true;
}

/* The part that holds an entry, which must not be pending. */
static size_t part_of(const struct store *s, int64_t index)
{
    size_t low = 0, high = s->n_parts - 1;

    while (low < high) {
        const size_t middle = (low + high + 1) / 2;

        if (s->parts[middle].first <= index)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Entry i of the pending ones. */
static bool get_pending(const struct store *s, int64_t i, float *values, int64_t count)
{
    const float *at = s->pending;

    for (int64_t k = 0; k < i; k++)
        at += s->counts[k];
    if (s->counts[i] == count) memcpy(values, at, (size_t)count * sizeof *values);
    return s->counts[i] == count;
}

static bool check_count(const struct store_part *p, int64_t i, int64_t count, struct err *e)
{
    const int64_t has = p->begin[i + 1] - p->begin[i];

    return has == count ||
           err_set(e, "has %lld values, needed are %lld", (long long)has, (long long)count);
}

bool store_get(struct store *s, int64_t index, float *values, int64_t count, struct err *e)
{
    const int64_t pending = index - (s->n - s->n_pending);
    struct store_part *p;
    int64_t i;
    size_t k;
    char *path;
    bool ok;

    CHECK(0 <= index && index < s->n);
    if (pending >= 0)
        return get_pending(s, pending, values, count) || err_set(e, "%s: of another size", s->dir);
    k = part_of(s, index);
    p = &s->parts[k];
    i = index - p->first;
    if (p->fd < 0) hold_open(s, k);
    path = part_path(s, p->number, e);
    ok = path && ((part_reopen(p, path, e) && check_count(p, i, count, e) &&
                   part_get(p, i, s->key[index], values, e)) ||
                  err_context(e, "%s: entry %lld", path, (long long)i));
    free(path);
    return ok;
}

bool store_mend(struct store *s, int64_t index, const float *values, int64_t count, struct err *e)
{
    struct store_part *p = &s->parts[part_of(s, index)];
    const int64_t i = index - p->first;
    char *path = part_path(s, p->number, e);
    bool ok =
        path && ((check_count(p, i, count, e) && part_mend(p, path, i, s->key[index], values, e)) ||
                 err_context(e, "%s", path));

    CHECK(index < s->n - s->n_pending);
    free(path);
    return ok;
}
