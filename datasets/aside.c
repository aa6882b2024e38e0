/* aside.c - see aside.h. */
#include "datasets/aside.h"
#include "base/mem.h"
#include "base/plural.h"
#include "datasets/tool.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool aside_open(struct aside *a, const char *dir, struct err *e)
{
    if (!own_open(&a->own, dir, e)) return false;
    a->images = file_join(dir, "images", e);
    a->tmp = a->images ? file_join(a->own.room, "images", e) : NULL;
    if (!a->tmp) return false;
    file_remove_tree(a->tmp);
    return file_mkdirs(a->tmp, e);
}

bool aside_list(struct aside *a, const char *name, struct err *e)
{
    return own_may_begin(&a->own, name, e);
}

char *aside_picture(const struct aside *a, const char *name, struct err *e)
{
    return file_join(a->tmp, name, e);
}

/* Calls `what` for every picture that was written aside; `from` is its path, `name` its place in
 * the set. */
static bool each_picture(struct aside *a,
                         bool (*what)(struct aside *a, const char *from, const char *name,
                                      struct err *e),
                         struct err *e)
{
    DIR *d = opendir(a->tmp);
    bool ok = d || err_system(e, errno, "%s", a->tmp);
    const struct dirent *f = NULL;

    while (ok && (errno = 0, f = readdir(d))) {
        char *from, *name;
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0) continue;
        from = file_join(a->tmp, f->d_name, e);
        name = from ? file_join("images", f->d_name, e) : NULL;
        ok = name && what(a, from, name, e);
        free(from);
        free(name);
    }
    if (ok && errno) ok = err_system(e, errno, "%s", a->tmp);
    if (d) closedir(d);
    return ok;
}

static bool look(struct aside *a, const char *from, const char *name, struct err *e)
{
    return own_may_write(&a->own, name, e) && own_claim(&a->own, name, from, e);
}

static bool move(struct aside *a, const char *from, const char *name, struct err *e)
{
    char *to = file_join(a->own.dir, name, e);
    bool ok = to && (rename(from, to) == 0 || err_system(e, errno, "%s: cannot be written", to));

    free(to);
    return ok;
}

static bool claim_list(struct aside *a, struct file_out *list, struct err *e)
{
    return file_out_flush(list, e) &&
           own_claim(&a->own, strrchr(list->path, '/') + 1, list->tmp, e);
}

/* Whether pictures can be moved at all: DIR/images may be a link to elsewhere, or read-only. */
static bool can_move(struct aside *a, struct err *e)
{
    char *from = file_join(a->tmp, ".moves", e),
         *to = from ? file_join(a->images, ".moves", e) : NULL;
    FILE *fp = to ? fopen(from, "we") : NULL;
    bool ok = to && (fp || err_system(e, errno, "%s", from));

    if (fp) fclose(fp);
    ok = ok && (rename(from, to) == 0 ||
                err_system(e, errno, "%s: no picture can be moved into it", a->images));
    if (ok) unlink(to);
    free(from);
    free(to);
    return ok;
}

bool aside_publish(struct aside *a, struct file_out *const *lists, int n, struct err *e)
{
    bool there = false, ok = file_there(a->images, &there, e) && file_mkdirs(a->images, e);
    size_t left;

    a->made = ok && !there;
    for (int i = 0; ok && i < n; i++)
        ok = claim_list(a, lists[i], e);
    ok = ok && each_picture(a, look, e) && can_move(a, e) && own_save(&a->own, e);
    for (int i = 0; ok && i < n; i++)
        ok = unlink(lists[i]->path) == 0 || errno == ENOENT ||
             err_system(e, errno, "%s: cannot be replaced", lists[i]->path);
    ok = ok && each_picture(a, move, e) && file_sync_dir(a->images, e);
    for (int i = 0; ok && i < n; i++)
        ok = file_out_commit(lists[i], e);
    left = ok ? own_left(&a->own, "images/") : 0;
    if (left)
        tool_say("%s: %zu picture%s of an earlier set %s still there", a->images, left,
                 plural((int64_t)left), left > 1 ? "are" : "is");
    return ok;
}

void aside_close(struct aside *a)
{
    if (a->tmp) file_remove_tree(a->tmp);
    if (a->made) rmdir(a->images); /* where it stayed empty */
    own_close(&a->own);
    free(a->images);
    free(a->tmp);
    memset(a, 0, sizeof *a);
}
