/* made.c - what the steps have left in the run's directory: what is there, and whether it is whole.
 * Models and rankings appear whole under their names, so that what is not has been damaged since.
 */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"
#include "train/score/scorer.h"
#include "train/made.h"
#include "train/models.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool model_is_there(const struct run *r, const char *dir, bool *there, struct err *e)
{
    char *path = run_path(r, e, "%s/model/config.json", dir);
    bool ok = path && file_there(path, there, e);

    free(path);
    return ok;
}

/* The settings can be read, and the weights' files are as long as their headers say. */
static bool model_whole(const char *dir, struct err *e)
{
    char *config = file_join(dir, "config.json", e);
    struct hf_config cfg = {0};
    struct st_model weights = {0};
    bool there, ok = config && file_there(config, &there, e);

    if (ok && !there) ok = err_set(e, "%s/config.json is missing", dir);
    ok = ok && hf_config_read(&cfg, config, e) && st_model_open(&weights, dir, e);
    st_model_close(&weights);
    hf_config_free(&cfg);
    free(config);
    return ok;
}

/* Of a fault that says nothing about what is in a file. */
static bool is_elsewhere(const struct err *e)
{
    return e->machine || e->number == EACCES || e->number == EPERM || signals_came();
}

bool made_again(const struct run *r, enum step step, const char *what, const char *path,
                struct err *e)
{
    const bool comes = run_has_step(r, step);
    const size_t n = strlen(path);
    const char *why = e->msg, *named = strstr(why, path);
    char *fetch;

    if (is_elsewhere(e)) return false;
    if (named && (named[n] == '/' || named[n] == ':')) /* once is enough */
        why = named + n + 1 + strspn(named + n + 1, " ");
    if ((fetch = strstr(e->msg, ST_COPY_AGAIN))) *fetch = '\0'; /* there is nowhere to */
    if ((fetch = strstr(e->msg, MODEL_FETCH_AGAIN))) *fetch = '\0';
    return err_set(e, "%s: is damaged (%s): delete the %s, and --resume %s%s%smakes it again", path,
                   why, what, comes ? "" : "with \"", comes ? "" : step_names[step],
                   comes ? "" : "\" in run.steps ");
}

/* *unknown counts the files without sums. */
static bool check_model(struct run *r, enum step step, const char *dir, size_t *unknown,
                        struct err *e)
{
    char *path = run_path(r, e, "%s/model", dir), *name = mem_printf(e, "%s/model", dir);
    bool there = false, ok = path && name && file_named(path, &there, e);

    if (ok && there)
        ok = (model_whole(path, e) && outputs_check(r, name, false, e)) ||
             made_again(r, step, "directory", path, e);
    if (ok && there) ok = outputs_add_unknown(r, name, unknown, e);
    free(name);
    free(path);
    return ok;
}

bool made_check(struct run *r, struct err *e)
{
    size_t unknown = 0;
    bool ok = check_model(r, STEP_BASELINE, "baseline", &unknown, e);

    for (int64_t i = 0; ok && i < config_points(&r->c); i++) {
        const struct point p = config_point(&r->c, i);
        /* the report shows all points */
        if (r->only_point >= 0 && i != r->only_point && !run_has_step(r, STEP_REPORT)) continue;
        for (enum step s = STEP_STAGE1; ok && s <= STEP_STAGE2; s++)
            ok = check_model(r, s, p.dir[s], &unknown, e);
    }
    if (ok && unknown)
        log_line("%s/outputs.json has no sum of %zu file%s of the models: taken as %s now",
                 r->c.run.dir, unknown, plural((int64_t)unknown),
                 unknown > 1 ? "they are" : "it is");
    return ok;
}

bool made_open(struct run *r, enum step step, const char *dir, struct model *m, struct err *e)
{
    char *path = run_path(r, e, "%s/model", dir), *name = mem_printf(e, "%s/model", dir);
    bool ok = path && name;

    ok = ok && (outputs_check(r, name, true, e) || made_again(r, step, "directory", path, e)) &&
         model_open(m, path, e);
    if (ok && !model_check_own_finite(m, e)) {
        model_close(m);
        ok = made_again(r, step, "directory", path, e);
    }
    free(name);
    free(path);
    return ok;
}

/* Whether there are as many answers as the scores were made from. */
static bool check_answers(const char *path, int64_t lines, struct err *e)
{
    struct file_map map;
    int64_t n = 0;

    if (!file_map_open(&map, path, e)) return false;
    for (const uint8_t *at = map.data, *end = at + map.size;
         (at = memchr(at, '\n', (size_t)(end - at))); at++)
        n++;
    file_map_close(&map);
    return n == lines || err_set(e, "%s: has %lld answers, %lld were written", path, (long long)n,
                                 (long long)lines);
}

/* Calls `what` for DIR/scores.json and, where there are any, the answers. */
static bool each_score_file(struct run *r, const char *dir,
                            bool (*what)(struct run *r, const char *name, struct err *e),
                            struct err *e)
{
    static const char *const files[] = {"scores.json", "answers.jsonl"};
    bool ok = true;

    for (int i = 0; ok && i < 2; i++) {
        char *name = mem_printf(e, "%s/%s", dir, files[i]);
        ok = name && what(r, name, e);
        free(name);
    }
    return ok;
}

static bool same(struct run *r, const char *name, struct err *e)
{
    return outputs_check(r, name, true, e);
}

/* Unless it is known: of an older version's run, or one that was killed just then. */
static bool add_unknown(struct run *r, const char *name, struct err *e)
{
    size_t n = 0;

    return outputs_add_unknown(r, name, &n, e);
}

static bool forget(struct run *r, const char *name, struct err *e)
{
    return outputs_forget(r, name, e);
}

bool made_scores_sums(struct run *r, const char *dir, struct err *e)
{
    return each_score_file(r, dir, add_unknown, e);
}

bool made_scores(struct run *r, const char *dir, bool *whole, struct err *e)
{
    char *file = run_path(r, e, "%s/scores.json", dir);
    char *answers = run_path(r, e, "%s/answers.jsonl", dir);
    struct scores s = {0};
    struct err why = {0};
    bool ok = file && answers && file_there(file, whole, e);

    if (ok && *whole) {
        *whole = scores_load(&s, file, &why) && check_answers(answers, scores_lines(&s), &why) &&
                 each_score_file(r, dir, same, &why);
        if (!*whole && is_elsewhere(&why))
            ok = (*e = why, false);
        else if (!*whole)
            log_line("%s: the model is scored again", why.msg);
    }
    if (ok) ok = each_score_file(r, dir, *whole ? add_unknown : forget, e);
    scores_free(&s);
    free(file);
    free(answers);
    return ok;
}
