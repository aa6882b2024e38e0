/* work_cluster.c - what several processes do together, each with its share: a step of the trainer,
 * MD-SVD, the features of pictures, and the exchange of a step alone. Words with a dot before "="
 * are settings: work_settings. */
#include "autograd/flop.h"
#include "base/file.h"
#include "base/mem.h"
#include "bench/lib/measure.h"
#include "bench/lib/work.h"
#include "cluster/cluster.h"
#include "train/factors.h"
#include "train/models.h"
#include "train/peft.h"
#include "train/ranking.h"
#include "train/trainer_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- cluster-step: config=FILE model=DIR (converted) SETTINGS: the trainer's first step, at
 * learning rate 0, again and again ---- */

struct step_state {
    struct run r;
    struct model m;
    struct train_job job;
    struct trainer t;
    struct step_result last;
};

static void step_close(void *p)
{
    struct step_state *s = p;

    trainer_close(&s->t);
    model_close(&s->m);
    run_close(&s->r);
    free(s);
}

static bool open_run(struct run *r, const struct work_args *a, struct err *e)
{
    const char *sets[WORK_ARGS + 1];
    int n = 0;

    r->lock = -1;
    sets[n++] = "data.eval=[]";
    for (int i = 0; i < a->n; i++)
        if (strcspn(a->word[i], ".") < strcspn(a->word[i], "=")) sets[n++] = a->word[i];
    return schema_load(&config_schema, &r->c, work_text(a, "config", NULL), sets, (size_t)n, e) &&
           run_limits(r, e);
}

static bool open_step(struct step_state *s, const struct work_args *a, struct err *e)
{
    struct run *r = &s->r;
    struct config_phase *p = &r->c.stage2;

    if (!open_run(r, a, e) || !model_open(&s->m, work_text(a, "model", NULL), e) ||
        !run_open_data(r, &s->m.cfg, e))
        return false;
    p->lr = 0;
    s->job = (struct train_job){.point = "bench",
                                .phase = "stage2",
                                .p = p,
                                .kinds = peft_kinds(p->peft, p->projector),
                                .index = 2};
    s->t = (struct trainer){.r = r, .m = &s->m, .job = &s->job};
    return true;
}

static bool step_run(void *p, double *units, struct err *e)
{
    struct step_state *s = p;

    s->t.step = 0;
    if (!trainer_step(&s->t, &s->last, e)) return false;
    *units += (double)s->last.tokens;
    return true;
}

static void *step_open(const struct work_args *a, struct err *e)
{
    struct step_state *s = mem_new(1, sizeof *s, "bench", e);
    double trained = 0, units = 0;

    if (!cluster_agree(s && open_step(s, a, e), e) || !run_open_pictures(&s->r, &s->m, false, e) ||
        !cluster_agree(trainer_open(&s->t, e), e) || !step_run(s, &units, e)) {
        if (s) step_close(s);
        return NULL;
    }
    for (int64_t i = 0; i < s->t.n_trained; i++)
        trained += (double)tensor_count(&s->t.trained[i]->t);
    work_fact("trained", trained);
    return s;
}

static void report_sent(const struct exchange *x)
{
    const struct exchange_sent sent = exchange_sent(x);

    work_fact("sent", sent.gradients + sent.values);
    work_fact("theory", exchange_theory(x));
    work_fact("early", sent.early);
}

/* flop: of the step, from the last micro-batch of this process and the tokens of all. */
static bool step_finish(void *p, struct err *e)
{
    const struct step_state *s = p;
    const double share = (double)s->last.tokens / (double)s->t.batch.batch.tokens;

    (void)e;
    report_sent(s->t.exchange);
    work_fact("check", s->last.loss);
    work_fact("flop", share * flop_all(tape_flop(s->r.tape)));
    return true;
}

const struct work work_cluster_step = {"cluster-step", step_open, step_run, step_finish,
                                       step_close};

/* ---- cluster-svd: config=FILE SETTINGS: calibration and factors of all layers of the first point;
 * cluster-features: config=FILE SETTINGS: the features of all pictures, into an empty cache ---- */

struct base_state {
    struct run r;
    struct model m;
    double kept; /* of the energy of all factors */
};

static void base_close(void *p)
{
    struct base_state *s = p;

    model_close(&s->m);
    run_close(&s->r);
    free(s);
}

static bool open_base(struct base_state *s, const struct work_args *a, bool partial, struct err *e)
{
    struct run *r = &s->r;
    struct model base = {0};
    bool ok;

    if (!open_run(r, a, e)) return false;
    ok = open_base_model(r, &base, e) && run_open_data(r, &base.cfg, e);
    if (!partial) {
        s->m = base;
        return ok;
    }
    const struct point p = config_point(&r->c, 0);
    ok = cluster_agree(ok, e) && run_open_pictures(r, &base, false, e) && step_rank(r, e);
    model_close(&base);
    return ok && open_untrained_partial(r, &p, &s->m, e);
}

static void *new_base(const struct work_args *a, bool partial, struct err *e)
{
    struct base_state *s = mem_new(1, sizeof *s, "bench", e);

    if (cluster_agree(s && open_base(s, a, partial, e), e)) return s;
    if (s) base_close(s);
    return NULL;
}

static void *svd_open(const struct work_args *a, struct err *e)
{
    return new_base(a, true, e);
}

static bool svd_run(void *p, double *units, struct err *e)
{
    struct base_state *s = p;
    struct point point = config_point(&s->r.c, 0);
    const struct factors_for what = {.point = &point, .n = 1, .samples = s->r.c.svd.samples};
    struct made_factors f = {0};
    double kept = 0, energy = 0;
    const bool ok = factors_make(&f, &s->r, &s->m, NULL, &what, e);

    for (int64_t l = 0; ok && l < f.layers; l++)
        for (int k = 0; k < f.sets; k++)
            for (int i = 0; i < f.width[0].plan.parts; i++) {
                kept += f.layer[l].out[k][i].kept;
                energy += f.layer[l].out[k][i].energy;
            }
    s->kept = kept / energy;
    factors_free(&f);
    *units += 1;
    return ok;
}

static bool svd_finish(void *p, struct err *e)
{
    const struct base_state *s = p;

    (void)e;
    work_fact("check", s->kept);
    return true;
}

const struct work work_cluster_svd = {"cluster-svd", svd_open, svd_run, svd_finish, base_close};

static void *features_open(const struct work_args *a, struct err *e)
{
    return new_base(a, false, e);
}

static bool features_run(void *p, double *units, struct err *e)
{
    struct base_state *s = p;
    struct run *r = &s->r;

    if (cluster_first()) file_remove_tree(r->c.data.cache);
    if (!cluster_agree(true, e) || !run_open_pictures(r, &s->m, false, e)) return false;
    run_close_pictures(r);
    *units += (double)r->train.n_images;
    return true;
}

const struct work work_cluster_features = {"cluster-features", features_open, features_run, NULL,
                                           base_close};

/* ---- cluster-exchange: params=N values=N [pause=MS]: the gradients and the values of a step, with
 * nothing to compute; with a pause before each gradient is final, as in a backward pass ---- */

struct exchange_state {
    int64_t n, pause;
    struct tensor *t, **list; /* [n] */
    struct exchange *x;
};

static void exchange_close(void *p)
{
    struct exchange_state *s = p;

    exchange_free(s->x);
    for (int64_t i = 0; s->t && i < s->n; i++) {
        free(s->t[i].data);
        free(s->t[i].grad);
    }
    free(s->t);
    free(s->list);
    free(s);
}

static bool open_tensors(struct exchange_state *s, const struct work_args *a, struct err *e)
{
    const int64_t values = work_number(a, "values", 0);

    s->n = work_number(a, "params", 0);
    s->pause = atoll(work_text(a, "pause", "0"));
    s->t = mem_new((size_t)s->n, sizeof *s->t, "bench", e);
    s->list = mem_new((size_t)s->n, sizeof(struct tensor *), "bench", e);
    for (int64_t i = 0; s->t && s->list && i < s->n; i++) {
        s->t[i] =
            tensor_leaf(DT_F32, 1, values, mem_new((size_t)values, sizeof(float), "bench", e));
        s->t[i].grad = mem_new((size_t)values, sizeof(float), "bench", e);
        s->list[i] = &s->t[i];
        if (!s->t[i].data || !s->t[i].grad) return false;
    }
    return s->t && s->list;
}

static void *exchange_open(const struct work_args *a, struct err *e)
{
    struct exchange_state *s = mem_new(1, sizeof *s, "bench", e);

    if (cluster_agree(s && open_tensors(s, a, e), e) &&
        (s->x = exchange_new(s->list, s->n, WIRE_F32, e)))
        return s;
    if (s) exchange_close(s);
    return NULL;
}

/* As a backward pass does: from the last parameter to the first. */
static void make_final(struct exchange_state *s)
{
    const struct timespec pause = {s->pause / 1000, s->pause % 1000 * 1000000};

    for (int64_t i = s->n - 1; s->pause && i >= 0; i--) {
        nanosleep(&pause, NULL);
        exchange_final(s->x, &s->t[i]);
    }
}

/* Each value of the gradients' sum must be that of all processes. */
static bool exchange_run(void *p, double *units, struct err *e)
{
    struct exchange_state *s = p;
    const float all = (float)cluster_size() * (float)(cluster_size() + 1) / 2;
    bool ok = true;

    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < s->t[i].cols; k++)
            ((float *)s->t[i].grad)[k] = (float)(cluster_rank() + 1);
    exchange_begin(s->x);
    make_final(s);
    exchange_finish(s->x);
    for (int64_t i = 0; i < s->n; i++) {
        const struct adamw_part *part = &exchange_parts(s->x)[i];
        for (int64_t k = part->first; k < part->first + part->n; k++)
            ok = ok && fabsf(((float *)s->t[i].grad)[k] - all) < 0.5F;
    }
    exchange_values(s->x);
    *units += 1;
    return cluster_agree(ok || err_set(e, "a gradient is not the sum"), e);
}

static bool exchange_finish_work(void *p, struct err *e)
{
    const struct exchange_state *s = p;

    (void)e;
    report_sent(s->x);
    return true;
}

const struct work work_cluster_exchange = {"cluster-exchange", exchange_open, exchange_run,
                                           exchange_finish_work, exchange_close};
