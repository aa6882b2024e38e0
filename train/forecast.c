/* forecast.c - which models there will be, and what they need. */
#include "train/forecast.h"
#include "base/mem.h"
#include "optim/moment.h"
#include "train/peft.h"
#include "train/factors.h"
#include "train/steps.h"
#include "train/trainer.h"
#include "train/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool forecast_open(struct forecast *f, struct run *r, struct err *e)
{
    bool made = model_is_there(r, "baseline");

    *f = (struct forecast){.r = r};
    if (!r->c.model.path && !made && !run_has_step(r, STEP_BASELINE))
        return err_set(e, "model.path: must be given where \"baseline\" is not one of run.steps");
    return r->c.model.path || made ? open_base_model(r, &f->base, e)
                                   : make_baseline_model(r, &f->base, e);
}

void forecast_close(struct forecast *f)
{
    model_close(&f->base);
    free(f->models);
    memset(f, 0, sizeof *f);
}

static struct forecast_model *add(struct forecast *f, const char *name, const char *training,
                                  const struct config_phase *phase, unsigned kinds)
{
    struct forecast_model *m = &f->models[f->n++];

    snprintf(m->name, sizeof m->name, "%s%s", name, phase ? training : "");
    m->phase = phase;
    m->kinds = phase ? kinds : 0;
    return m;
}

/* The point's MLA model; fails as the conversion itself would. */
static bool mla_state(const struct forecast *f, const struct point *pt, struct dry_state *s,
                      struct err *e)
{
    const struct config *c = &f->r->c;
    struct mdsvd_plan unused;

    *s = (struct dry_state){.state = ATTN_MLA,
                            .rope_dim = pt->rope_dim,
                            .method = (enum kv_method)c->svd.method,
                            .decoupled = c->svd.decoupled && f->base.has_vision};
    return point_plan(f->r, &f->base, pt, &s->latent, &unused, e);
}

static bool add_point(struct forecast *f, int64_t i, struct err *e)
{
    const struct config *c = &f->r->c;
    struct point pt = config_point(c, i), last = i ? config_point(c, i - 1) : (struct point){0};
    bool stage1 = run_has_step(f->r, STEP_STAGE1), stage2 = run_has_step(f->r, STEP_STAGE2);
    bool svd = stage2 || run_has_step(f->r, STEP_SVD);

    if ((stage1 || svd) && !point_check(f->r, &f->base, &pt, e)) return false;
    if (stage1 && pt.rope_dim != last.rope_dim) {
        struct forecast_model *m = add(f, pt.stage1, " stage 1", &c->stage1,
                                       peft_kinds(c->stage1.peft, c->stage1.projector));
        m->state = (struct dry_state){.state = ATTN_PARTIAL, .rope_dim = pt.rope_dim};
    }
    return !svd || mla_state(f, &pt,
                             &add(f, pt.name, " stage 2", stage2 ? &c->stage2 : NULL,
                                  peft_kinds(c->stage2.peft, c->stage2.projector))
                                  ->state,
                             e);
}

/* The set whose samples are the longest; NULL where nothing is scored. */
static const struct dataset *longest_eval(const struct run *r)
{
    const struct dataset *d = NULL;

    for (int64_t i = 0; i < r->n_eval; i++)
        if (r->eval[i].data.n && (!d || r->eval[i].data.longest > d->longest)) d = &r->eval[i].data;
    return d;
}

static bool measure(struct forecast *f, struct forecast_model *m, struct err *e)
{
    struct run *r = f->r;
    struct model shape = {0};
    size_t activations = 0, answers = 0;
    const struct dataset *eval = longest_eval(r);
    bool ok = dry_model(&shape, &f->base, &m->state, m->kinds, e);

    for (int64_t i = 0; ok && i < shape.n_params; i++) {
        const struct param *q = &shape.params[i];
        double n = (double)tensor_count(&q->t);
        m->count[q->kind] += n;
        m->all += n;
        if (q->t.needs_grad) {
            enum moment_type state = (enum moment_type)r->c.optim.state;
            m->trained += n;
            m->state_bytes += 2 * moment_bytes(moment_type_of(state, &q->t), tensor_count(&q->t));
        } else
            m->frozen_bytes += n * (double)dtype_size(q->t.dtype);
    }
    if (ok && m->phase) {
        int64_t size = m->phase->batch_size, micro = m->phase->micro_batch;
        ok = dry_activations(r, &shape, micro && micro < size ? micro : size, m->pixels,
                             &activations, e);
    }
    if (ok && eval) ok = dry_answers(r, &shape, eval, &answers, e);
    m->activations = (double)activations;
    m->answers = (double)answers;
    dry_model_free(&shape);
    return ok;
}

/* What the process holds now; 0 where the system does not say. */
static double resident_bytes(void)
{
    FILE *fp = fopen("/proc/self/statm", "r");
    long size, resident = 0;

    if (!fp) return 0;
    if (fscanf(fp, "%ld %ld", &size, &resident) != 2) resident = 0;
    fclose(fp);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

bool forecast_models(struct forecast *f, struct err *e)
{
    const struct config *c = &f->r->c;
    int64_t points = config_points(c);
    bool baseline = run_has_step(f->r, STEP_BASELINE);

    f->models = mem_new((size_t)(1 + 2 * points), sizeof *f->models, "the run's models", e);
    if (!f->models) return false;
    add(f, "base", "line", baseline ? &c->baseline : NULL, baseline_kinds(c))->pixels =
        baseline && c->baseline.vision;
    f->models[0].state.state = ATTN_FULL;
    for (int64_t i = 0; i < points; i++)
        if (!add_point(f, i, e)) return false;
    if (f->r->train.n == 0) return err_set(e, "data.train: no usable sample is left to train on");
    for (int64_t i = 0; i < f->n; i++)
        if (!measure(f, &f->models[i], e)) return false;
    f->program = resident_bytes();
    return true;
}

double forecast_trained_bytes(const struct forecast_model *m)
{
    return 2 * sizeof(float) * m->trained + m->state_bytes;
}

/* Training and answering take turns. */
double forecast_bytes(const struct forecast *f, const struct forecast_model *m)
{
    return f->program + (m->activations > m->answers ? m->activations : m->answers) +
           forecast_trained_bytes(m) + m->frozen_bytes;
}

/* What the user can make smaller. */
static const char *advice(const struct forecast_model *m)
{
    double trained = forecast_trained_bytes(m);

    if (m->answers > m->activations && m->answers > trained)
        return "a smaller evaluate.batch or evaluate.max_new_tokens";
    if (m->activations > trained)
        return "a smaller micro_batch or data.max_length, or optim.recompute true";
    return "a setting that trains less: a smaller model, peft set or rank";
}

bool forecast_fits(const struct forecast *f, struct err *e)
{
    const struct forecast_model *worst = &f->models[0];
    double limit = (double)f->r->memory_limit;
    char t[2][UNIT_TEXT];

    for (int64_t i = 1; i < f->n; i++)
        if (forecast_bytes(f, &f->models[i]) > forecast_bytes(f, worst)) worst = &f->models[i];
    if (forecast_bytes(f, worst) <= limit) return true;
    return err_set(e, "%s needs %s, run.memory_limit or the machine gives %s: try %s", worst->name,
                   unit_bytes(t[0], forecast_bytes(f, worst)), unit_bytes(t[1], limit),
                   advice(worst));
}
