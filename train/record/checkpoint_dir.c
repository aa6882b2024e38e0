/* checkpoint_dir.c - a run's files step-NNNNNNNN.h5: saving, pruning, finding the newest. */
#include "train/record/checkpoint.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The step in "step-00000120.h5" + suffix; -1 for any name that step_path would not produce. */
static int64_t step_of(const char *name, const char *suffix)
{
    char canonical[64];
    long long step;

    if (sscanf(name, "step-%18lld", &step) != 1 || step < 0) return -1;
    snprintf(canonical, sizeof canonical, "step-%08lld.h5%s", step, suffix);
    return strcmp(name, canonical) == 0 ? step : -1;
}

static char *step_path(const char *dir, int64_t step, struct err *e)
{
    return mem_printf(e, "%s/step-%08lld.h5", dir, (long long)step);
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x < y) - (x > y);
}

/* The steps in dir, newest first; the caller frees *steps. Removes files left behind by a killed
 * save. A missing directory has no steps. */
static bool list_steps(const char *dir, int64_t **steps, size_t *n, struct err *e)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    size_t cap = 0;
    bool ok = true;

    *steps = NULL;
    *n = 0;
    if (!d) return errno == ENOENT || err_system(e, errno, "%s", dir);
    while (ok && (errno = 0, entry = readdir(d))) {
        if (step_of(entry->d_name, ".tmp") >= 0 && unlinkat(dirfd(d), entry->d_name, 0) != 0)
            ok = err_system(e, errno, "%s/%s: cannot be deleted", dir, entry->d_name);
        if (step_of(entry->d_name, "") < 0) continue;
        ok = mem_grow(steps, &cap, *n + 1, sizeof **steps, e);
        if (ok) (*steps)[(*n)++] = step_of(entry->d_name, "");
    }
    if (ok && !entry && errno) ok = err_system(e, errno, "%s", dir);
    closedir(d);
    if (*n) qsort(*steps, *n, sizeof **steps, newest_first);
    return ok;
}

/* Only itself: the directories above were there when the training began, and if they are not, they
 * have been renamed meanwhile. */
static bool make_dir(const char *dir, struct err *e)
{
    return mkdir(dir, 0777) == 0 || errno == EEXIST ||
           err_system(e, errno, "%s: cannot be made", dir);
}

bool checkpoint_dir_save(const char *dir, int64_t step, const struct ckpt_item *items, size_t n,
                         const char *meta_json, int keep, struct err *e)
{
    char *path = step_path(dir, step, e);
    int64_t *steps = NULL;
    size_t count = 0, kept = 0;
    bool ok;

    CHECK(step >= 0 && keep >= 1);
    ok = path && make_dir(dir, e) && checkpoint_save(path, items, n, meta_json, e) &&
         list_steps(dir, &steps, &count, e);
    for (size_t i = 0; ok && i < count; i++) {
        char *old;

        if (steps[i] <= step && kept++ < (size_t)keep) continue;
        old = step_path(dir, steps[i], e);
        ok = old && (unlink(old) == 0 || errno == ENOENT ||
                     err_system(e, errno, "%s: the old checkpoint cannot be deleted", old));
        free(old);
    }
    free(steps);
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

bool checkpoint_dir_latest(const char *dir, const struct ckpt_item *items, size_t n,
                           const struct ckpt_check *check, struct ckpt_found *found, struct err *e)
{
    int64_t *steps;
    size_t count;
    bool ok = list_steps(dir, &steps, &count, e);

    *found = (struct ckpt_found){.step = -1};
    for (size_t i = 0; ok && i < count && found->step < 0; i++) {
        char *path = step_path(dir, steps[i], e);
        struct err why = {0};

        if (path && checkpoint_load(path, items, n, &found->meta, &why) &&
            fits(check, path, steps[i], found->meta, &why))
            found->step = steps[i];
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
                     "%s: of %zu checkpoint%s none can be loaded (%s); delete them to start "
                     "this step again",
                     dir, count, plural((int64_t)count), found->warning);
    free(steps);
    if (!ok) ckpt_found_free(found);
    return ok;
}

void ckpt_found_free(struct ckpt_found *f)
{
    free(f->meta);
    free(f->warning);
    *f = (struct ckpt_found){.step = -1};
}
