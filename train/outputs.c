/* outputs.c - see outputs.h. The file is an object: {"NAME": "SUM SIZE SECONDS.NANOSECONDS"}. */
#include "train/outputs.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/signals.h"
#include "cluster/cluster.h"
#include "train/run.h"
#include "train/share.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char file_name[] = "outputs.json";

/* ---- the list ---- */

/* Whether an entry is `name`, or a file below it. */
static bool belongs(const struct output *o, const char *name)
{
    const size_t n = strlen(name);

    return strncmp(o->name, name, n) == 0 && (!o->name[n] || o->name[n] == '/');
}

static bool known(const struct run *r, const char *name)
{
    for (size_t i = 0; i < r->outputs.n; i++)
        if (belongs(&r->outputs.list[i], name)) return true;
    return false;
}

static struct output *add(struct outputs *all, const char *name, struct err *e)
{
    struct output one = {.name = mem_strdup(name, e)};

    if (!one.name || !mem_grow(&all->list, &all->cap, all->n + 1, sizeof one, e)) {
        free(one.name);
        return NULL;
    }
    all->list[all->n] = one;
    return &all->list[all->n++];
}

static void drop(struct outputs *all, const char *name)
{
    size_t kept = 0;

    for (size_t i = 0; i < all->n; i++)
        if (belongs(&all->list[i], name))
            free(all->list[i].name);
        else
            all->list[kept++] = all->list[i];
    all->n = kept;
}

void outputs_close(struct run *r)
{
    for (size_t i = 0; i < r->outputs.n; i++)
        free(r->outputs.list[i].name);
    free(r->outputs.list);
    r->outputs = (struct outputs){0};
}

/* ---- the file ---- */

/* What is known already, from another file, has been made again since. */
static bool take(struct run *r, const cJSON *item, const char *path, struct err *e)
{
    const char *text = cJSON_GetStringValue(item);
    struct output *o;
    int end = 0;

    drop(&r->outputs, item->string);
    if (!(o = add(&r->outputs, item->string, e))) return false;
    return (text &&
            sscanf(text, "%16[0-9a-f] %lld %lld.%9ld%n", o->sum, &o->size, &o->sec, &o->nsec,
                   &end) == 4 &&
            strlen(o->sum) == 16 && !text[end]) ||
           err_set(e, "%s: \"%s\" is not a sum, a size and a time", path, item->string);
}

static bool read_path(struct run *r, const char *path, struct err *e)
{
    const cJSON *item;
    struct jsonc doc;
    bool ok = jsonc_read(&doc, path, (size_t)16 << 20, e);

    if (ok) {
        cJSON_ArrayForEach(item, doc.root)
        {
            ok = ok && take(r, item, path, e);
        }
        jsonc_close(&doc);
    }
    return ok || (!e->machine && err_set(e,
                                         "%s: has the sums of what the steps have left: put it "
                                         "back, or delete it to take all as it is now",
                                         e->msg));
}

static bool read_file(struct run *r, const char *own, struct err *e)
{
    char *path = run_path(r, e, "%s%s", own, file_name);
    bool there = false, ok = path && (!cluster_first() || file_there(path, &there, e));

    if (ok && there) ok = read_path(r, path, e);
    free(path);
    return ok;
}

bool outputs_open(struct run *r, struct err *e)
{
    bool ok = read_file(r, "", e);

    for (int64_t i = 0; ok && i < config_points(&r->c); i++) {
        char own[sizeof r->own];
        if (r->shares && i != r->only_point) continue; /* they change while this one runs */
        ok = read_file(r, share_own(own, &r->c, i), e);
    }
    return ok;
}

static bool put(cJSON *root, const struct output *o)
{
    char text[100];

    snprintf(text, sizeof text, "%s %lld %lld.%09ld", o->sum, o->size, o->sec, o->nsec);
    return cJSON_AddStringToObject(root, o->name, text);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct output *)a)->name, ((const struct output *)b)->name);
}

/* In an order that does not depend on a directory's. A run that shares its directory knows the sums
 * of what all points share too, and leaves them where they are. */
static bool save(const struct run *r, struct err *e)
{
    char *path = run_path(r, e, "%s%s", r->own, file_name), *text = NULL;
    cJSON *root = cJSON_CreateObject();
    bool ok = path && (root || err_set(e, "out of memory for %s", file_name));

    if (r->outputs.n) qsort(r->outputs.list, r->outputs.n, sizeof *r->outputs.list, by_name);

    for (size_t i = 0; ok && i < r->outputs.n; i++)
        ok = strncmp(r->outputs.list[i].name, r->own, strlen(r->own)) != 0 ||
             put(root, &r->outputs.list[i]) || err_set(e, "out of memory for %s", file_name);
    if (ok) text = jsonc_print(root, true, e);
    ok = text && file_write(path, text, strlen(text), e);
    cJSON_Delete(root);
    free(text);
    free(path);
    return ok;
}

bool outputs_save(const struct run *r, struct err *e)
{
    return save(r, e);
}

/* ---- comparing and recording ---- */

static bool same_time(const struct output *o, const struct stat *st)
{
    return o->sec == st->st_mtim.tv_sec && o->nsec == st->st_mtim.tv_nsec;
}

static bool check(const struct run *r, struct output *o, bool all, struct err *e)
{
    char *path = run_path(r, e, "%s", o->name), sum[17];
    struct stat st;
    bool ok = path && (stat(path, &st) == 0 || err_system(e, errno, "%s", path));

    if (ok && st.st_size != o->size)
        ok = err_set(e, "%s: had %lld bytes when it was written, and has %lld now", path, o->size,
                     (long long)st.st_size);
    if (ok && (all ? !o->verified || !same_time(o, &st) : !same_time(o, &st))) {
        ok = sum64_path(path, signals_go_on, sum, e) &&
             (strcmp(sum, o->sum) == 0 ||
              err_set(e, "%s: has other contents than when it was written", path));
        if (ok) {
            o->verified = true;
            o->sec = st.st_mtim.tv_sec;
            o->nsec = st.st_mtim.tv_nsec;
        }
    }
    free(path);
    return ok;
}

bool outputs_check(const struct run *r, const char *name, bool all, struct err *e)
{
    for (size_t i = 0; i < r->outputs.n; i++)
        if (belongs(&r->outputs.list[i], name) && !check(r, &r->outputs.list[i], all, e))
            return false;
    return true;
}

static bool record_file(struct run *r, const char *name, const char *path, const struct stat *st,
                        struct err *e)
{
    struct output *o;

    if (known(r, name)) return true;
    if (!(o = add(&r->outputs, name, e))) return false;
    o->size = st->st_size;
    o->sec = st->st_mtim.tv_sec;
    o->nsec = st->st_mtim.tv_nsec;
    o->verified = true;
    return r->dry || sum64_path(path, signals_go_on, o->sum, e);
}

static bool record(struct run *r, const char *name, const char *path, struct err *e);

static bool record_dir(struct run *r, const char *name, const char *path, struct err *e)
{
    DIR *d = opendir(path);
    const struct dirent *f;
    bool ok = d || err_system(e, errno, "%s", path);

    while (ok && (errno = 0, f = readdir(d))) {
        char *file, *as;
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0) continue;
        file = file_join(path, f->d_name, e);
        as = file ? file_join(name, f->d_name, e) : NULL;
        ok = as && record(r, as, file, e);
        free(file);
        free(as);
    }
    if (ok && errno) ok = err_system(e, errno, "%s", path);
    if (d) closedir(d);
    return ok;
}

static bool record(struct run *r, const char *name, const char *path, struct err *e)
{
    struct stat st;

    if (stat(path, &st) != 0) return err_system(e, errno, "%s", path);
    if (S_ISDIR(st.st_mode)) return record_dir(r, name, path, e);
    return !S_ISREG(st.st_mode) || record_file(r, name, path, &st, e);
}

bool outputs_add(struct run *r, const char *name, const char *path, struct err *e)
{
    if (!cluster_first()) return true;
    drop(&r->outputs, name);
    return record(r, name, path, e) && save(r, e);
}

bool outputs_add_unknown(struct run *r, const char *name, size_t *n, struct err *e)
{
    const size_t before = r->outputs.n;
    char *path;
    bool ok;

    if (!cluster_first()) return true;
    path = run_path(r, e, "%s", name);
    ok = path && record(r, name, path, e);
    free(path);
    *n += r->outputs.n - before;
    return ok && (r->dry || r->outputs.n == before || save(r, e));
}

bool outputs_forget(struct run *r, const char *name, struct err *e)
{
    if (!known(r, name)) return true;
    drop(&r->outputs, name);
    return save(r, e);
}
