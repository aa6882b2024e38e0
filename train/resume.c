/* resume.c - see resume.h. */
#include "train/recipes.h"
#include "train/resume.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json/jsonc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "convert/rank.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Another number of processes rounds differently anyway, and finds other cores. */
static void accept_processes(struct run *r)
{
    const int64_t was = r->was.cluster.processes ? r->was.cluster.processes : 1;

    if (was == r->c.cluster.processes) return;
    log_line("%s: processes: %lld now, %lld before: sums are rounded differently", r->c.run.dir,
             (long long)r->c.cluster.processes, (long long)was);
    r->was.run.threads = r->c.run.threads;
}

bool resume_check_config(struct run *r, const char *path, struct err *e)
{
    char *diff;
    bool ok;

    if (!schema_load(&config_schema, &r->was, path, NULL, 0, e))
        return !e->machine && err_set(e,
                                      "%s: these are the settings that the run began with: put "
                                      "them back, or choose another run.dir",
                                      e->msg);
    accept_processes(r);
    diff = schema_dump_diff(&config_schema, &r->was, &r->c, true, e);
    ok = diff && (!diff[0] || err_set(e,
                                      "%s: cannot be resumed with other settings: %s: put them "
                                      "back, or choose another run.dir",
                                      r->c.run.dir, diff));
    free(diff);
    return ok;
}

/* ---- the sums ---- */

static const char no_file[] = "none";

static bool add(cJSON *all, const char *key, const char *sum, struct err *e)
{
    return cJSON_AddStringToObject(all, key, sum) || err_set(e, "out of memory for inputs.json");
}

/* The sum of dir/name under the key "WHAT/NAME". */
static bool add_file(cJSON *all, const char *what, const char *dir, const char *name, struct err *e)
{
    char key[128], hex[65], *path = file_join(dir, name, e);
    bool there = false, ok = path && file_there(path, &there, e);

    snprintf(key, sizeof key, "%s/%s", what, name);
    ok = ok && (!there || sha256_path(path, signals_go_on, hex, e)) &&
         add(all, key, there ? hex : no_file, e);
    free(path);
    return ok;
}

static bool add_side_files(cJSON *all, const char *what, const char *dir, struct err *e)
{
    for (const char *const *name = model_side_files; *name; name++)
        if (!add_file(all, what, dir, *name, e)) return false;
    return true;
}

/* Files of gigabytes, which have been read for their sums just now. */
static bool add_weights(cJSON *all, const char *what, const struct st_model *weights, struct err *e)
{
    char key[400], hex[17];

    for (size_t i = 0; i < weights->file_count; i++) {
        const char *path = weights->files[i].path, *slash = strrchr(path, '/');
        snprintf(key, sizeof key, "%s/%s", what, slash ? slash + 1 : path);
        if (!watch_sum(path, hex, e) || !add(all, key, hex, e)) return false;
    }
    return true;
}

/* Weights, settings and the files beside them; those of the directory that it builds on too, some
 * of which stand in for its own. */
static bool add_given(cJSON *all, const struct model *m, struct err *e)
{
    static const char base[] = "mha2mla.base of model.path";

    return add_weights(all, "model.path", &m->files, e) &&
           add_file(all, "model.path", m->dir, "config.json", e) &&
           add_side_files(all, "model.path", m->dir, e) &&
           (!m->base_dir ||
            (add_weights(all, base, &m->base, e) && add_side_files(all, base, m->base_dir, e)));
}

static bool add_rank_file(cJSON *all, const struct run *r, struct err *e)
{
    char hex[65];
    bool read = false;

    for (int64_t k = 0; k < recipes_count(&r->c); k++)
        read = read || recipes_config(&r->c, k)->rank.strategy == RANK_FILE;
    if (!read || !r->c.rank.file) return true;
    return sha256_path(r->c.rank.file, signals_go_on, hex, e) && add(all, "rank.file", hex, e);
}

/* The settings name the data, the model and more; this is what was in them. */
static cJSON *input_sums(const struct run *r, const struct model *given, struct err *e)
{
    cJSON *all = cJSON_CreateObject();
    char key[40];
    bool ok = add(all, "data.train", r->train.hash, e);

    for (int64_t i = 0; ok && i < r->n_eval; i++) {
        snprintf(key, sizeof key, "data.eval[%lld]", (long long)i);
        ok = add(all, key, r->eval[i].data.hash, e);
    }
    ok = ok && (!given || add_given(all, given, e)) &&
         (!r->c.model.tokenizer ||
          add_side_files(all, "model.tokenizer", r->c.model.tokenizer, e)) &&
         add_rank_file(all, r, e);
    if (ok) return all;
    cJSON_Delete(all);
    return NULL;
}

/* ---- the comparison ---- */

/* A setting that names a place, as it was and as it is now. */
struct place {
    const char *key, *was, *now;
};

static bool has_moved(const struct place *p)
{
    return p->was && p->now && strcmp(p->was, p->now) != 0;
}

/* Of something whose sum is not known, another place could be another thing. */
static bool check_unknown(const struct run *r, const char *key, struct err *e)
{
    const struct place places[] = {
        {"model.path", r->was.model.path, r->c.model.path},
        {"model.tokenizer", r->was.model.tokenizer, r->c.model.tokenizer},
        {"rank.file", r->was.rank.file, r->c.rank.file}};

    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (strncmp(key, places[i].key, strlen(places[i].key)) == 0 && has_moved(&places[i]))
            return err_set(e,
                           "%s: %s was %s and is %s now, but an older version began this run, and "
                           "kept no sum of what was there: give it as it was, or choose another "
                           "run.dir",
                           r->c.run.dir, places[i].key, places[i].was, places[i].now);
    return true;
}

static bool compare(const struct run *r, const cJSON *now, const char *was, struct err *e)
{
    const char *how = "has changed since this run began: put it back";

    if (strcmp(was, now->valuestring) == 0) return true;
    if (strcmp(now->valuestring, no_file) == 0)
        how = "is gone, and was there when this run began: put it back";
    if (strcmp(was, no_file) == 0) how = "is there, and was not when this run began: take it away";
    return err_set(e, "%s: %s %s, or choose another run.dir", r->c.run.dir, now->string, how);
}

/* Weights under names that are not used any more: of more shards, or in another format. */
static bool check_gone(const struct run *r, const cJSON *was, const cJSON *now, struct err *e)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, was)
    {
        if (strchr(item->string, '/') && !cJSON_GetObjectItemCaseSensitive(now, item->string))
            return err_set(e,
                           "%s: %s was used when this run began, and is not now: put it back, "
                           "or choose another run.dir",
                           r->c.run.dir, item->string);
    }
    return true;
}

/* What the steps left already would not go with other data or another model. */
static bool check_all(const struct run *r, const cJSON *was, const cJSON *now, struct err *e)
{
    const cJSON *item;
    const char *unknown = NULL;
    int n = 0;

    if (!check_gone(r, was, now, e)) return false;
    cJSON_ArrayForEach(item, now)
    {
        const char *old = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(was, item->string));
        if (old && !compare(r, item, old, e)) return false;
        if (old) continue;
        if (!check_unknown(r, item->string, e)) return false;
        if (n++ == 0) unknown = item->string;
    }
    if (n)
        log_line("%s/inputs.json has no sum of some inputs (%d, the first: %s): they are taken as "
                 "they are now",
                 r->c.run.dir, n, unknown);
    return true;
}

static bool check_file(const struct run *r, const char *path, const cJSON *now, struct err *e)
{
    struct jsonc was;
    bool ok;

    if (!jsonc_read(&was, path, (size_t)1 << 20, e))
        return !e->machine && err_set(e,
                                      "%s: has the sums of what this run was given: put it back, "
                                      "or delete it to take all as it is now",
                                      e->msg);
    ok = check_all(r, was.root, now, e);
    jsonc_close(&was);
    return ok;
}

char *resume_check_inputs(const struct run *r, const struct model *given, const char *path,
                          struct err *e)
{
    cJSON *now = input_sums(r, given, e);
    bool there = false, ok = now && (!r->resumed || file_there(path, &there, e));
    char *text = NULL;

    if (ok && there)
        ok = check_file(r, path, now, e);
    else if (ok && r->resumed)
        ok = check_all(r, NULL, now, e);
    if (ok) text = jsonc_print(now, true, e);
    cJSON_Delete(now);
    return text;
}

/* ---- what has moved ---- */

static bool move_base(struct run *r, const char *dir, const struct place *places, size_t n,
                      struct err *e)
{
    char *path = run_path(r, e, "%s/model", dir);
    char *config = path ? file_join(path, "config.json", e) : NULL;
    char *name = mem_printf(e, "%s/model/config.json", dir);
    bool there = false, changed = false, ok = config && name && file_there(config, &there, e);

    for (size_t i = 0; ok && there && i < n; i++) {
        if (!has_moved(&places[i])) continue;
        ok = outputs_forget(r, name, e) &&
             model_move_base(path, places[i].was, places[i].now, &changed, e) &&
             outputs_add(r, name, config, e);
        if (ok && changed) log_line("%s: builds on %s now", path, places[i].now);
        if (changed) break;
    }
    free(path);
    free(config);
    free(name);
    return ok;
}

bool resume_move_bases(struct run *r, struct err *e)
{
    static const char made[] = "baseline/model";
    char *was = r->was.run.dir ? file_join(r->was.run.dir, made, e) : NULL;
    char *now = run_path(r, e, made);
    const struct place places[] = {{"run.dir", was, now},
                                   {"model.path", r->was.model.path, r->c.model.path}};
    bool ok = now && (was || !r->was.run.dir);

    for (int64_t i = 0; ok && i < config_points(&r->c); i++) {
        const struct point p = config_point(&r->c, i);
        ok = move_base(r, p.dir[STEP_STAGE1], places, 2, e) &&
             move_base(r, p.dir[STEP_SVD], places, 2, e);
    }
    free(was);
    free(now);
    return ok;
}
