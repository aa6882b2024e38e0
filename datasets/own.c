/* own.c - see own.h. */
#include "datasets/own.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char room_name[] = ".mha2mla-data";
enum { HEX = 64, LIST_MAX = 1 << 30 };

/* ---- the lock ---- */

static bool lock_failed(const struct own *o, const char *path, int number, struct err *e)
{
    if (number == EWOULDBLOCK)
        return err_set(e,
                       "%s: another mha2mla-data is writing into it: wait until it has ended, or "
                       "choose another --out",
                       o->dir);
    return err_system(e, number, "%s: cannot be locked", path);
}

/* Locks the file of that name. *again: it was removed by its last owner just now. */
static bool try_lock(struct own *o, const char *path, bool *again, struct err *e)
{
    struct stat held, named;
    int fd;

    *again = false;
    if (!file_mkdirs(o->room, e)) return false;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        *again = errno == ENOENT; /* so was the room */
        return *again || err_system(e, errno, "%s", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        lock_failed(o, path, errno, e);
        close(fd);
        return false;
    }
    if (fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino) {
        o->lock = fd;
        return true;
    }
    close(fd);
    *again = true;
    return true;
}

static bool take_lock(struct own *o, struct err *e)
{
    char *path = file_join(o->room, "lock", e);
    bool again = path, ok = path && file_there(path, &o->left, e);

    for (int i = 0; ok && again && i < 100; i++)
        ok = try_lock(o, path, &again, e);
    if (ok && again) ok = lock_failed(o, path, EWOULDBLOCK, e);
    free(path);
    return ok;
}

/* ---- the list ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct own_file *)a)->name, ((const struct own_file *)b)->name);
}

static struct own_file *add(struct own_file **files, size_t *n, size_t *cap, const char *name,
                            size_t len, struct err *e)
{
    struct own_file f = {.name = mem_strndup(name, len, e)};

    if (!f.name || !mem_grow(files, cap, *n + 1, sizeof f, e)) {
        free(f.name);
        return NULL;
    }
    (*files)[*n] = f;
    return &(*files)[(*n)++];
}

/* A line that is none is skipped: what it named is nobody's, and stays. */
static bool parse(struct own *o, const char *text, struct err *e)
{
    for (const char *end; *text; text = end + (*end == '\n')) {
        const size_t len = (size_t)((end = strchrnul(text, '\n')) - text);
        struct own_file *f;
        if (len < HEX + 3 || memcmp(text + HEX, "  ", 2) != 0) continue;
        f = add(&o->was, &o->n_was, &o->cap_was, text + HEX + 2, len - HEX - 2, e);
        if (!f) return false;
        memcpy(f->sum, text, HEX);
    }
    if (o->n_was) qsort(o->was, o->n_was, sizeof *o->was, by_name);
    return true;
}

static bool read_list(struct own *o, struct err *e)
{
    char *path = file_join(o->room, "files", e), *text = NULL;
    bool there = false, ok = path && file_there(path, &there, e);
    size_t len;

    if (ok && there) ok = file_read(path, LIST_MAX, &text, &len, e) && parse(o, text, e);
    free(text);
    free(path);
    return ok;
}

/* Cuts the last name off a path; false if there is only one. */
static bool cut_last(char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0 || (n == 1 && path[0] == '/')) return false;
    path[n] = '\0';
    return true;
}

static bool find_above(struct own *o, struct err *e)
{
    char *path = mem_strdup(o->dir, e);
    bool there = false, ok = path && file_there(path, &there, e);

    while (ok && !there && cut_last(path))
        ok = file_there(path, &there, e);
    o->above = ok && there ? strlen(path) : 0;
    free(path);
    return ok;
}

/* Whether it is a room itself, where this tool would list its files among its own lists. */
static bool is_room(const char *dir)
{
    const char *slash = strrchr(dir, '/');

    return strcmp(slash ? slash + 1 : dir, room_name) == 0;
}

bool own_open(struct own *o, const char *dir, struct err *e)
{
    if (is_room(dir))
        return err_set(e, "%s: is where mha2mla-data lists what it wrote: choose another --out",
                       dir);
    *o = (struct own){.dir = mem_strdup(dir, e)};
    o->room = o->dir ? file_join(dir, room_name, e) : NULL;
    return o->room && find_above(o, e) && file_there(o->room, &o->known, e) && take_lock(o, e) &&
           read_list(o, e);
}

/* ---- what may be written ---- */

/* Whether some line has this sum for the name; those that have another are stale. *known: there is
 * a line at all. */
static bool has_sum(struct own *o, const char *name, const char *sum, bool *known)
{
    size_t lo = 0, hi = o->n_was;
    bool found = false;

    while (lo < hi) { /* the first of that name */
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(o->was[mid].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *known = lo < o->n_was && strcmp(o->was[lo].name, name) == 0;
    for (; lo < o->n_was && strcmp(o->was[lo].name, name) == 0; lo++) {
        o->was[lo].stale = strcmp(o->was[lo].sum, sum) != 0;
        found = found || !o->was[lo].stale;
    }
    return found;
}

bool own_may_write(struct own *o, const char *name, struct err *e)
{
    char *path = file_join(o->dir, name, e), sum[HEX + 1];
    bool there = false, known, ok = path && file_named(path, &there, e);

    if (ok && there && (ok = sha256_path(path, NULL, sum, e)) && !has_sum(o, name, sum, &known))
        ok = err_set(e,
                     known ? "%s: was changed since mha2mla-data wrote it, and would be "
                             "overwritten: move it away, or choose another --out"
                           : "%s: was not written by mha2mla-data, and would be overwritten: move "
                             "it away, or choose another --out",
                     path);
    free(path);
    return ok;
}

bool own_may_begin(struct own *o, const char *name, struct err *e)
{
    char *tmp = mem_printf(e, "%s.tmp", name);
    bool ok = tmp && own_may_write(o, name, e) && (o->left || own_may_write(o, tmp, e));

    free(tmp);
    return ok;
}

bool own_claim(struct own *o, const char *name, const char *path, struct err *e)
{
    struct own_file *f = add(&o->now, &o->n_now, &o->cap_now, name, strlen(name), e);

    return f && sha256_path(path, NULL, f->sum, e);
}

static bool is_there(const struct own *o, const char *name)
{
    struct err e;
    char *path = file_join(o->dir, name, &e);
    bool there = path && access(path, F_OK) == 0;

    free(path);
    return there;
}

size_t own_left(struct own *o, const char *prefix)
{
    const size_t len = strlen(prefix);
    size_t n = 0;

    if (o->n_now) qsort(o->now, o->n_now, sizeof *o->now, by_name);
    for (size_t i = 0; i < o->n_was; i++) {
        if (o->was[i].stale || strncmp(o->was[i].name, prefix, len) != 0) continue;
        if (i > 0 && strcmp(o->was[i].name, o->was[i - 1].name) == 0) continue;
        if (!o->n_now || !bsearch(&o->was[i], o->now, o->n_now, sizeof *o->now, by_name))
            n += is_there(o, o->was[i].name);
    }
    return n;
}

bool own_save(struct own *o, struct err *e)
{
    char *path = file_join(o->room, "files", e);
    struct file_out out = {0};
    bool ok = path && file_out_open(&out, path, e);

    for (size_t i = 0; ok && i < o->n_was; i++)
        if (!o->was[i].stale) fprintf(out.fp, "%s  %s\n", o->was[i].sum, o->was[i].name);
    for (size_t i = 0; ok && i < o->n_now; i++)
        fprintf(out.fp, "%s  %s\n", o->now[i].sum, o->now[i].name);
    ok = ok && file_out_commit(&out, e);
    file_out_abort(&out);
    free(path);
    return ok;
}

static void free_files(struct own_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(files[i].name);
    free(files);
}

/* Removes the directories that were made for the room, as far as they are empty. */
static void remove_made(struct own *o)
{
    do {
        if (strlen(o->dir) <= o->above) return;
    } while (rmdir(o->dir) == 0 && cut_last(o->dir));
}

/* Removes the lock, which tells that this command was not killed, and an unused room. */
static void leave(struct own *o)
{
    struct err e;
    char *list = file_join(o->room, "files", &e), *lock = file_join(o->room, "lock", &e);

    if (lock) unlink(lock);
    if (list && access(list, F_OK) != 0 && !o->known) {
        rmdir(o->room);
        remove_made(o);
    }
    free(list);
    free(lock);
}

void own_close(struct own *o)
{
    if (o->lock > 0) {
        leave(o);
        close(o->lock);
    }
    free_files(o->was, o->n_was);
    free_files(o->now, o->n_now);
    free(o->dir);
    free(o->room);
    memset(o, 0, sizeof *o);
}
