/* rundir.c - see rundir.h. */
#include "train/rundir.h"
#include "base/file.h"
#include "base/json/jsonc.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a run writes before config.json makes it one, and what people put beside it: the settings,
 * and what a shell, tee or a batch system keeps of the output. */
static const char *const harmless[] = {
    ".*",    "lost+found", "lock",  "left_out.txt", "metrics.jsonl", "slurm",
    "*.tmp", "*.json",     "*.log", "*.out",        "*.err"};

static bool is_harmless(const char *name)
{
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (fnmatch(harmless[i], name, 0) == 0) return true;
    return false;
}

/* Where data.cache is in run.dir, a run that is refused for its pictures leaves it. */
static bool is_cache(const struct run *r, int dir, const char *name)
{
    struct stat entry, cache;

    return fstatat(dir, name, &entry, 0) == 0 && stat(r->c.data.cache, &cache) == 0 &&
           entry.st_dev == cache.st_dev && entry.st_ino == cache.st_ino;
}

/* A directory without config.json. */
static bool check_empty(const struct run *r, struct err *e)
{
    const char *dir = r->c.run.dir;
    DIR *d = opendir(dir);
    const struct dirent *entry;
    bool ok = true;

    if (!d) return errno == ENOENT || errno == ENOTDIR || err_system(e, errno, "%s", dir);
    while (ok && (errno = 0, entry = readdir(d)))
        ok = is_harmless(entry->d_name) || is_cache(r, dirfd(d), entry->d_name) ||
             err_set(e,
                     "%s: is not empty and holds no run (\"%s\" is there): choose another run.dir",
                     dir, entry->d_name);
    if (ok && errno) ok = err_system(e, errno, "%s", dir);
    closedir(d);
    return ok;
}

/* Of a run that has got as far as its config.json, the first of what it made before. */
static bool has_begun(const struct run *r, bool *begun, struct err *e)
{
    static const char *const before[] = {"lock", "train.log", "metrics.jsonl", "inputs.json"};
    bool ok = true;

    *begun = false;
    for (size_t i = 0; ok && !*begun && i < sizeof before / sizeof *before; i++) {
        char *path = run_path(r, e, "%s", before[i]);
        ok = path && file_there(path, begun, e);
        free(path);
    }
    return ok;
}

/* Settings that somebody keeps there would be taken for a run's, and written over. */
static bool check_begun(const struct run *r, const char *path, struct err *e)
{
    bool begun;

    return has_begun(r, &begun, e) &&
           (begun || err_set(e,
                             "%s: holds settings, but there is no run, which would write its own "
                             "over them: give the file another name, or choose another run.dir",
                             path));
}

/* A config.json that can be read, and is not a run's. Of one that cannot, --resume will say so. */
static bool check_config(const struct run *r, const char *path, struct err *e)
{
    const char *dir = r->c.run.dir;
    const cJSON *type;
    struct jsonc doc;
    struct err unread;
    bool ok;

    if (!jsonc_read(&doc, path, (size_t)1 << 20, &unread))
        return !unread.machine || (*e = unread, false);
    type = cJSON_GetObjectItemCaseSensitive(doc.root, "model_type");
    ok = cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(doc.root, "run"));
    if (!ok && cJSON_IsString(type))
        err_set(e, "%s: holds a model (%s: model_type \"%s\") and no run: choose another run.dir",
                dir, path, type->valuestring);
    else if (!ok)
        err_set(e, "%s: holds no run, and %s is of something else: choose another run.dir", dir,
                path);
    jsonc_close(&doc);
    return ok && check_begun(r, path, e);
}

bool rundir_own_config(const char *path, bool *own, struct err *e)
{
    static const struct jsonc_rules rules = {.plain = true};
    struct err unread;
    struct jsonc doc;

    *own = jsonc_read_as(&doc, path, (size_t)1 << 20, &rules, &unread);
    if (*own) jsonc_close(&doc);
    return *own || !unread.machine || (*e = unread, false);
}

bool rundir_check(const struct run *r, struct err *e)
{
    static const char *const names[] = {"config.json",   "inputs.json",  "lock",
                                        "metrics.jsonl", "outputs.json", "pictures.sha256",
                                        "train.log"};
    char *config = run_path(r, e, "config.json");
    bool there = false, ok = config && file_there(config, &there, e);

    for (size_t i = 0; ok && i < sizeof names / sizeof *names; i++) {
        char *path = run_path(r, e, "%s", names[i]);
        ok = path && file_regular(path, e);
        free(path);
    }
    ok = ok && (there ? check_config(r, config, e) : check_empty(r, e));
    free(config);
    return ok;
}
