/* aside.c - see aside.h. */
#include "datasets/aside.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool aside_open(struct aside *a, const char *dir, struct err *e)
{
    a->images = file_join(dir, "images", e);
    a->tmp = a->images ? file_join(dir, "images.tmp", e) : NULL;
    if (!a->tmp) return false;
    file_remove_tree(a->tmp);
    return file_mkdirs(a->images, e) && file_mkdirs(a->tmp, e);
}

char *aside_picture(const struct aside *a, const char *name, struct err *e)
{
    return file_join(a->tmp, name, e);
}

/* Checks that nothing is in the picture's way that it cannot replace. */
static bool look(const char *from, const char *to, struct err *e)
{
    struct stat st;

    (void)from;
    return stat(to, &st) != 0 || !S_ISDIR(st.st_mode) || err_system(e, EISDIR, "%s", to);
}

static bool move(const char *from, const char *to, struct err *e)
{
    return rename(from, to) == 0 || err_system(e, errno, "%s: cannot be written", to);
}

/* Calls `what` for every picture that was written aside. */
static bool each_picture(const struct aside *a,
                         bool (*what)(const char *from, const char *to, struct err *e),
                         struct err *e)
{
    DIR *d = opendir(a->tmp);
    bool ok = d || err_system(e, errno, "%s", a->tmp);
    const struct dirent *f = NULL;

    while (ok && (errno = 0, f = readdir(d))) {
        char *from, *to;
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0) continue;
        from = file_join(a->tmp, f->d_name, e);
        to = from ? file_join(a->images, f->d_name, e) : NULL;
        ok = to && what(from, to, e);
        free(from);
        free(to);
    }
    if (ok && errno) ok = err_system(e, errno, "%s", a->tmp);
    if (d) closedir(d);
    return ok;
}

bool aside_publish(struct aside *a, struct file_out *const *lists, int n, struct err *e)
{
    bool ok = true;

    for (int i = 0; ok && i < n; i++)
        ok = file_out_flush(lists[i], e);
    ok = ok && each_picture(a, look, e);
    for (int i = 0; ok && i < n; i++)
        ok = unlink(lists[i]->path) == 0 || errno == ENOENT ||
             err_system(e, errno, "%s: cannot be replaced", lists[i]->path);
    ok = ok && each_picture(a, move, e) && file_sync_dir(a->images, e);
    for (int i = 0; ok && i < n; i++)
        ok = file_out_commit(lists[i], e);
    return ok;
}

void aside_close(struct aside *a)
{
    if (a->tmp) file_remove_tree(a->tmp);
    free(a->images);
    free(a->tmp);
    memset(a, 0, sizeof *a);
}
