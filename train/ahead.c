/* ahead.c - see ahead.h. */
#include "train/ahead.h"
#include "train/caches.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "convert/mdsvd.h"
#include "convert/rank.h"
#include "train/layerwise.h"
#include "train/ranking.h"
#include "train/recipes.h"
#include "train/settings.h"
#include "train/splits.h"
#include "train/teacher.h"
#include "train/teacher_store.h"
#include "train/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- directories ---- */

/* Whether a directory is there or can be made; `written`: and files in it. */
static bool check_dir(const char *key, const char *dir, bool written, struct err *e)
{
    bool there = false;

    return (file_can_mkdirs(dir, e) &&
            (!written || (file_there(dir, &there, e) && (!there || file_can_write(dir, e))))) ||
           err_context(e, "%s", key);
}

/* ---- what steps start from ---- */

static bool is_made(const struct run *r, const char *dir, const char *step, bool *made,
                    struct err *e)
{
    char path[160];

    snprintf(path, sizeof path, "%s/%s", dir, step);
    return model_is_there(r, path, made, e);
}

/* The pairs are ranked, or need no ranking. */
static bool is_ranked(const struct run *r, bool *ranked, struct err *e)
{
    char *path;

    *ranked = run_has_step(r, STEP_RANK) || !rank_is_measured(&r->c);
    if (*ranked) return true;
    path = run_path(r, e, "%s", ranks_path(&r->c));
    bool ok = path && file_there(path, ranked, e);
    free(path);
    return ok;
}

static bool lacks(const struct run *r, const char *what, const char *dir, const char *starts,
                  enum step add, struct err *e)
{
    return err_set(e, "%s/%s%s%s: missing, and %s starts from it: add \"%s\" to run.steps",
                   r->c.run.dir, dir, *dir ? "/" : "", what, starts, step_names[add]);
}

/* With the settings of its recipe. */
static bool check_point(const struct run *r, const struct point *p, struct err *e)
{
    bool ranked, stage1, svd, stage2;

    if (!is_ranked(r, &ranked, e)) return false;
    if (!is_made(r, p->stage1, "stage1", &stage1, e) || !is_made(r, p->name, "svd", &svd, e) ||
        !is_made(r, p->name, "stage2", &stage2, e))
        return false;
    if (!stage1 && !ranked && run_has_step(r, STEP_STAGE1))
        return lacks(r, ranks_path(&r->c), "", "stage 1", STEP_RANK, e);
    if (!stage1 && !svd && !ranked && run_has_step(r, STEP_SVD))
        return lacks(r, ranks_path(&r->c), "", "svd", STEP_RANK, e);
    if (!stage2 && !svd && run_has_step(r, STEP_STAGE2) && !run_has_step(r, STEP_SVD))
        return lacks(r, "svd/model", p->name, "stage 2", STEP_SVD, e);
    return true;
}

static bool is_wanted(const struct run *r, int64_t point)
{
    return r->only_point < 0 || r->only_point == point;
}

static bool check_steps(struct run *r, struct err *e)
{
    bool ok = true;

    for (int64_t i = 0; ok && i < config_points(&r->c); i++) {
        struct point p = config_point(&r->c, i);
        if (!is_wanted(r, i)) continue;
        recipes_take(&r->c, p.recipe);
        ok = check_point(r, &p, e);
    }
    recipes_take(&r->c, -1);
    return ok;
}

/* Of a run that is yet to be there would be nothing to report. The dry run says that one is. */
static bool check_run(const struct run *r, struct err *e)
{
    bool alone = r->c.run.steps.n == 1 && run_has_step(r, STEP_REPORT), there = false, ok;
    char *config = run_path(r, e, "config.json");

    ok = config && file_there(config, &there, e);
    if (ok && !there && alone)
        ok = err_set(e, "%s: holds no run to report on: add the steps that make one to run.steps",
                     r->c.run.dir);
    if (ok && there && r->dry)
        log_line("%s: holds a run already, with which --resume goes on", r->c.run.dir);
    free(config);
    return ok;
}

bool ahead_of_run(const struct run *r, struct err *e)
{
    int64_t points = config_points(&r->c);

    if (r->only_point >= points)
        return err_set(e, "--point %lld: the sweep has the points 0..%lld",
                       (long long)r->only_point, (long long)points - 1);
    if (!r->c.data.eval.n && run_has_step(r, STEP_EVALUATE))
        return err_set(e, "evaluate: data.eval has no samples: add some, or take \"evaluate\" out "
                          "of run.steps");
    return check_dir("run.dir", r->c.run.dir, true, e) && check_run(r, e);
}

/* The cache beside a model's files would be taken for a part of it. */
static bool check_cache(const struct run *r, struct err *e)
{
    if (!check_dir("data.cache", r->c.data.cache, false, e)) return false;
    return !r->c.model.path || !path_within(r->c.data.cache, r->c.model.path) ||
           err_set(e,
                   "data.cache: %s lies in model.path, %s, where nothing is written: choose "
                   "another directory",
                   r->c.data.cache, r->c.model.path);
}

bool ahead_of_data(struct run *r, const struct hf_config *cfg, struct err *e)
{
    const struct settings_model m = {hf_has_vision(cfg), cfg->text.head_dim,
                                     cfg->text.num_key_value_heads};
    const bool cache = m.pictures || teacher_store_used(&r->c);

    settings_say_unused(&r->c, &m);
    return teacher_check(&r->c, cfg, e) && (!cache || check_cache(r, e)) && check_steps(r, e);
}

/* ---- samples ---- */

/* The factors of pictures are made from the activations of some. */
static bool by_pictures(const struct config *c)
{
    return c->svd.method != KV_NONE && c->svd.decoupled && c->svd.input == MDSVD_ACTIVATION;
}

bool ahead_lacks(const struct run *r, int64_t recipe, enum step step, bool *lacks, struct err *e)
{
    bool made, ok = true;

    *lacks = false;
    for (int64_t i = 0; ok && !*lacks && i < config_points(&r->c); i++) {
        const struct point p = config_point(&r->c, i);
        if (!is_wanted(r, i) || p.recipe != recipe) continue;
        ok = model_is_there(r, p.dir[step], &made, e);
        *lacks = ok && !made;
    }
    return ok;
}

/* Of samples in a row. */
struct seen {
    const struct dataset *d;
    bool picture;
};

static void see(void *arg, int64_t entry)
{
    struct seen *s = arg;

    s->picture = s->picture || s->d->entries[entry].images > 0;
}

static bool check_drawn(const struct run *r, const char *key, int64_t samples, struct err *e)
{
    struct seen s = {&r->train, false};

    if (!layerwise_each(r, samples, see, &s, e)) return false;
    return s.picture ||
           run_refuse(r, e,
                      "svd: none of the %lld calibration samples that %s draws has a picture, for "
                      "which svd.decoupled makes factors: draw more, or svd.decoupled false",
                      (long long)(samples < r->train.n ? samples : r->train.n), key);
}

static bool check_calibration(const struct run *r, int64_t recipe, struct err *e)
{
    bool lacks = false;

    if (!by_pictures(&r->c)) return true;
    return (!run_has_step(r, STEP_SVD) || ahead_lacks(r, recipe, STEP_SVD, &lacks, e)) &&
           (!splits_needed(r) || check_drawn(r, "svd.split_samples", r->c.svd.split_samples, e)) &&
           (!lacks || check_drawn(r, "svd.samples", r->c.svd.samples, e));
}

bool ahead_of_steps(struct run *r, bool pictures, struct err *e)
{
    const int64_t taken = recipes_take(&r->c, -1);
    bool ok = true;

    for (int64_t i = 0; i < r->n_eval; i++)
        if (r->eval[i].data.n == 0)
            return run_refuse(r, e, "data.eval %s: no usable sample is left to score",
                              r->eval[i].name);
    ok = caches_check_sets(r, e);
    for (int64_t k = 0; ok && pictures && r->train.n && k < recipes_count(&r->c); k++) {
        recipes_take(&r->c, k);
        ok = check_calibration(r, k, e) || recipes_blame(&r->c, k, e);
    }
    recipes_take(&r->c, taken);
    return ok;
}

static void say_few(const char *step, const char *key, int64_t asked, int64_t n, const char *then)
{
    if (asked > n)
        log_line("%s.%s is %lld, more than the samples of data.train (%lld): %s", step, key,
                 (long long)asked, (long long)n, then);
}

/* The most that any recipe asks for. */
struct asked {
    int64_t rank, svd, split, batch[PHASES];
};

static void ask(int64_t *most, bool asks, int64_t n)
{
    if (asks && n > *most) *most = n;
}

static struct asked asked_of(const struct config *all)
{
    struct asked a = {0};

    for (int64_t k = 0; k < recipes_count(all); k++) {
        const struct config *c = recipes_config(all, k);
        const bool svd = config_has_step(c, STEP_SVD) && c->svd.method != KV_NONE;
        ask(&a.rank, rank_is_measured(c), c->rank.samples);
        ask(&a.svd, config_calibrates(c), c->svd.samples);
        ask(&a.split, c->sweep.cache.n || (svd && c->svd.ranks == RANKS_SENSITIVITY),
            c->svd.split_samples);
        for (int i = 0; i < PHASES; i++)
            ask(&a.batch[i], true, config_phase(c, i)->batch_size);
    }
    return a;
}

void ahead_say_few(const struct run *r)
{
    static const char all[] = "all are used", again[] = "some come more than once in a step";
    const struct asked a = asked_of(&r->c);
    int64_t n = r->train.n;

    if (run_has_step(r, STEP_RANK)) say_few("rank", "samples", a.rank, n, all);
    say_few("svd", "samples", a.svd, n, all);
    say_few("svd", "split_samples", a.split, n, all);
    for (int i = 0; i < PHASES; i++)
        if (run_has_step(r, phase_steps[i]))
            say_few(step_names[phase_steps[i]], "batch_size", a.batch[i], n, again);
}
