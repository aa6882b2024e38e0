/* checkpoint_dir.c - a run's checkpoints step-NNNNNNNN.h5, or step-NNNNNNNN/ of several
 * processes: saving, pruning, finding the newest. */
#include "train/record/checkpoint.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"
#include "cluster/cluster.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A checkpoint: a file, or a directory with one of each process. */
struct saved {
    int64_t step;
    bool parts;
};
static const char *const endings[] = {".h5", ""}; /* by `parts` */

/* What a name with that suffix is of, if saved_path would produce it without. */
static bool saved_of(const char *name, const char *suffix, struct saved *s)
{
    char canonical[64];
    long long step;

    if (sscanf(name, "step-%18lld", &step) != 1 || step < 0) return false;
    for (int parts = 0; parts < 2; parts++) {
        *s = (struct saved){step, parts};
        snprintf(canonical, sizeof canonical, "step-%08lld%s%s", step, endings[parts], suffix);
        if (strcmp(name, canonical) == 0) return true;
    }
    return false;
}

static char *saved_path(const char *dir, const struct saved *s, struct err *e)
{
    return mem_printf(e, "%s/step-%08lld%s", dir, (long long)s->step, endings[s->parts]);
}

static bool remove_saved(const char *path, struct err *e)
{
    if (unlink(path) == 0 || errno == ENOENT) return true;
    if (errno != EISDIR && errno != EPERM)
        return err_system(e, errno, "%s: cannot be deleted", path);
    file_remove_tree(path);
    return access(path, F_OK) != 0 || err_set(e, "%s: cannot be deleted", path);
}

static int newest_first(const void *a, const void *b)
{
    const struct saved *x = a, *y = b;

    if (x->step != y->step) return x->step < y->step ? 1 : -1;
    return x->parts - y->parts;
}

/* What is saved in dir, newest first; the caller frees *all. Removes what was left behind by a
 * killed save. A missing directory has nothing. */
static bool list_saved(const char *dir, struct saved **all, size_t *n, struct err *e)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    size_t cap = 0;
    bool ok = true;

    *all = NULL;
    *n = 0;
    if (!d) return errno == ENOENT || err_system(e, errno, "%s", dir);
    while (ok && (errno = 0, entry = readdir(d))) {
        struct saved s;
        if (saved_of(entry->d_name, ".tmp", &s)) {
            char *path = mem_printf(e, "%s/%s", dir, entry->d_name);
            ok = path && remove_saved(path, e);
            free(path);
        } else if (saved_of(entry->d_name, "", &s)) {
            ok = mem_grow(all, &cap, *n + 1, sizeof **all, e);
            if (ok) (*all)[(*n)++] = s;
        }
    }
    if (ok && !entry && errno) ok = err_system(e, errno, "%s", dir);
    closedir(d);
    if (*n) qsort(*all, *n, sizeof **all, newest_first);
    return ok;
}

/* Only itself: the directories above were there when the training began, and if they are not, they
 * have been renamed meanwhile. */
static bool make_dir(const char *dir, struct err *e)
{
    return mkdir(dir, 0777) == 0 || errno == EEXIST ||
           err_system(e, errno, "%s: cannot be made", dir);
}

/* Deletes all but the one just saved and the newest before it, `keep` together. */
static bool prune(const char *dir, const struct saved *now, int keep, struct err *e)
{
    struct saved *all = NULL;
    size_t n = 0, kept = 0;
    bool ok = list_saved(dir, &all, &n, e);

    for (size_t i = 0; ok && i < n; i++) {
        const bool twin = all[i].step == now->step && all[i].parts != now->parts;
        char *old;

        if (all[i].step <= now->step && !twin && kept++ < (size_t)keep) continue;
        old = saved_path(dir, &all[i], e);
        ok = old && remove_saved(old, e);
        free(old);
    }
    free(all);
    return ok;
}

static char *part_path(const char *dir, int part, int parts, struct err *e)
{
    return mem_printf(e, "%s/part-%d-of-%d.h5", dir, part, parts);
}

/* An empty directory `tmp`. */
static bool make_tmp(const char *tmp, struct err *e)
{
    return remove_saved(tmp, e) && make_dir(tmp, e);
}

/* Under its name `path` all parts appear at once. One that is there is of an abandoned attempt. */
static bool publish(const char *tmp, const char *path, struct err *e)
{
    return remove_saved(path, e) && file_publish(tmp, path, e);
}

/* The parts of all processes. */
static bool save_parts(const char *path, const struct ckpt_list *l, const char *meta, struct err *e)
{
    char *tmp = mem_printf(e, "%s.tmp", path);
    char *part = tmp ? part_path(tmp, cluster_rank(), cluster_size(), e) : NULL;
    bool ok = cluster_agree(part && (!cluster_first() || make_tmp(tmp, e)), e) &&
              cluster_agree(checkpoint_save(part, l->items, l->n, meta, e), e) &&
              cluster_agree(!cluster_first() || publish(tmp, path, e), e);

    if (!ok && tmp && cluster_first()) file_remove_tree(tmp);
    free(part);
    free(tmp);
    return ok;
}

bool checkpoint_dir_save(const char *dir, int64_t step, const struct ckpt_item *items, size_t n,
                         const char *meta_json, int keep, struct err *e)
{
    const struct saved now = {step, cluster_size() > 1};
    const struct ckpt_list l = {(struct ckpt_item *)items, n, NULL};
    char *path = saved_path(dir, &now, e);
    bool ok;

    CHECK(step >= 0 && keep >= 1);
    ok = cluster_agree(path && (!cluster_first() || make_dir(dir, e)), e) &&
         (now.parts ? save_parts(path, &l, meta_json, e)
                    : checkpoint_save(path, items, n, meta_json, e)) &&
         cluster_agree(!cluster_first() || prune(dir, &now, keep, e), e);
    free(path);
    return ok;
}

/* Appends "; TEXT" to *warning. */
static bool warn(char **warning, const char *text, struct err *e)
{
    char *longer = *warning ? mem_printf(e, "%s; %s", *warning, text) : mem_printf(e, "%s", text);

    if (!longer) return false;
    free(*warning);
    *warning = longer;
    return true;
}

static bool fits(const struct ckpt_check *check, const char *path, int64_t step, const char *meta,
                 struct err *e)
{
    return !check || check->fits(check->arg, step, meta, e) || err_context(e, "%s", path);
}

static bool load_file(const char *path, int64_t step, const struct ckpt_list *l,
                      const struct ckpt_check *check, char **meta, struct err *e)
{
    return checkpoint_load(path, l->items, l->n, meta, e) && fits(check, path, step, *meta, e);
}

/* How many processes saved what is in a directory, by the names in it. */
static bool count_parts(const char *dir, int *parts, struct err *e)
{
    DIR *d = opendir(dir);
    const struct dirent *f;
    int part;

    *parts = 0;
    if (!d) return err_system(e, errno, "%s", dir);
    while (*parts <= 0 && (f = readdir(d)))
        if (sscanf(f->d_name, "part-%9d-of-%9d.h5", &part, parts) != 2) *parts = 0;
    closedir(d);
    return *parts > 0 || err_set(e, "%s: holds no part of a checkpoint", dir);
}

/* *meta is that of the first part. */
static bool load_parts(const char *dir, int64_t step, const struct ckpt_check *check, char **meta,
                       struct err *e)
{
    int parts;
    bool ok = count_parts(dir, &parts, e);

    for (int i = 0; ok && i < parts; i++) {
        struct ckpt_list l = {0};
        char *path = part_path(dir, i, parts, e), *more = NULL;

        ok = path && check->list(check->arg, i, parts, &l, e) &&
             load_file(path, step, &l, check, i ? &more : meta, e);
        ckpt_list_free(&l);
        free(more);
        free(path);
    }
    return ok;
}

bool checkpoint_dir_latest(const char *dir, const struct ckpt_item *items, size_t n,
                           const struct ckpt_check *check, struct ckpt_found *found, struct err *e)
{
    const struct ckpt_list single = {(struct ckpt_item *)items, n, NULL};
    struct saved *all;
    size_t count;
    bool ok = list_saved(dir, &all, &count, e);

    *found = (struct ckpt_found){.step = -1};
    for (size_t i = 0; ok && i < count && found->step < 0; i++) {
        char *path = saved_path(dir, &all[i], e);
        struct err why = {0};

        if (path && (all[i].parts && check
                         ? load_parts(path, all[i].step, check, &found->meta, &why)
                         : load_file(path, all[i].step, &single, check, &found->meta, &why)))
            found->step = all[i].step;
        else if (why.machine) /* the file need not be damaged; nor after a signal */
            ok = (*e = why, false);
        else
            ok = path && signals_go_on(e) && warn(&found->warning, why.msg, e);
        if (found->step < 0) {
            free(found->meta);
            found->meta = NULL;
        }
        free(path);
    }
    if (ok && count && found->step < 0)
        ok = err_set(e,
                     "%s: of %zu checkpoint%s none can be loaded (%s); delete what is in that "
                     "directory to start this step again",
                     dir, count, plural((int64_t)count), found->warning);
    free(all);
    if (!ok) ckpt_found_free(found);
    return ok;
}

void ckpt_found_free(struct ckpt_found *f)
{
    free(f->meta);
    free(f->warning);
    *f = (struct ckpt_found){.step = -1};
}
