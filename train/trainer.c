/* trainer.c - the training loop: order of the samples, accumulation, clipping. A step:
 *
 *     samples  order_at(step * batch_size + i), i = 0 .. batch_size - 1, in micro-batches
 *     loss     sum over all labelled tokens of the step of -log p(label) / their number, or with
 *              a teacher of what autograd/distill.c or hidden.c has
 *     update   AdamW at schedule_lr(step), gradients times min(1, clip / |gradient|)
 *
 * Dividing by the number of labelled tokens over all micro-batches means that how a batch is cut
 * does not change the step. Several processes (cluster/) cut the samples between them; each
 * steps the part of the values that it owns. Checkpoints: trainer_state.c. */
#include "train/trainer.h"
#include "base/log.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"
#include "cluster/cluster.h"
#include "cluster/share.h"
#include "train/caches.h"
#include "train/score/evaluate.h"
#include "train/teacher_store.h"
#include "train/trainer_parts.h"
#include "train/forecast/room.h"
#include "base/units.h"

#include <malloc.h>
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

int64_t train_asked(const struct config_phase *p, int64_t n)
{
    const int64_t drawn = train_steps(p, n) * p->batch_size;

    return p->teacher == TEACHER_STORED && n < drawn ? n : drawn;
}

struct graph {
    struct run *r;
    struct model *m;
    const struct dataset *d;
    struct batch_buffer *b;
    const struct train_loss *how;
    struct tensor *loss;
};

static bool build_graph(void *arg, int64_t layers, size_t *bytes, struct err *e)
{
    struct graph *g = arg;
    struct forward f = {.batch = &g->b->batch,
                        .recompute = layers,
                        .held = g->how->held,
                        .held_fault = g->how->fault};

    tape_begin(g->r->tape, true);
    if (!run_pictures(g->r, g->m, g->d, g->b, &f.features, e)) return false;
    const struct distill *d = &g->how->distill;
    g->loss = g->how->hidden.to ? model_hidden_loss(g->m, g->r->tape, &f, d->scale, &g->how->hidden)
              : d->teacher      ? model_distill(g->m, g->r->tape, &f, d)
                                : model_loss(g->m, g->r->tape, &f, d->scale);
    *bytes = tape_bytes(g->r->tape);
    return true;
}

struct tensor *train_graph(struct run *r, struct model *m, const struct dataset *d,
                           struct batch_buffer *b, const struct train_loss *how, struct err *e)
{
    struct graph g = {r, m, d, b, how, NULL};
    struct room_graph fit = {.build = build_graph, .arg = &g, .room = r->room};

    return room_recompute(r, m, &fit, e) ? g.loss : NULL;
}

/* By now everything is allocated that lives as long as the training, including the region of
 * earlier graphs, which the step's graph reuses. */
static void set_room(struct trainer *t)
{
    double own, mapped, held;

    malloc_trim(0); /* what earlier steps have freed is not held */
    held = room_held() - (double)tape_region(t->r->tape);
    room_of_params(t->m, &own, &mapped);
    if (t->teacher.open) mapped += teacher_mapped(&t->teacher.m, t->job->kinds);
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

/* What is trained, who steps which part of it, and the state of this process's part. */
static bool open_params(struct trainer *t, struct err *e)
{
    const struct config *c = &t->r->c;
    struct model *m = t->m;
    struct tensor **params;
    bool ok;

    t->trained = mem_new((size_t)m->n_params, sizeof *t->trained, "trained parameters", e);
    params = mem_new((size_t)m->n_params, sizeof *params, "trained parameters", e);
    ok = t->trained && params;
    for (int64_t i = 0; ok && i < m->n_params; i++) {
        if (!m->params[i].t.needs_grad) continue;
        params[t->n_trained] = &m->params[i].t;
        t->trained[t->n_trained++] = &m->params[i];
    }
    if (ok) t->exchange = exchange_new(params, t->n_trained, (enum wire)c->cluster.wire, e);
    ok = t->exchange &&
         adamw_init(&t->opt, params, exchange_parts(t->exchange), t->n_trained,
                    (enum moment_type)c->optim.state, e) &&
         trainer_list(t, e);
    free(params);
    return ok;
}

static bool open_samples(struct trainer *t, struct err *e)
{
    const size_t size = (size_t)t->job->p->batch_size;

    t->samples = mem_new(size, sizeof *t->samples, "a batch", e);
    t->owner = mem_new(size, sizeof *t->owner, "a batch", e);
    t->cost = mem_new(size + (size_t)cluster_size(), sizeof *t->cost, "a batch", e);
    return t->samples && t->owner && t->cost;
}

/* The kind of cache that the tokens are read as, if any. */
static bool open_held(struct trainer *t, struct err *e)
{
    const char *point = t->job->point, *phase = t->job->phase;
    char text[CACHE_KIND_TEXT];
    struct cache_kind kind;

    if (!caches_trained(t->job->p, &kind)) return true;
    log_line("%s %s: attention reads tokens as a cache in %s holds them", point, phase,
             cache_kind_text(text, &kind));
    if (caches_idle(&kind, t->m))
        log_line("%s %s: its rotation changes nothing: " CACHES_IDLE, point, phase);
    if (caches_unscored(&t->r->c, t->m, &kind)) log_line("%s %s: " CACHES_UNSCORED, point, phase);
    return cache_how_new(&t->held, t->m, &kind, e);
}

bool trainer_open(struct trainer *t, struct err *e)
{
    struct model *m = t->m;
    const struct config *c = &t->r->c;
    uint64_t seed = seed_of(t->r, t->job->index);

    if (t->r->train.n == 0)
        return err_set(e, "%s: no usable sample is left to train on", t->job->phase);
    if (!model_train(m, t->job->kinds, e)) return false;
    if (!open_params(t, e) || !teacher_open(&t->teacher, t->r, t->job->p, t->job->index, e) ||
        !open_held(t, e))
        return false;
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
    return open_samples(t, e) && order_init(&t->order, seed, t->r->train.n, e);
}

void trainer_close(struct trainer *t)
{
    tape_on_final(t->r->tape, NULL, NULL);
    teacher_close(&t->teacher);
    cache_how_free(&t->held);
    adamw_free(&t->opt);
    exchange_free(t->exchange);
    order_free(&t->order);
    batch_free(&t->batch);
    tb_close(&t->tb);
    free(t->trained);
    ckpt_list_free(&t->items);
    free(t->samples);
    free(t->owner);
    free(t->cost);
}

static bool open_tb(struct trainer *t, struct err *e)
{
    char *dir = run_path(t->r, e, "tensorboard/%s/%s", t->job->point, t->job->phase);
    bool ok = dir && (!cluster_first() ||
                      tb_open(&t->tb, dir, t->step ? t->step + 1 : 0, (double)time(NULL), e));

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

/* Plans the graph on the tape, and runs it forward. */
static bool run_forward(struct trainer *t, struct err *e)
{
    if (!tape_plan(t->r->tape, t->r->memory_limit, e)) return no_room(t, e);
    return tape_forward(t->r->tape) || give_up(t, e);
}

/* What the teacher says of the batch, n samples. */
static bool ask_teacher(struct trainer *t, const struct sample *s, int64_t n, struct err *e)
{
    if (t->teacher.stored) return teacher_store_read(&t->teacher, &t->r->train, s, n, e);
    return !t->teacher.open ||
           (teacher_graph(&t->teacher, t->r, &t->r->train, &t->batch, e) && run_forward(t, e));
}

/* `what` happened in this step, which cannot be made. */
static bool ends(const struct trainer *t, const char *what, const char *advice, struct err *e)
{
    if (t->last_saved > 0)
        return err_set(e,
                       "%s %s: %s at step %lld; the last good checkpoint is step %lld in "
                       "%s/checkpoints: try %s",
                       t->job->point, t->job->phase, what, (long long)t->step + 1,
                       (long long)t->last_saved, t->job->dir, advice);
    return err_set(e, "%s %s: %s at step %lld, before the first checkpoint: try %s", t->job->point,
                   t->job->phase, what, (long long)t->step + 1, advice);
}

/* A NaN has no sign that would mean anything. */
static bool diverged(const struct trainer *t, const char *name, double value, struct err *e)
{
    char what[80];

    snprintf(what, sizeof what, "the %s became %g", name, isnan(value) ? NAN : value);
    return ends(t, what, "a smaller lr", e);
}

/* Whether the kind of cache holds all that was read. Of what is not finite before it is packed, it
 * is not the kind that is to blame. */
static bool check_held(const struct trainer *t, struct err *e)
{
    const struct cache_fault *f = &t->fault;
    char what[200];

    if (!f->found || !isfinite(f->value)) return true;
    const struct row_form *form = t->held.kind.form[f->place % CACHE_ROWS];
    snprintf(what, sizeof what,
             "a %s of layer %lld became %g, and %s, as stage2.cache packs it, holds up to %g,",
             cache_row_names[f->place % CACHE_ROWS], (long long)(f->place / CACHE_ROWS), f->value,
             form->name, (double)form->most);
    return ends(t, what, "a smaller lr, or bf16 there, which holds all", e);
}

/* Loss and gradients of one micro-batch; adds the loss and its terms to *out. */
static bool micro_batch(struct trainer *t, int64_t first, int64_t n, struct step_result *out,
                        struct err *e)
{
    struct run *r = t->r;
    struct distill_terms terms = {0, 0};
    const double weight = t->job->p->distill_weight;
    struct train_loss how = {
        .distill = {.weight = weight, .scale = 1 / (double)out->labels, .terms = &terms}};
    struct tensor *loss;

    if (!batch_fill(&t->batch, t->samples + first, n, false, e) ||
        !ask_teacher(t, t->samples + first, n, e))
        return false;
    if (t->teacher.open && t->job->p->loss == LOSS_DISTILL) how.distill.teacher = &t->teacher.said;
    how.held = t->held.layers ? &t->held : NULL;
    how.fault = &t->fault;
    how.hidden = (struct hidden){t->teacher.hidden, weight, 1 / (double)out->tokens, &terms};
    loss = train_graph(r, t->m, &r->train, &t->batch, &how, e);
    if (!loss || !run_forward(t, e) || !check_held(t, e)) return false;
    out->loss += (double)tensor_real(loss)[0];
    out->terms.ce += terms.ce;
    out->terms.distill += terms.distill;
    return !isfinite(out->loss) || tape_backward(r->tape, loss) || give_up(t, e);
}

/* Draws the step's samples, and opens those that are this process's. */
static bool draw(struct trainer *t, struct step_result *out, struct err *e)
{
    const int64_t size = t->job->p->batch_size, first = t->step * size;
    const struct dataset *d = &t->r->train;
    bool ok = true;

    for (int64_t i = 0; i < size; i++) {
        const struct dataset_entry *entry = &d->entries[order_at(&t->order, first + i)];
        t->cost[i] = entry->tokens;
        out->tokens += entry->tokens;
        out->labels += entry->labels;
    }
    share_by_cost(t->owner, t->cost, size, t->cost + size, cluster_size());
    memset(t->samples, 0, (size_t)size * sizeof *t->samples);
    t->n_samples = 0;
    for (int64_t i = 0; ok && i < size; i++)
        if (t->owner[i] == cluster_rank())
            ok = dataset_sample(d, order_at(&t->order, first + i), &t->samples[t->n_samples++], e);
    return ok;
}

/* Loss and gradients of this process's samples; others' parts leave in the last micro-batch. */
static bool differentiate(struct trainer *t, struct step_result *out, struct err *e)
{
    const struct config_phase *p = t->job->p;
    const int64_t n = t->n_samples, micro = p->micro_batch ? p->micro_batch : p->batch_size;
    bool ok = true;

    tape_on_final(t->r->tape, NULL, NULL);
    for (int64_t i = 0; ok && i < n; i += micro) {
        if (n - i <= micro) tape_on_final(t->r->tape, exchange_final, t->exchange);
        ok = micro_batch(t, i, n - i < micro ? n - i : micro, out, e);
    }
    return ok;
}

/* Loss and norm of all processes, if all have come so far. */
static bool meet(struct trainer *t, bool ok, struct step_result *out, struct err *e)
{
    double sums[] = {out->loss, 0, out->terms.ce, out->terms.distill};

    if (!cluster_go_on(ok, e)) {
        t->gave_up = t->gave_up || (cluster_size() > 1 && signals_came());
        return false;
    }
    sums[1] = adamw_grad_squares(&t->opt);
    if (!cluster_sum(sums, 4, e)) return false;
    out->loss = sums[0];
    out->norm = sqrt(sums[1]);
    out->terms = (struct distill_terms){sums[2], sums[3]};
    if (!isfinite(out->loss)) return diverged(t, "loss", out->loss, e);
    return isfinite(out->norm) || diverged(t, "gradient", out->norm, e);
}

bool trainer_step(struct trainer *t, struct step_result *out, struct err *e)
{
    double begin = clock_seconds(), clip = t->r->c.optim.clip;
    bool ok;

    memset(out, 0, sizeof *out);
    exchange_begin(t->exchange);
    ok = draw(t, out, e) && cache_how_renew(&t->held, t->m, e) && differentiate(t, out, e);
    for (int64_t i = 0; i < t->n_samples; i++)
        sample_free(&t->samples[i]);
    exchange_finish(t->exchange);
    if (!meet(t, ok, out, e)) return false;
    out->lr = schedule_lr(&t->schedule, t->step);
    adamw_step(&t->opt, out->lr, clip > 0 && out->norm > clip ? clip / out->norm : 1);
    exchange_values(t->exchange);
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

    if (!cluster_first()) return true;
    struct metrics_value line[] = {
        metric_tag("point", j->point),
        metric_tag("phase", j->phase),
        metric_tag("event", "train"),
        metric_num("step", (double)t->step),
        metric_num("tokens", t->tokens),
        metric_num("loss", s->loss),
        metric_num("lr", s->lr),
        metric_num("grad_norm", s->norm),
        metric_num("labels", (double)s->labels),
        metric_num("ce", s->terms.ce),
        metric_num(j->p->loss == LOSS_LAYERS ? "layers" : "distill", s->terms.distill)};
    const size_t n = sizeof line / sizeof *line - (t->teacher.open ? 0 : 2);
    bool ok = metrics_write(&t->r->metrics, line, n, e) &&
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
    const struct score_time when = {t->job->point, t->job->phase, "eval", t->step, t->tokens};
    bool ok;

    if (t->r->n_eval == 0) return true;
    snprintf(context, sizeof context, "%s %s, step %lld of %lld", t->job->point, t->job->phase,
             (long long)t->step, (long long)t->steps);
    if (!evaluate(t->r, t->m, &how, &s, e)) return false;
    ok = true;
    if (cluster_first())
        ok = scores_write(&s, t->r, &when, e) &&
             tb_scalar(&t->tb, "eval/score", t->step, (double)time(NULL), scores_main(&s, t->r), e);
    scores_free(&s);
    return cluster_agree(ok, e);
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

/* Whether a signal has come to one of the processes: they learn of it where they meet, so that
 * all stop at the same step. */
static bool is_stopped(bool *stopped, struct err *e)
{
    int sig = signals_came();
    const bool ok = cluster_signal(&sig, e);

    *stopped = sig;
    return ok;
}

static bool train(struct trainer *t, struct err *e)
{
    int64_t every = t->r->c.checkpoint.every;
    struct step_result s;
    bool stopped;

    for (;;) {
        if (eval_is_due(t) && !curve_point(t, e)) return signals_came() ? interrupted(t, e) : false;
        if (t->step == t->steps) break;
        if (!is_stopped(&stopped, e)) return false;
        if (stopped) return interrupted(t, e);
        if (!trainer_step(t, &s, e)) return t->gave_up ? interrupted(t, e) : false;
        if (!cluster_agree(log_step(t, &s, e), e)) return false;
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

    if (!cluster_first()) return true;
    for (int64_t i = 0; i < t->m->n_params; i++)
        all += tensor_count(&t->m->params[i].t);
    for (int64_t i = 0; i < t->n_trained; i++)
        trained += tensor_count(&t->trained[i]->t);
    struct metrics_value line[] = {metric_tag("point", t->job->point),
                                   metric_tag("phase", t->job->phase),
                                   metric_tag("event", "end"),
                                   metric_num("step", (double)t->step),
                                   metric_num("tokens", t->tokens),
                                   metric_num("seconds", t->seconds),
                                   metric_num("trained_parameters", (double)trained),
                                   metric_num("parameters", (double)all)};

    return metrics_write(&t->r->metrics, line, sizeof line / sizeof *line, e);
}

/* What the processes had of the work: the first one's figures, which are about those of each. */
static void say_processes(const struct trainer *t)
{
    const double MiB = 0x1p20, state = adamw_state_bytes(&t->opt);
    const struct exchange_sent sent = exchange_sent(t->exchange);

    if (cluster_size() == 1) return;
    log_line(
        "%s %s: of %d processes: the optimiser's state here is %.2f MiB; sent a step: %.3f MiB "
        "(theory %.3f), of them %.3f of gradients, %.0f %% of these during the backward pass",
        t->job->point, t->job->phase, cluster_size(), state / MiB,
        (sent.gradients + sent.values) / MiB, exchange_theory(t->exchange) / MiB,
        sent.gradients / MiB, 100 * sent.early);
}

bool train_model(struct run *r, struct model *m, const struct train_job *job, struct err *e)
{
    struct trainer t = {.r = r, .m = m, .job = job};
    char text[UNIT_TEXT];
    bool ok = cluster_agree(trainer_open(&t, e), e) && trainer_restore(&t, e) &&
              cluster_agree(open_tb(&t, e), e) && train(&t, e);

    if (ok)
        log_line("%s %s: %lld step%s, %.0f tokens, %s", job->point, job->phase, (long long)t.steps,
                 plural(t.steps), t.tokens, unit_seconds(text, t.seconds));
    if (ok) say_processes(&t);
    ok = ok && cluster_agree(log_end(&t, e), e);
    trainer_close(&t);
    return ok;
}
