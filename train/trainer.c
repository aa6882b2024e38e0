/* trainer.c - the training loop: order of the samples, accumulation, clipping, checkpoints. A step:
 *
 *     samples  order_at(step * batch_size + i), i = 0 .. batch_size - 1, in micro-batches
 *     loss     sum over all labelled tokens of the step of -log p(label) / their number
 *     update   AdamW at schedule_lr(step), gradients times min(1, clip / |gradient|)
 *
 * Dividing by the number of labelled tokens over all micro-batches means that how a batch is cut
 * does not change the step. A checkpoint at step s holds what is needed to continue as if nothing
 * had happened: the trained values, the optimiser's state, s; the position in the data follows
 * from s. */
#include "train/trainer.h"
#include "base/log.h"
#include "base/clock.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"
#include "data/order.h"
#include "optim/adamw.h"
#include "train/record/checkpoint.h"
#include "train/score/evaluate.h"
#include "train/forecast/room.h"
#include "train/record/tensorboard.h"
#include "base/units.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct trainer {
    struct run *r;
    struct model *m;
    const struct train_job *job;
    struct adamw opt;
    struct param **trained;
    int64_t n_trained, steps, step;
    double tokens, seconds; /* trained so far, also before a resume */
    struct schedule schedule;
    struct order order;
    struct ckpt_item *items; /* [n_items] */
    size_t n_items;
    char *names;            /* of the items */
    struct sample *samples; /* [batch_size] of the current step */
    struct batch_buffer batch;
    struct tb tb;
    int64_t last_saved;
    bool gave_up; /* a signal came in the middle of a step */
};

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
    int64_t layers;
    size_t bytes;
    bool ok = room_recompute(r, m, r->room, build_graph, &g, &layers, &bytes, e);

    return ok ? g.loss : NULL;
}

enum { ITEM_NAME = 300, PARAM_ITEMS = 5 };

static void add_item(struct trainer *t, const struct param *p, const char *suffix,
                     struct ckpt_item item)
{
    char *name = t->names + t->n_items * ITEM_NAME;

    /* q_proj is two parameters: row0 tells them apart */
    snprintf(name, ITEM_NAME, "%s[%lld]%s", p->name, (long long)p->row0, suffix);
    item.name = name;
    t->items[t->n_items++] = item;
}

/* The moments are saved as stored, so that a resumed training gives the same bits. */
static bool list_items(struct trainer *t, struct err *e)
{
    static const char *const suffix[2][2] = {{".exp_avg", ".exp_avg.scale"},
                                             {".exp_avg_sq", ".exp_avg_sq.scale"}};
    static const enum ckpt_type types[MOMENT_TYPES] = {
        [MOMENT_F32] = CKPT_F32, [MOMENT_BF16] = CKPT_BF16, [MOMENT_8BIT] = CKPT_U8};
    size_t most = (size_t)(PARAM_ITEMS * t->n_trained);

    t->items = mem_new(most, sizeof *t->items, "checkpoint items", e);
    t->names = mem_new(most, ITEM_NAME, "checkpoint items", e);
    if (!t->items || !t->names) return false;
    for (int64_t i = 0; i < t->n_trained; i++) {
        const struct param *p = t->trained[i];
        const struct moment *moments[2] = {&t->opt.slots[i].m, &t->opt.slots[i].v};
        struct ckpt_item item = {.type = CKPT_F32, .rows = p->t.rows, .cols = p->t.cols};
        item.data = p->own;
        add_item(t, p, "", item);
        for (int k = 0; k < 2; k++) {
            item.type = types[moments[k]->type];
            item.data = moments[k]->data;
            add_item(t, p, suffix[k][0], item);
            if (moments[k]->scale)
                add_item(t, p, suffix[k][1],
                         (struct ckpt_item){.type = CKPT_F32,
                                            .rows = 1,
                                            .cols = moment_blocks(moments[k]->n),
                                            .data = moments[k]->scale});
        }
    }
    return true;
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
         list_items(t, e);
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

static bool save(struct trainer *t, struct err *e)
{
    char meta[512], *dir;
    bool ok;

    if (t->last_saved == t->step) return true;
    if (!watch_check(e)) return false; /* do not keep what was trained on changed files */
    snprintf(meta, sizeof meta,
             "{\"point\":\"%s\",\"phase\":\"%s\",\"step\":%lld,\"steps\":%lld,\"tokens\":%.17g,"
             "\"seconds\":%.17g,\"data\":\"%s\",\"samples\":%lld}",
             t->job->point, t->job->phase, (long long)t->step, (long long)t->steps, t->tokens,
             t->seconds, t->r->train.hash, (long long)t->r->train.n);
    dir = mem_printf(e, "%s/checkpoints", t->job->dir);
    if (!dir) return false;
    ok = checkpoint_dir_save(dir, t->step, t->items, t->n_items, meta, (int)t->r->c.checkpoint.keep,
                             e);
    free(dir);
    if (ok) t->last_saved = t->step;
    return ok;
}

/* Whether meta is of this training at that step: a file can be copied or renamed. */
static bool meta_fits(const void *arg, int64_t step, const char *meta, struct err *e)
{
    const struct train_job *job = ((const struct trainer *)arg)->job;
    static const char *const numbers[] = {"step", "steps", "tokens", "seconds", "samples"};
    const char *point, *phase;
    struct jsonc doc;
    bool ok;

    if (!jsonc_parse(&doc, "meta", meta, strlen(meta), e)) return false;
    point = cJSON_GetStringValue(cJSON_GetObjectItem(doc.root, "point"));
    phase = cJSON_GetStringValue(cJSON_GetObjectItem(doc.root, "phase"));
    ok = point && phase && cJSON_IsString(cJSON_GetObjectItem(doc.root, "data"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        ok = ok && cJSON_IsNumber(cJSON_GetObjectItem(doc.root, numbers[i]));
    if (!ok) {
        err_set(e, "is not a checkpoint of this program");
    } else {
        const double at = cJSON_GetObjectItem(doc.root, "step")->valuedouble;
        ok = at == (double)step && strcmp(point, job->point) == 0 && strcmp(phase, job->phase) == 0;
        if (!ok) err_set(e, "was saved as step %.0f of %s %s", at, point, phase);
    }
    jsonc_close(&doc);
    return ok;
}

/* Checks that the checkpoint belongs to these data, and takes its counters. */
static bool read_meta(struct trainer *t, const struct ckpt_found *found, struct err *e)
{
    struct jsonc doc;
    bool ok;

    if (!jsonc_parse(&doc, "meta", found->meta, strlen(found->meta), e))
        return err_context(e, "%s/checkpoints: step %lld", t->job->dir, (long long)found->step);
    const cJSON *steps = cJSON_GetObjectItem(doc.root, "steps");
    const char *data = cJSON_GetStringValue(cJSON_GetObjectItem(doc.root, "data"));
    const cJSON *samples =
        cJSON_GetObjectItem(doc.root, "samples"); /* fewer where pictures broke */

    ok = (int64_t)steps->valuedouble == t->steps &&
         (int64_t)samples->valuedouble == t->r->train.n && strcmp(data, t->r->train.hash) == 0;
    if (!ok)
        err_set(e,
                "%s/checkpoints: made with other data or another number of steps (%lld, now "
                "%lld): delete it or undo the change",
                t->job->dir, (long long)steps->valuedouble, (long long)t->steps);
    else {
        t->tokens = cJSON_GetObjectItem(doc.root, "tokens")->valuedouble;
        t->seconds = cJSON_GetObjectItem(doc.root, "seconds")->valuedouble;
        t->step = t->last_saved = t->opt.step = found->step;
    }
    jsonc_close(&doc);
    return ok;
}

/* Loads the newest checkpoint, and removes later entries from the metrics. */
static bool restore(struct trainer *t, struct err *e)
{
    struct metric tags[3] = {metric_tag("point", t->job->point),
                             metric_tag("phase", t->job->phase)};
    struct ckpt_found found = {.step = -1};
    const struct ckpt_check check = {meta_fits, t};
    char *dir = mem_printf(e, "%s/checkpoints", t->job->dir), *jsonl = NULL;
    bool ok = dir && checkpoint_dir_latest(dir, t->items, t->n_items, &check, &found, e);

    t->last_saved = -1;
    if (ok && found.warning) log_line("%s", found.warning);
    if (ok && found.step >= 0) {
        ok = read_meta(t, &found, e);
        if (ok)
            log_line("%s %s: continues from step %lld of %lld", t->job->point, t->job->phase,
                     (long long)t->step, (long long)t->steps);
    }
    ckpt_found_free(&found);
    free(dir);
    if (!ok) return false;
    /* A step is logged after it is done, an evaluation before the step: both will be repeated. */
    jsonl = run_path(t->r, e, "metrics.jsonl");
    if (!jsonl) return false;
    metrics_close(&t->r->metrics);
    tags[2] = metric_tag("event", "train");
    ok = metrics_rewind(jsonl, tags, 3, (double)t->step, e);
    tags[2] = metric_tag("event", "eval");
    ok = ok && metrics_rewind(jsonl, tags, 3, (double)t->step - 1, e);
    tags[2] = metric_tag("event", "end");
    ok = ok && metrics_rewind(jsonl, tags, 3, (double)t->step - 1, e) &&
         metrics_open(&t->r->metrics, jsonl, e);
    free(jsonl);
    return ok;
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
    if (!save(t, e)) return false;
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
            if (!save(t, e)) return false;
            log_line("%s %s, step %lld of %lld: loss %.4f; saved", t->job->point, t->job->phase,
                     (long long)t->step, (long long)t->steps, s.loss);
        }
    }
    return save(t, e);
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
    bool ok = open_trainer(&t, e) && restore(&t, e) && open_tb(&t, e) && train(&t, e);

    if (ok)
        log_line("%s %s: %lld step%s, %.0f tokens, %s", job->point, job->phase, (long long)t.steps,
                 plural(t.steps), t.tokens, unit_seconds(text, t.seconds));
    ok = ok && log_end(&t, e);
    close_trainer(&t);
    return ok;
}
