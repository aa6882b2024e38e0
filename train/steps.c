/* steps.c - which step does what with which model, and what is complete already. */
#include "train/steps.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/evaluate.h"
#include "train/factors.h"
#include "train/forecast.h"
#include "train/peft.h"
#include "train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum dtype save_dtypes[] = {DT_F32, DT_BF16};

bool model_is_there(const struct run *r, const char *dir, bool *there, struct err *e)
{
    char *path = run_path(r, e, "%s/model/config.json", dir);
    bool ok = path && file_there(path, there, e);

    free(path);
    return ok;
}

/* A step is skipped where its model is complete. */
static bool look_done(const struct run *r, const char *dir, bool *done, struct err *e)
{
    *done = false;
    if (!model_is_there(r, dir, done, e)) return false;
    if (*done) log_line("%s: is done already", dir);
    return true;
}

/* Every step before evaluate trains or converts. */
static bool needs_original(const struct run *r)
{
    for (int s = 0; s < STEP_EVALUATE; s++)
        if (run_has_step(r, (enum step)s)) return true;
    return false;
}

/* A model that is converted already can be scored, no more. It is opened for each step anew, and
 * must still be the one that the steps before had. */
static bool open_given(const struct run *r, const char *dir, struct model *m, struct err *e)
{
    bool ok = watch_kept(e) && model_open(m, dir, e);

    if (ok && m->state != ATTN_FULL && needs_original(r)) {
        ok = err_set(e,
                     "%s: is converted already; the original model is needed, or only evaluate "
                     "and report in run.steps, to score it as it is",
                     dir);
        model_close(m);
    }
    return ok;
}

bool open_base_model(struct run *r, struct model *m, struct err *e)
{
    bool made, ok;
    char *dir;

    if (!model_is_there(r, "baseline", &made, e)) return false;
    dir = made || !r->c.model.path ? run_path(r, e, "baseline/model")
                                   : mem_strdup(r->c.model.path, e);
    ok = dir && open_given(r, dir, m, e);
    free(dir);
    return ok;
}

unsigned baseline_kinds(const struct config *c)
{
    return peft_kinds(c->baseline.peft, c->baseline.projector) |
           (c->baseline.vision ? 1u << PARAM_VISION : 0);
}

/* Pictures are opened with the model that a step starts from, and again where that changes what is
 * stored: pixels for the baseline, features of its tower from then on. What they are is compared
 * before, and recorded after the first time: a run that is refused for its pictures can be started
 * again with better ones. */
static bool need_pictures(struct run *r, struct model *m, bool pixels, struct err *e)
{
    if (r->pictures.open && r->pictures.pixels == pixels) return true;
    run_close_pictures(r);
    return run_check_pictures(r, e) && run_open_pictures(r, m, pixels, e) &&
           run_record_pictures(r, e);
}

/* The directory appears whole or not at all. */
static bool save_model(struct run *r, struct model *m, const char *dir, bool delta, struct err *e)
{
    char *path = run_path(r, e, "%s/model", dir), *tmp = run_path(r, e, "%s/model.tmp", dir);
    delta = delta && !r->c.save.full;
    const char *tokenizer = delta ? NULL : r->c.model.tokenizer;
    bool there, ok = path && tmp && watch_check(e) && watch_kept(e);

    if (ok) file_remove_tree(tmp); /* what a killed run left of it */
    ok = ok && file_there(tmp, &there, e) &&
         (!there || err_set(e, "%s: is left of a run that was killed, and cannot be deleted", tmp));
    if (ok && tokenizer) /* what the model lacks */
        ok = file_mkdirs(tmp, e) && model_copy_files(tokenizer, tmp, e);
    ok = ok && model_save(m, tmp, save_dtypes[r->c.save.dtype], delta, e);
    if (ok && tokenizer) ok = model_copy_tokenizer(tokenizer, tmp, e);
    if (ok && !m->dir) ok = processor_save(&r->processor, tmp, e);
    ok = ok && watch_check(e) && watch_kept(e) && file_publish(tmp, path, e);
    if (ok)
        log_line("model: %s", path);
    else if (tmp)
        file_remove_tree(tmp);
    free(path);
    free(tmp);
    return ok;
}

/* Trains m under RUN/dir and saves it there. */
static bool train_and_save(struct run *r, struct model *m, const char *dir, bool delta,
                           struct train_job *job, struct err *e)
{
    char *path = run_path(r, e, "%s", dir);
    bool ok = path && file_mkdirs(path, e);

    job->dir = path;
    ok = ok && train_model(r, m, job, e) && save_model(r, m, dir, delta, e);
    free(path);
    return ok;
}

static bool step_baseline(struct run *r, struct err *e)
{
    struct train_job job = {.point = "base", .phase = "baseline", .p = &r->c.baseline, .stream = 1};
    struct model m = {0};
    bool done, ok;

    if (!look_done(r, "baseline", &done, e) || done) return done;
    job.kinds = baseline_kinds(&r->c);
    ok =
        (r->c.model.path ? open_given(r, r->c.model.path, &m, e) : make_baseline_model(r, &m, e)) &&
        need_pictures(r, &m, r->c.baseline.vision, e) &&
        train_and_save(r, &m, "baseline", false, &job, e);
    model_close(&m);
    run_close_pictures(r);
    return ok;
}

/* Full scores of a model: from the file where it is there, else by evaluating it. */
static bool score_model(struct run *r, struct model *m, const char *dir, struct scores *s,
                        struct err *e)
{
    char *path = run_path(r, e, "%s", dir), *file = run_path(r, e, "%s/scores.json", dir);
    char *answers = run_path(r, e, "%s/answers.jsonl", dir);
    bool there, ok = path && file && answers && file_there(file, &there, e);

    memset(s, 0, sizeof *s);
    if (ok && there)
        ok = scores_load(s, file, e);
    else
        ok = ok && file_mkdirs(path, e) && need_pictures(r, m, false, e) &&
             evaluate(r, m, false, answers, dir, s, e) && scores_save(s, file, e);
    free(path);
    free(file);
    free(answers);
    return ok;
}

static bool score_dir(struct run *r, const char *dir, struct err *e)
{
    char *file = run_path(r, e, "%s/scores.json", dir), *path = run_path(r, e, "%s/model", dir);
    bool base = strcmp(dir, "base") == 0, there, ok = file && path && file_there(file, &there, e);
    struct model m = {0};
    struct scores s = {0};

    if (ok && !there) {
        ok = base ? open_base_model(r, &m, e) : model_open(&m, path, e);
        ok = ok && score_model(r, &m, dir, &s, e);
    }
    scores_free(&s);
    model_close(&m);
    free(file);
    free(path);
    return ok;
}

/* The same where there is such a model. */
static bool score_made(struct run *r, const char *dir, struct err *e)
{
    bool made;

    return model_is_there(r, dir, &made, e) && (!made || score_dir(r, dir, e));
}

static bool step_stage1(struct run *r, const struct point *p, struct err *e)
{
    struct train_job job = {.point = p->stage1, .phase = "stage1", .p = &r->c.stage1, .stream = 2};
    char dir[128];
    struct model m = {0};
    bool done, ok;

    snprintf(dir, sizeof dir, "%s/stage1", p->stage1);
    if (!look_done(r, dir, &done, e) || done) return done;
    if (r->n_eval && !score_dir(r, "base", e)) return false;
    job.kinds = peft_kinds(r->c.stage1.peft, r->c.stage1.projector);
    /* open_partial_model would ask for this step's own output */
    ok = open_untrained_partial(r, p, &m, e) && need_pictures(r, &m, false, e) &&
         train_and_save(r, &m, dir, true, &job, e);
    model_close(&m);
    return ok;
}

/* Whether this step makes the svd model of q when it comes to p: of all points that share its
 * calibration, unless one alone was asked for. */
static bool svd_wanted(const struct run *r, const struct point *p, const struct point *q,
                       bool *wanted, struct err *e)
{
    char dir[128];
    bool made;

    snprintf(dir, sizeof dir, "%s/svd", q->name);
    if (!model_is_there(r, dir, &made, e)) return false;
    *wanted = !made && strcmp(p->stage1, q->stage1) == 0 &&
              (r->only_point < 0 || strcmp(p->name, q->name) == 0);
    return true;
}

static bool save_svd(struct run *r, struct made_factors *f, const struct point *p, bool last,
                     struct err *e)
{
    struct model m = {0};
    char dir[128];
    bool ok;

    snprintf(dir, sizeof dir, "%s/svd", p->name);
    ok = open_partial_model(r, p, &m, e) && factors_apply(f, r, p, last, &m, e) &&
         save_model(r, &m, dir, true, e);
    model_close(&m);
    return ok;
}

static bool step_svd(struct run *r, const struct point *p, struct err *e)
{
    struct made_factors f = {0};
    struct model m = {0};
    int64_t last = -1;
    char dir[128];
    bool done, wanted, ok;

    snprintf(dir, sizeof dir, "%s/svd", p->name);
    if (!look_done(r, dir, &done, e) || done) return done;
    ok = open_partial_model(r, p, &m, e) && need_pictures(r, &m, false, e) &&
         factors_make(&f, r, &m, p, e);
    model_close(&m);
    for (int64_t i = 0; ok && i < config_points(&r->c); i++) {
        struct point q = config_point(&r->c, i);
        ok = svd_wanted(r, p, &q, &wanted, e);
        if (ok && wanted) last = i;
    }
    for (int64_t i = 0; ok && i <= last; i++) {
        struct point q = config_point(&r->c, i);
        ok = svd_wanted(r, p, &q, &wanted, e) && (!wanted || save_svd(r, &f, &q, i == last, e));
    }
    factors_free(&f);
    return ok;
}

static bool step_stage2(struct run *r, const struct point *p, struct err *e)
{
    struct train_job job = {.point = p->name, .phase = "stage2", .p = &r->c.stage2, .stream = 3};
    char dir[128], svd[128], stage1[128], *from;
    struct model m = {0};
    bool done, ok;

    snprintf(dir, sizeof dir, "%s/stage2", p->name);
    snprintf(svd, sizeof svd, "%s/svd", p->name);
    snprintf(stage1, sizeof stage1, "%s/stage1", p->stage1);
    if (!look_done(r, dir, &done, e) || done) return done;
    /* What the training starts from is scored before it: base, stage 1, straight after the SVD. */
    if (r->n_eval &&
        (!score_dir(r, "base", e) || !score_made(r, stage1, e) || !score_dir(r, svd, e)))
        return false;
    from = run_path(r, e, "%s/model", svd);
    job.kinds = peft_kinds(r->c.stage2.peft, r->c.stage2.projector);
    ok = from && model_open(&m, from, e) && need_pictures(r, &m, false, e);
    if (ok)
        log_line(
            "%s: the cache holds %lld values a token and layer, %.2f %% of the original's %lld",
            p->name, (long long)model_cache_values(&m),
            100 * (double)model_cache_values(&m) / (double)model_cache_values_full(&m),
            (long long)model_cache_values_full(&m));
    ok = ok && train_and_save(r, &m, dir, false, &job, e);
    model_close(&m);
    free(from);
    return ok;
}

static bool step_evaluate(struct run *r, const struct point *p, struct err *e)
{
    char dirs[4][128];

    snprintf(dirs[0], sizeof dirs[0], "base");
    snprintf(dirs[1], sizeof dirs[1], "%s/stage1", p->stage1);
    snprintf(dirs[2], sizeof dirs[2], "%s/svd", p->name);
    snprintf(dirs[3], sizeof dirs[3], "%s/stage2", p->name);
    for (int i = 0; i < 4; i++)
        if (!(i == 0 ? score_dir : score_made)(r, dirs[i], e)) return false;
    return true;
}

typedef bool point_step(struct run *, const struct point *, struct err *);
static point_step *const point_steps[STEPS] = {[STEP_STAGE1] = step_stage1,
                                               [STEP_SVD] = step_svd,
                                               [STEP_STAGE2] = step_stage2,
                                               [STEP_EVALUATE] = step_evaluate};

/* What several steps open again, or copy. */
static bool keep_inputs(const struct run *r, const struct model *given, struct err *e)
{
    return (!given || model_keep_files(given, e)) &&
           (!r->c.model.tokenizer || model_keep_copied(r->c.model.tokenizer, e)) &&
           (!r->c.rank.file || watch_keep(r->c.rank.file, e));
}

static bool check_eval(const struct run *r, struct err *e)
{
    return r->n_eval > 0 || !run_has_step(r, STEP_EVALUATE) ||
           err_set(e, "evaluate: data.eval has no samples: add some, or take \"evaluate\" out of "
                      "run.steps");
}

/* Tokenizer, processor and samples, for the model as it is or as it will be made; and a look ahead,
 * so that what cannot work is refused now and leaves nothing behind. */
static bool open_data(struct run *r, struct err *e)
{
    const char *path = r->c.model.path;
    struct model given = {0};
    struct forecast f;
    bool ok = forecast_open(&f, r, e) && run_open_data(r, &f.base.cfg, e) && check_eval(r, e) &&
              forecast_models(&f, e) && forecast_fits(&f, e);

    ok = ok && (!path || (open_given(r, path, &given, e) && model_check_finite(&given, e))) &&
         keep_inputs(r, path ? &given : NULL, e) && run_record(r, path ? &given : NULL, e);
    model_close(&given);
    forecast_close(&f);
    return ok;
}

bool run_steps(struct run *r, struct err *e)
{
    int64_t points = config_points(&r->c), only_point = r->only_point;

    if (only_point >= points)
        return err_set(e, "--point %lld: the sweep has the points 0..%lld", (long long)only_point,
                       (long long)points - 1);
    if (!open_data(r, e)) return false;
    if (run_has_step(r, STEP_BASELINE) && !step_baseline(r, e)) return false;
    if (run_has_step(r, STEP_RANK)) {
        struct model m = {0};
        bool ok = open_base_model(r, &m, e) && need_pictures(r, &m, false, e);
        model_close(&m);
        if (!ok || !step_rank(r, e)) return false;
    }
    for (int64_t i = 0; i < points; i++) {
        struct point p = config_point(&r->c, i);
        if (only_point >= 0 && i != only_point) continue;
        for (int s = 0; s < STEPS; s++)
            if (point_steps[s] && run_has_step(r, (enum step)s) && !point_steps[s](r, &p, e))
                return false;
    }
    return !run_has_step(r, STEP_REPORT) || step_report(r, e);
}
