/* trainer.c - the training loop: order of the samples, accumulation, clipping. A step:
 *
 *     samples  order_at(step * batch_size + i), i = 0 .. batch_size - 1, in micro-batches
 *     loss     sum over all labelled tokens of the step of -log p(label) / their number
 *     update   AdamW at schedule_lr(step), gradients times min(1, clip / |gradient|)
 *
 * Dividing by the number of labelled tokens over all micro-batches means that how a batch is cut
 * does not change the step. Checkpoints: trainer_state.c. */
#include "train/trainer.h"
#include "base/log.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"
#include "train/score/evaluate.h"
#include "train/trainer_parts.h"
#include "train/forecast/room.h"
#include "base/units.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int64_t train_steps(const struct config_phase *p, int64_t n)
{
    int64_t steps = (int64_t)(p->epochs * (double)n / (double)p->batch_size);

    if (p->steps) return p->steps;
    return steps > 0 ? steps : 1;
}

struct graph {
    struct run *r;
    struct model *m;
    const struct dataset *d;
    struct batch_buffer *b;
    double scale;
    struct tensor *loss;
};

static bool build_graph(void *arg, int64_t layers, size_t *bytes, struct err *e)
{
    struct graph *g = arg;
    struct forward f = {.batch = &g->b->batch, .recompute = layers};

    tape_begin(g->r->tape, true);
    if (!run_pictures(g->r, g->m, g->d, g->b, &f.features, e)) return false;
    g->loss = model_loss(g->m, g->r->tape, &f, g->scale);
    *bytes = tape_bytes(g->r->tape);
    return true;
}

struct tensor *train_graph(struct run *r, struct model *m, const struct dataset *d,
                           struct batch_buffer *b, double scale, struct err *e)
{
    struct graph g = {r, m, d, b, scale, NULL};
    struct room_graph fit = {.build = build_graph, .arg = &g, .room = r->room};

    return room_recompute(r, m, &fit, e) ? g.loss : NULL;
}

/* By now everything is allocated that lives as long as the training, including the region of
 * earlier graphs, which the step's graph reuses. */
static void set_room(struct trainer *t)
{
    double own, mapped, held = room_held() - (double)tape_region(t->r->tape);

    room_of_params(t->m, &own, &mapped);
    t->r->room = room_left(t->r, held > 0 ? held : 0, mapped);
}

/* Of a phase's order of the data, and of what is rounded at random. */
static uint64_t seed_of(const struct run *r, int phase)
{
    return (uint64_t)r->c.run.seed * 1000003u + (uint64_t)phase + 1;
}

bool train_each(const struct run *r, int phase, entry_visitor *visit, void *arg, struct err *e)
{
    const struct config_phase *p = config_phase(&r->c, phase);
    const int64_t n = r->train.n, drawn = train_steps(p, n) * p->batch_size;
    struct order order = {0};
    bool ok = order_init(&order, seed_of(r, phase), n, e);

    for (int64_t i = 0; ok && i < drawn && i < n; i++) /* n in a row are all */
        visit(arg, order_at(&order, i));
    order_free(&order);
    return ok;
}

static bool open_trainer(struct trainer *t, struct err *e)
{
    struct model *m = t->m;
    const struct config *c = &t->r->c;
    uint64_t seed = seed_of(t->r, t->job->index);
    struct tensor **params;
    bool ok;

    if (t->r->train.n == 0)
        return err_set(e, "%s: no usable sample is left to train on", t->job->phase);
    if (!model_train(m, t->job->kinds, e)) return false;
    t->trained = mem_new((size_t)m->n_params, sizeof *t->trained, "trained parameters", e);
    params = mem_new((size_t)m->n_params, sizeof *params, "trained parameters", e);
    ok = t->trained && params;
    for (int64_t i = 0; ok && i < m->n_params; i++) {
        if (!m->params[i].t.needs_grad) continue;
        params[t->n_trained] = &m->params[i].t;
        t->trained[t->n_trained++] = &m->params[i];
    }
    ok = ok && adamw_init(&t->opt, params, t->n_trained, (enum moment_type)c->optim.state, e) &&
         trainer_list(t, e);
    free(params);
    if (!ok) return false;
    t->opt.beta1 = c->optim.beta1;
    t->opt.beta2 = c->optim.beta2;
    t->opt.eps = c->optim.eps;
    t->opt.weight_decay = c->optim.weight_decay;
    t->opt.seed = seed;
    t->steps = train_steps(t->job->p, t->r->train.n);
    t->schedule = (struct schedule){.peak = t->job->p->lr,
                                    .min_lr = c->optim.min_lr,
                                    .warmup = c->optim.warmup,
                                    .decay = c->optim.decay,
                                    .style = (enum decay_style)c->optim.decay_style,
                                    .steps = t->steps};
    set_room(t);
    t->samples = mem_new((size_t)t->job->p->batch_size, sizeof *t->samples, "a batch", e);
    return t->samples && order_init(&t->order, seed, t->r->train.n, e);
}

static void close_trainer(struct trainer *t)
{
    adamw_free(&t->opt);
    order_free(&t->order);
    batch_free(&t->batch);
    tb_close(&t->tb);
    free(t->trained);
    free(t->items);
    free(t->names);
    free(t->samples);
}

static bool open_tb(struct trainer *t, struct err *e)
{
    char *dir = run_path(t->r, e, "tensorboard/%s/%s", t->job->point, t->job->phase);
    bool ok = dir && tb_open(&t->tb, dir, t->step ? t->step + 1 : 0, (double)time(NULL), e);

    free(dir);
    return ok;
}

static bool give_up(struct trainer *t, struct err *e)
{
    t->gave_up = true;
    return signals_go_on(e);
}

static bool no_room(const struct trainer *t, struct err *e)
{
    bool machine = e->machine;

    err_set(e, "%s %s: %s: try %s", t->job->point, t->job->phase, e->msg, room_advice(t->r));
    e->machine = machine;
    return false;
}

/* Loss and gradients of one micro-batch; adds the loss to *loss. */
static bool micro_batch(struct trainer *t, int64_t first, int64_t n, double scale, double *loss,
                        struct err *e)
{
    struct run *r = t->r;
    struct tensor *out;

    if (!batch_fill(&t->batch, t->samples + first, n, false, e)) return false;
    out = train_graph(r, t->m, &r->train, &t->batch, scale, e);
    if (!out) return false;
    if (!tape_plan(r->tape, r->memory_limit, e)) return no_room(t, e);
    if (!tape_forward(r->tape)) return give_up(t, e);
    *loss += (double)tensor_real(out)[0];
    return !isfinite(*loss) || tape_backward(r->tape, out) || give_up(t, e);
}

struct step_result {
    double loss, norm, lr, seconds;
    int64_t tokens, labels;
};

static bool diverged(struct trainer *t, const char *what, double value, struct err *e)
{
    if (t->last_saved > 0)
        return err_set(e,
                       "%s %s: the %s became %g at step %lld; the last good checkpoint is step "
                       "%lld in %s/checkpoints: try a smaller lr",
                       t->job->point, t->job->phase, what, value, (long long)t->step + 1,
                       (long long)t->last_saved, t->job->dir);
    return err_set(e,
                   "%s %s: the %s became %g at step %lld, before the first checkpoint: try a "
                   "smaller lr",
                   t->job->point, t->job->phase, what, value, (long long)t->step + 1);
}

static bool do_step(struct trainer *t, struct step_result *out, struct err *e)
{
    const struct config_phase *p = t->job->p;
    int64_t size = p->batch_size, micro = p->micro_batch ? p->micro_batch : size;
    double begin = clock_seconds(), clip = t->r->c.optim.clip;
    bool ok = true;

    memset(out, 0, sizeof *out);
    memset(t->samples, 0, (size_t)size * sizeof *t->samples);
    for (int64_t i = 0; ok && i < size; i++) {
        int64_t entry = order_at(&t->order, t->step * size + i);
        ok = dataset_sample(&t->r->train, entry, &t->samples[i], e);
        out->tokens += t->r->train.entries[entry].tokens;
        out->labels += t->r->train.entries[entry].labels;
    }
    for (int64_t i = 0; ok && i < size; i += micro)
        ok = micro_batch(t, i, size - i < micro ? size - i : micro, 1 / (double)out->labels,
                         &out->loss, e);
    for (int64_t i = 0; i < size; i++)
        sample_free(&t->samples[i]);
    if (!ok) return false;
    if (!isfinite(out->loss)) return diverged(t, "loss", out->loss, e);
    out->norm = adamw_grad_norm(&t->opt);
    if (!isfinite(out->norm)) return diverged(t, "gradient", out->norm, e);
    out->lr = schedule_lr(&t->schedule, t->step);
    adamw_step(&t->opt, out->lr, clip > 0 && out->norm > clip ? clip / out->norm : 1);
    out->seconds = clock_seconds() - begin;
    t->step++;
    t->tokens += (double)out->tokens;
    t->seconds += out->seconds;
    return true;
}

static bool log_step(struct trainer *t, const struct step_result *s, struct err *e)
{
    const struct train_job *j = t->job;
    double wall = (double)time(NULL), rate = (double)s->tokens / s->seconds;
    double left = t->seconds / (double)t->step * (double)(t->steps - t->step);
    char text[UNIT_TEXT];
    struct metric line[] = {metric_tag("point", j->point),
                            metric_tag("phase", j->phase),
                            metric_tag("event", "train"),
                            metric_num("step", (double)t->step),
                            metric_num("tokens", t->tokens),
                            metric_num("loss", s->loss),
                            metric_num("lr", s->lr),
                            metric_num("grad_norm", s->norm),
                            metric_num("labels", (double)s->labels)};
    bool ok = metrics_write(&t->r->metrics, line, sizeof line / sizeof *line, e) &&
              tb_scalar(&t->tb, "train/loss", t->step, wall, s->loss, e) &&
              tb_scalar(&t->tb, "train/lr", t->step, wall, s->lr, e) &&
              tb_scalar(&t->tb, "train/grad_norm", t->step, wall, s->norm, e) &&
              tb_scalar(&t->tb, "train/tokens_per_s", t->step, wall, rate, e);

    log_progress(
        "%s %s  step %lld/%lld  loss %.4f  %.0f tokens/s  %s left  lr %.1e  |gradient| %.3f",
        j->point, j->phase, (long long)t->step, (long long)t->steps, s->loss, rate,
        unit_seconds(text, left), s->lr, s->norm);
    return ok;
}

/* Adds a point to the curve: evaluates the model after t->step steps. */
static bool curve_point(struct trainer *t, struct err *e)
{
    struct scores s = {0};
    char context[300];
    const struct evaluate_how how = {.curve = true, .context = context};
    const struct score_time when = {t->job->point, t->job->phase, t->step, t->tokens};
    bool ok;

    if (t->r->n_eval == 0) return true;
    snprintf(context, sizeof context, "%s %s, step %lld of %lld", t->job->point, t->job->phase,
             (long long)t->step, (long long)t->steps);
    ok = evaluate(t->r, t->m, &how, &s, e) && scores_write(&s, t->r, &when, e) &&
         tb_scalar(&t->tb, "eval/score", t->step, (double)time(NULL), scores_main(&s, t->r), e);
    scores_free(&s);
    return ok;
}

static bool eval_is_due(const struct trainer *t)
{
    int64_t every = t->job->p->eval_every;

    return t->step == 0 || t->step == t->steps || (every && t->step % every == 0);
}

/* The state is that of t->step even if the next step was abandoned: only the optimiser changes it,
 * at the end of a step. */
static bool interrupted(struct trainer *t, struct err *e)
{
    if (!trainer_save(t, e)) return false;
    return err_set(e, "stopped by %s; %s %s is saved at step %lld: continue with --resume",
                   signals_name(signals_came()), t->job->point, t->job->phase, (long long)t->step);
}

static bool train(struct trainer *t, struct err *e)
{
    int64_t every = t->r->c.checkpoint.every;
    struct step_result s;

    for (;;) {
        if (eval_is_due(t) && !curve_point(t, e)) return signals_came() ? interrupted(t, e) : false;
        if (t->step == t->steps) break;
        if (signals_came()) return interrupted(t, e);
        if (!do_step(t, &s, e)) return t->gave_up ? interrupted(t, e) : false;
        if (!log_step(t, &s, e)) return false;
        if (t->step % every == 0) {
            if (!trainer_save(t, e)) return false;
            log_line("%s %s, step %lld of %lld: loss %.4f; saved", t->job->point, t->job->phase,
                     (long long)t->step, (long long)t->steps, s.loss);
        }
    }
    return trainer_save(t, e);
}

/* Logs what the report says about the training; the seconds are the only number here that differs
 * between runs of the same config. */
static bool log_end(const struct trainer *t, struct err *e)
{
    int64_t all = 0, trained = 0;

    for (int64_t i = 0; i < t->m->n_params; i++)
        all += tensor_count(&t->m->params[i].t);
    for (int64_t i = 0; i < t->n_trained; i++)
        trained += tensor_count(&t->trained[i]->t);
    struct metric line[] = {metric_tag("point", t->job->point),
                            metric_tag("phase", t->job->phase),
                            metric_tag("event", "end"),
                            metric_num("step", (double)t->step),
                            metric_num("tokens", t->tokens),
                            metric_num("seconds", t->seconds),
                            metric_num("trained_parameters", (double)trained),
                            metric_num("parameters", (double)all)};

    return metrics_write(&t->r->metrics, line, sizeof line / sizeof *line, e);
}

bool train_model(struct run *r, struct model *m, const struct train_job *job, struct err *e)
{
    struct trainer t = {.r = r, .m = m, .job = job};
    char text[UNIT_TEXT];
    bool ok = open_trainer(&t, e) && trainer_restore(&t, e) && open_tb(&t, e) && train(&t, e);

    if (ok)
        log_line("%s %s: %lld step%s, %.0f tokens, %s", job->point, job->phase, (long long)t.steps,
                 plural(t.steps), t.tokens, unit_seconds(text, t.seconds));
    ok = ok && log_end(&t, e);
    close_trainer(&t);
    return ok;
}
