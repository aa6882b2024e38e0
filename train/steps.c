/* steps.c - which step does what with which model, and what is already complete. */
#include "train/steps.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/place.h"
#include "cluster/cluster.h"
#include "model/family/family.h"
#include "train/ahead.h"
#include "train/caches.h"
#include "train/score/evaluate.h"
#include "train/factors.h"
#include "train/forecast/forecast.h"
#include "train/made.h"
#include "train/models.h"
#include "train/peft.h"
#include "train/ranking.h"
#include "train/ranks.h"
#include "train/recipes.h"
#include "train/refit.h"
#include "train/report/report.h"
#include "train/share.h"
#include "train/splits.h"
#include "train/trainer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const enum dtype save_dtypes[] = {[SAVE_F32] = DT_F32, [SAVE_BF16] = DT_BF16};

/* A step is skipped if its model is complete. */
static bool look_done(const struct run *r, const char *dir, bool *done, struct err *e)
{
    *done = false;
    if (!cluster_as_first(model_is_there(r, dir, done, e), done, e)) return false;
    if (*done) log_line("%s: is done already", dir);
    return true;
}

/* Opens the pictures with the model that a step starts from, and again when that changes what is
 * stored: pixels for the baseline, features of its tower from then on. Their contents are checked
 * before, and recorded after the first time: a run refused because of its pictures can be restarted
 * with better ones. */
static bool need_pictures(struct run *r, struct model *m, bool pixels, struct err *e)
{
    int64_t before = r->train.n;

    if (r->pictures.open && r->pictures.pixels == pixels) return true;
    run_close_pictures(r);
    if (!run_share_names(r, e) || !cluster_agree(!cluster_first() || run_check_pictures(r, e), e) ||
        !run_open_pictures(r, m, pixels, e) ||
        !cluster_agree(ahead_of_steps(r, hf_has_vision(&m->cfg), e), e))
        return false;
    if (r->train.n < before) ahead_say_few(r);
    return cluster_agree(!cluster_first() || run_record_pictures(r, e), e);
}

/* The processor of a new model; and of one with limits of pixels, which may be this run's, in the
 * spellings of all readers. A processor_config.json would go before it. */
static bool save_processor(const struct run *r, const struct model *m, const char *dir,
                           struct err *e)
{
    char *shared;
    bool ok;

    if (m->dir && !processor_has_limits(&r->processor)) return true;
    shared = file_join(dir, "processor_config.json", e);
    ok = shared && processor_save(&r->processor, m->cfg.family->processor_class, dir, e);
    if (ok && unlink(shared) != 0 && errno != ENOENT)
        ok = err_system(e, errno, "%s: cannot be removed", shared);
    free(shared);
    return ok;
}

/* The directory appears complete or not at all. */
static bool write_model(struct run *r, struct model *m, const char *dir, bool delta, struct err *e)
{
    char *path = run_path(r, e, "%s/model", dir), *tmp = run_path(r, e, "%s/model.tmp", dir);
    char *name = mem_printf(e, "%s/model", dir);
    delta = delta && !r->c.save.full;
    const char *tokenizer = delta ? NULL : r->c.model.tokenizer;
    bool there, ok = path && tmp && name && watch_check(e) && watch_kept(e);

    if (ok) file_remove_tree(tmp); /* left over from a killed run */
    ok = ok && file_there(tmp, &there, e) &&
         (!there || err_set(e, "%s: was left by a killed run and cannot be deleted", tmp));
    if (ok && tokenizer) /* only what the model lacks */
        ok = file_mkdirs(tmp, e) && model_copy_files(tokenizer, tmp, e);
    ok = ok && model_save(m, tmp, save_dtypes[r->c.save.dtype], delta, e);
    if (ok && tokenizer) ok = model_copy_tokenizer(tokenizer, tmp, e);
    if (ok && !delta && hf_has_vision(&m->cfg)) ok = save_processor(r, m, tmp, e);
    ok = ok && watch_check(e) && watch_kept(e) && outputs_add(r, name, tmp, e) && place_check(e) &&
         file_publish(tmp, path, e);
    if (ok)
        log_line("model: %s", path);
    else if (tmp)
        file_remove_tree(tmp);
    free(path);
    free(tmp);
    free(name);
    return ok;
}

/* The first process saves its m. */
static bool save_model(struct run *r, struct model *m, const char *dir, bool delta, struct err *e)
{
    return cluster_agree(!cluster_first() || write_model(r, m, dir, delta, e), e);
}

/* Trains m under RUN/dir and saves it there. */
static bool train_and_save(struct run *r, struct model *m, const char *dir, bool delta,
                           struct train_job *job, struct err *e)
{
    char *path = run_path(r, e, "%s", dir);
    bool ok = path && file_mkdirs(path, e);

    job->dir = path;
    ok = cluster_agree(ok, e) && train_model(r, m, job, e) && save_model(r, m, dir, delta, e);
    free(path);
    return ok;
}

static bool step_baseline(struct run *r, struct err *e)
{
    struct train_job job = {.point = "base", .phase = "baseline", .p = &r->c.baseline, .index = 0};
    struct model m = {0};
    bool done, ok;

    if (!look_done(r, "baseline", &done, e) || done) return done;
    job.kinds = baseline_kinds(&r->c);
    ok = (r->c.model.path ? open_given_model(r, r->c.model.path, &m, e)
                          : make_baseline_model(r, &m, e)) &&
         need_pictures(r, &m, r->c.baseline.vision, e) &&
         train_and_save(r, &m, "baseline", false, &job, e);
    model_close(&m);
    run_close_pictures(r);
    return ok;
}

/* With a kind of cache; NULL: its own. */
static bool score_model(struct run *r, struct model *m, const char *dir,
                        const struct cache_kind *kind, struct scores *s, struct err *e)
{
    char *path = run_path(r, e, "%s", dir), *file = run_path(r, e, "%s/scores.json", dir);
    char *answers = run_path(r, e, "%s/answers.jsonl", dir);
    const struct evaluate_how how = {.answers = answers, .context = dir, .cache = kind};
    bool ok = path && file && answers && file_mkdirs(path, e) && need_pictures(r, m, false, e) &&
              evaluate(r, m, &how, s, e);

    ok = cluster_agree(
        ok && (!cluster_first() || (scores_save(s, file, e) && made_scores_sums(r, dir, e))), e);
    free(path);
    free(file);
    free(answers);
    return ok;
}

/* The model of a step that is scored, opened when that is needed. */
struct to_score {
    enum step step;
    const char *dir;
    struct model *m;
};

static bool open_to_score(struct run *r, const struct to_score *t, struct err *e)
{
    if (t->m->params) return true;
    if (r->shares && t->step <= STEP_STAGE1) return share_lacks(r, t->dir, "scores.json", e);
    return t->step == STEP_BASELINE ? open_base_model(r, t->m, e)
                                    : made_open(r, t->step, t->dir, t->m, e);
}

/* Where a kind of cache asks for a rotation, and the model has nothing to rotate. */
static void say_idle(const struct run *r, const struct to_score *t, int64_t i,
                     const struct cache_kind *kind)
{
    char text[CACHE_KIND_TEXT];

    if (i >= 0 && caches_idle(kind, t->m))
        log_line("%s: not scored with %s: " CACHES_IDLE, t->dir, cache_kind_text(text, kind));
    if (i < 0 && caches_idle(&(struct cache_kind){.rotate = r->c.cache.rotate}, t->m))
        log_line("%s: cache.rotate changes nothing: " CACHES_IDLE, t->dir);
}

/* Full scores with entry i of evaluate.caches (-1: the model's own kind of cache), unless they are
 * there. */
static bool score_as(struct run *r, const struct to_score *t, int64_t i, struct err *e)
{
    const char *dir = t->dir;
    char other[CACHES_DIR], name[CACHES_NAME];
    struct score_time when = {.phase = step_names[t->step], .event = name};
    struct cache_kind kind = {0};
    struct scores s = {0};
    bool done = false, ok = i < 0 || cache_kind_read(&kind, r->c.evaluate.caches.v[i], e);

    if (ok && i >= 0) dir = caches_dir(other, t->dir, &kind);
    ok = ok && cluster_as_first(!cluster_first() || made_scores(r, dir, &done, e), &done, e);
    if (!ok || done) return ok;
    if (!open_to_score(r, t, e)) return false;
    say_idle(r, t, i, &kind);
    if (i >= 0 && !caches_other(&r->c, i, t->m, &kind)) return true;
    ok = score_model(r, t->m, dir, i < 0 ? NULL : &kind, &s, e);
    if (!ok && i >= 0 && e->msg[0])
        err_context(e, "evaluate.caches[%lld] (--resume goes on with a list without it)",
                    (long long)i);
    if (ok && i >= 0) {
        char *point = mem_printf(e, "%.*s", (int)strcspn(t->dir, "/"), t->dir);
        when.point = point;
        caches_name(name, &kind);
        ok = cluster_agree(point && (!cluster_first() || scores_write(&s, r, &when, e)), e);
        free(point);
    }
    scores_free(&s);
    return ok;
}

/* Full scores of a model, unless they are there: of one that a step has left, or of the base. What
 * points share is scored before them. */
static bool score_dir(struct run *r, enum step step, const char *dir, struct err *e)
{
    const bool others = step != STEP_STAGE1 && !(r->shares && step == STEP_BASELINE);
    struct model m = {0};
    const struct to_score t = {step, dir, &m};
    bool ok = score_as(r, &t, -1, e);

    for (int64_t i = 0; ok && others && i < r->c.evaluate.caches.n; i++)
        ok = score_as(r, &t, i, e);
    model_close(&m);
    return ok;
}

static bool score_base(struct run *r, struct err *e)
{
    return score_dir(r, STEP_BASELINE, "base", e);
}

/* The same for what that step has left of the point, if it is there. */
static bool score_made(struct run *r, enum step step, const struct point *p, struct err *e)
{
    const char *dir = p->dir[step];
    bool made;

    return model_is_there(r, dir, &made, e) && (!made || score_dir(r, step, dir, e));
}

/* Of a model that has been converted just now. */
static bool refit(struct run *r, struct model *m, const char *what, struct err *e)
{
    struct model base = {0};
    const struct refit_how how = {what, r->c.svd.samples, true};
    bool ok =
        cluster_agree(open_base_model(r, &base, e), e) && refit_model(r, &base, m, &how, NULL, e);

    model_close(&base);
    return ok;
}

static bool step_stage1(struct run *r, const struct point *p, struct err *e)
{
    struct train_job job = {.point = p->stage1, .phase = "stage1", .p = &r->c.stage1, .index = 1};
    const char *dir = p->dir[STEP_STAGE1];
    struct model m = {0};
    bool done, ok;

    if (!look_done(r, dir, &done, e) || done) return done;
    if (r->n_eval && !score_base(r, e)) return false;
    job.kinds = peft_kinds((enum peft_set)r->c.stage1.peft, r->c.stage1.projector);
    /* open_partial_model would ask for this step's own output */
    ok = open_untrained_partial(r, p, &m, e) && need_pictures(r, &m, false, e) &&
         (!r->c.stage1.refit || refit(r, &m, p->stage1, e)) &&
         train_and_save(r, &m, dir, true, &job, e);
    model_close(&m);
    return ok;
}

/* Whether this step, when it reaches p, makes the svd model of q: of all points that share p's
 * calibration, unless a single one was requested. */
static bool svd_wanted(const struct run *r, const struct point *p, const struct point *q,
                       bool *wanted, struct err *e)
{
    bool made = false;

    if (!cluster_as_first(model_is_there(r, q->dir[STEP_SVD], &made, e), &made, e)) return false;
    *wanted = !made && p->recipe == q->recipe && strcmp(p->stage1, q->stage1) == 0 &&
              (r->only_point < 0 || strcmp(p->name, q->name) == 0);
    return true;
}

static bool save_svd(struct run *r, struct made_factors *f, const struct point *p, bool last,
                     struct err *e)
{
    struct model m = {0};
    bool ok =
        ranks_choose(r, f, p, e) &&
        cluster_agree((!cluster_first() && !r->c.svd.refit) ||
                          (open_partial_model(r, p, &m, e) && factors_apply(f, r, p, last, &m, e)),
                      e) &&
        (!r->c.svd.refit || refit(r, &m, p->name, e)) &&
        save_model(r, &m, p->dir[STEP_SVD], true, e);

    model_close(&m);
    return ok;
}

/* The factors of p's partial model. Attention that is to be kept is the original's, or that of the
 * model which stage 1 has trained, whose kept pairs alone are rotated. */
static bool make_factors_for(struct run *r, const struct point *p, struct made_factors *f,
                             const struct factors_for *what, struct err *e)
{
    struct model m = {0}, base = {0};
    bool trained, original = r->c.svd.statistics != KV_TOKENS;
    bool ok = partial_is_trained(r, p, &trained, e) && open_partial_model(r, p, &m, e);

    original = ok && original && !trained;
    ok = ok && (!original || open_base_model(r, &base, e)) && need_pictures(r, &m, false, e) &&
         factors_make(f, r, &m, original ? &base : NULL, what, e);
    model_close(&base);
    model_close(&m);
    return ok;
}

/* For all points that have p's pairs, or for the one that the run is asked for. Where each has
 * factors of its own, and layers of their own widths, these follow from factors of one width. */
static bool make_factors(struct run *r, const struct point *p, struct made_factors *f,
                         struct err *e)
{
    struct factors_for what = {.samples = r->c.svd.samples};
    bool ok =
        factors_points(r, p, r->only_point >= 0, &what, e) && make_factors_for(r, p, f, &what, e);

    if (ok && what.uneven && f->by_point && f->method != KV_NONE) {
        ok = ranks_choose_all(r, f, &what, e);
        factors_free(f);
        ok = ok && make_factors_for(r, p, f, &what, e);
    }
    ranks_free_all(&what);
    free(what.point);
    return ok;
}

static bool step_svd(struct run *r, const struct point *p, struct err *e)
{
    struct made_factors f = {0};
    int64_t last = -1;
    bool done, wanted, ok;

    if (!look_done(r, p->dir[STEP_SVD], &done, e) || done) return done;
    ok = make_factors(r, p, &f, e);
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
    struct config_phase phase = r->c.stage2;
    struct train_job job = {.point = p->name, .phase = "stage2", .p = &phase, .index = 2};
    const char *dir = p->dir[STEP_STAGE2], *svd = p->dir[STEP_SVD];
    struct model m = {0};
    bool done, ok;

    if (!look_done(r, dir, &done, e) || done) return done;
    /* Scores what the training starts from first: base, stage 1, and directly after the SVD. */
    if (r->n_eval &&
        (!score_base(r, e) || !score_made(r, STEP_STAGE1, p, e) || !score_dir(r, STEP_SVD, svd, e)))
        return false;
    phase.lr = p->lr;
    job.kinds = peft_kinds((enum peft_set)r->c.stage2.peft, r->c.stage2.projector);
    ok = made_open(r, STEP_SVD, svd, &m, e) && need_pictures(r, &m, false, e);
    if (ok)
        log_line(
            "%s: the cache holds %lld values a token and layer, %.2f %% of the original's %lld",
            p->name, (long long)model_cache_values(&m),
            100 * (double)model_cache_values(&m) / (double)model_cache_values_full(&m),
            (long long)model_cache_values_full(&m));
    ok = ok && train_and_save(r, &m, dir, false, &job, e);
    model_close(&m);
    return ok;
}

static bool step_evaluate(struct run *r, const struct point *p, struct err *e)
{
    if (!score_base(r, e)) return false;
    for (enum step s = STEP_STAGE1; s <= STEP_STAGE2; s++)
        if (!score_made(r, s, p, e)) return false;
    return true;
}

typedef bool point_step(struct run *, const struct point *, struct err *);
static point_step *const point_steps[STEPS] = {[STEP_STAGE1] = step_stage1,
                                               [STEP_SVD] = step_svd,
                                               [STEP_STAGE2] = step_stage2,
                                               [STEP_EVALUATE] = step_evaluate};

/* Records the files that several steps reopen, or copy. */
static bool keep_inputs(const struct run *r, const struct model *given, struct err *e)
{
    return (!given || model_keep_files(given, e)) &&
           (!r->c.model.tokenizer || model_keep_copied(r->c.model.tokenizer, e)) &&
           (!r->c.rank.file || watch_keep(r->c.rank.file, e));
}

/* Tokenizer, processor and samples, for the model as it is or as it will be made; and a look ahead,
 * so that what cannot work is refused now and leaves nothing behind. */
static bool open_data(struct run *r, struct err *e)
{
    const char *path = r->c.model.path;
    struct model given = {0};
    struct forecast f = {0};
    bool ok = ahead_of_run(r, e) && forecast_open(&f, r, e) && ahead_of_data(r, &f.base.cfg, e) &&
              run_open_data(r, &f.base.cfg, e) &&
              ahead_of_steps(r, hf_has_vision(&f.base.cfg), e) && forecast_models(&f, e) &&
              forecast_fits(&f, e);

    if (ok) ahead_say_few(r);
    ok = cluster_agree(ok, e);
    if (ok && cluster_first()) /* which reads all of it for all */
        ok = (!path || (open_given_model(r, path, &given, e) && model_check_finite(&given, e))) &&
             keep_inputs(r, path ? &given : NULL, e);
    ok = cluster_agree(ok, e) && run_record(r, path ? &given : NULL, e);
    model_close(&given);
    forecast_close(&f);
    /* what is mapped still: the lists of samples */
    return cluster_agree(ok && (!cluster_first() || watch_sum_mapped(e)), e);
}

static bool any_rotates(const struct run *r)
{
    for (int64_t i = 0; i < recipes_count(&r->c); i++)
        if (config_rotates(recipes_config(&r->c, i))) return true;
    return false;
}

bool run_steps(struct run *r, struct err *e)
{
    int64_t points = config_points(&r->c), only_point = r->only_point;

    if (!open_data(r, e)) return false;
    if (run_has_step(r, STEP_BASELINE) && !step_baseline(r, e)) return false;
    if (run_has_step(r, STEP_RANK) || splits_any_needed(r) || any_rotates(r)) {
        struct model m = {0};
        bool ok = open_base_model(r, &m, e) && need_pictures(r, &m, false, e);
        model_close(&m);
        if (!ok) return false;
    }
    if (run_has_step(r, STEP_RANK) && !step_rank(r, e)) return false;
    if (!splits_find(r, e)) return false;
    for (int64_t i = 0; i < points; i++) {
        struct point p = config_point(&r->c, i);
        if (only_point >= 0 && i != only_point) continue;
        recipes_take(&r->c, p.recipe);
        for (int s = 0; s < STEPS; s++)
            if (point_steps[s] && run_has_step(r, (enum step)s) && !point_steps[s](r, &p, e))
                return false;
    }
    recipes_take(&r->c, -1);
    return !run_has_step(r, STEP_REPORT) || cluster_agree(!cluster_first() || step_report(r, e), e);
}
