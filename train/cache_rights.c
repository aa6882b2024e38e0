/* cache_rights.c - see cache_rights.h. */
#include "train/cache_rights.h"
#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A full disk can be read from. */
static bool is_passing(const struct err *why)
{
    return why->machine && why->number != ENOSPC && why->number != EDQUOT;
}

static bool answer(bool written, bool *can, const struct err *why, struct err *e)
{
    *can = written;
    if (written || !is_passing(why)) return true;
    *e = *why;
    return false;
}

/* By its rights: whether a file, or one in a directory, can be written; one that is not there can
 * be made. */
static bool may_write(int at, const char *name, int mode)
{
    return faccessat(at, name, mode, 0) == 0 || errno == ENOENT;
}

/* Of the store of that name in `cache`: who writes in it takes its lock. */
static bool may_write_store(const char *cache, int at, const char *name, struct err *why)
{
    char lock[sizeof(struct dirent)];

    snprintf(lock, sizeof lock, "%s/lock", name);
    return (may_write(at, name, W_OK | X_OK) && may_write(at, lock, R_OK | W_OK)) ||
           err_system(why, errno, "%s/%s: nothing can be written there", cache, name);
}

static bool is_store(int at, const char *name)
{
    struct stat st;

    return fnmatch("*-*", name, FNM_PERIOD) == 0 && fstatat(at, name, &st, 0) == 0 &&
           S_ISDIR(st.st_mode);
}

/* Files are not tried: the rights say enough of what is there already. */
static bool can_write_stores(const char *cache, struct err *why)
{
    const struct dirent *entry;
    DIR *d = opendir(cache);
    bool ok = d || err_system(why, errno, "%s", cache);

    while (ok && (errno = 0, entry = readdir(d)))
        ok = !is_store(dirfd(d), entry->d_name) ||
             may_write_store(cache, dirfd(d), entry->d_name, why);
    if (ok && errno) ok = err_system(why, errno, "%s", cache);
    if (d) closedir(d);
    return ok;
}

static bool can_write(const char *dir, struct err *why)
{
    return file_can_write(dir, why) || why->number == ENOENT;
}

bool cache_rights(const char *cache, bool *can, struct err *why, struct err *e)
{
    bool there = false;

    if (!file_there(cache, &there, e)) return false;
    return answer(!there || (file_can_write(cache, why) && can_write_stores(cache, why)), can, why,
                  e);
}

bool cache_rights_new(const char *cache, bool *can, struct err *why, struct err *e)
{
    return answer(can_write(cache, why), can, why, e);
}

bool cache_rights_store(const char *dir, bool *can, struct err *why, struct err *e)
{
    char *lock = mem_printf(e, "%s/lock", dir), *up = lock ? file_dir(dir, e) : NULL;
    bool there = false, written = false, ok = up && file_there(dir, &there, e);

    if (ok) {
        written = can_write(there ? dir : up, why);
        if (written && !may_write(AT_FDCWD, lock, R_OK | W_OK))
            written = err_system(why, errno, "%s: cannot be written", lock);
        ok = answer(written, can, why, e);
    }
    free(lock);
    free(up);
    return ok;
}

bool cache_open_read(struct store *s, const char *dir, const char *about, struct err *e)
{
    struct err why;

    if (store_open(s, dir, about, false, &why)) return true;
    *e = why;
    if (!why.machine)
        err_set(e, "data.cache: %s: choose another directory, or make this one readable", why.msg);
    return false;
}

bool cache_refuse(struct err *e, const struct err *why, const char *but, ...)
{
    char what[sizeof e->msg];
    va_list ap;

    va_start(ap, but);
    vsnprintf(what, sizeof what, but, ap);
    va_end(ap);
    err_set(e, "data.cache: %s, and %s", why->msg, what);
    e->number = why->number; /* there may be no room */
    return false;
}
