/* trainer_state.c - the checkpoints of a training. One at step s holds what is needed to
 * continue as if nothing had happened: the trained values, the optimiser's state, s; the
 * position in the data follows from s. Each process saves the part that it owns; any number of
 * processes can read what another number has saved. */
#include "base/json/jsonc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/place.h"
#include "base/watch.h"
#include "cluster/cluster.h"
#include "train/trainer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ITEM_NAME = 300, PARAM_ITEMS = 5 };

/* What is being listed: the file of process `part` of `parts`. */
struct listing {
    const struct trainer *t;
    int part, parts;
    struct ckpt_list *l;
};

static void add_item(const struct listing *k, const struct param *p, const char *suffix,
                     struct ckpt_item item)
{
    char *name = k->l->names + k->l->n * ITEM_NAME;

    /* q_proj is two parameters: row0 tells them apart */
    snprintf(name, ITEM_NAME, "%s[%lld]%s", p->name, (long long)p->row0, suffix);
    item.name = name;
    k->l->items[k->l->n++] = item;
}

/* The item of a file that has `in_file` of a list's elements, of which this process keeps `own`
 * at `data`, of `bytes` each: what it reads, and where it goes. */
static struct ckpt_item overlap(enum ckpt_type type, const struct adamw_part *in_file,
                                const struct adamw_part *own, void *data, size_t bytes)
{
    struct ckpt_item item = {.type = type, .rows = 1, .cols = in_file->n};
    int64_t from = in_file->first, end = in_file->first + in_file->n;

    if (from < own->first) from = own->first;
    if (end > own->first + own->n) end = own->first + own->n;
    if (from >= end) return item;
    item.data = (char *)data + (size_t)(from - own->first) * bytes;
    item.from = from - in_file->first;
    item.n = end - from;
    return item;
}

static struct adamw_part in_blocks(const struct adamw_part *p)
{
    return (struct adamw_part){p->first / MOMENT_BLOCK, moment_blocks(p->n)};
}

/* The moments are saved as stored, so that a resumed training gives the same bits. */
static void list_moments(const struct listing *k, int64_t i, const struct adamw_part *in_file)
{
    static const char *const suffix[2][2] = {{".exp_avg", ".exp_avg.scale"},
                                             {".exp_avg_sq", ".exp_avg_sq.scale"}};
    static const enum ckpt_type types[MOMENT_TYPES] = {
        [MOMENT_F32] = CKPT_F32, [MOMENT_BF16] = CKPT_BF16, [MOMENT_8BIT] = CKPT_U8};
    static const size_t bytes[MOMENT_TYPES] = {
        [MOMENT_F32] = 4, [MOMENT_BF16] = 2, [MOMENT_8BIT] = 1};
    const struct adamw_slot *s = &k->t->opt.slots[i];
    const struct moment *moments[2] = {&s->m, &s->v};
    const struct adamw_part blocks = in_blocks(in_file), own = in_blocks(&s->part);

    for (int m = 0; m < 2; m++) {
        struct ckpt_item item = overlap(types[moments[m]->type], in_file, &s->part,
                                        moments[m]->data, bytes[moments[m]->type]);
        if (k->parts == 1) {
            item.rows = s->param->rows;
            item.cols = s->param->cols;
        }
        add_item(k, k->t->trained[i], suffix[m][0], item);
        if (moments[m]->scale)
            add_item(k, k->t->trained[i], suffix[m][1],
                     overlap(CKPT_F32, &blocks, &own, moments[m]->scale, sizeof(float)));
    }
}

/* Every process reads all values. */
static void list_param(const struct listing *k, int64_t i)
{
    const struct param *p = k->t->trained[i];
    const struct adamw_part all = {0, tensor_count(&p->t)};
    const struct adamw_part in_file =
        shards_part(exchange_shards(k->t->exchange), k->parts, k->part, i);
    struct ckpt_item item = overlap(CKPT_F32, &in_file, &all, p->own, sizeof(float));

    if (in_file.n == 0 && k->parts > 1) return;
    if (k->parts == 1) {
        item.rows = p->t.rows;
        item.cols = p->t.cols;
    }
    add_item(k, p, "", item);
    list_moments(k, i, &in_file);
}

static bool list_part(const void *arg, int part, int parts, struct ckpt_list *l, struct err *e)
{
    const struct trainer *t = arg;
    const struct listing k = {t, part, parts, l};
    size_t most = (size_t)(PARAM_ITEMS * t->n_trained);

    *l = (struct ckpt_list){0};
    l->items = mem_new(most, sizeof *l->items, "checkpoint items", e);
    l->names = mem_new(most, ITEM_NAME, "checkpoint items", e);
    for (int64_t i = 0; l->items && l->names && i < t->n_trained; i++)
        list_param(&k, i);
    return l->items && l->names;
}

bool trainer_list(struct trainer *t, struct err *e)
{
    return list_part(t, cluster_rank(), cluster_size(), &t->items, e);
}

bool trainer_save(struct trainer *t, struct err *e)
{
    char meta[600], *dir;
    bool ok;

    if (t->last_saved == t->step) return true;
    /* do not keep what was trained on changed files, nor elsewhere */
    if (!cluster_agree(watch_check(e) && place_check(e), e)) return false;
    snprintf(meta, sizeof meta,
             "{\"point\":\"%s\",\"phase\":\"%s\",\"step\":%lld,\"steps\":%lld,\"tokens\":%.17g,"
             "\"seconds\":%.17g,\"data\":\"%s\",\"samples\":%lld}",
             t->job->point, t->job->phase, (long long)t->step, (long long)t->steps, t->tokens,
             t->seconds, t->r->train.hash, (long long)t->r->train.n);
    dir = mem_printf(e, "%s/checkpoints", t->job->dir);
    if (!dir) return false;
    ok = checkpoint_dir_save(dir, t->step, t->items.items, t->items.n, meta,
                             (int)t->r->c.checkpoint.keep, e);
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

/* A step is logged after it is done, an evaluation before the step: both will be repeated. */
static bool rewind_metrics(struct trainer *t, struct err *e)
{
    struct metrics_value tags[3] = {metric_tag("point", t->job->point),
                                    metric_tag("phase", t->job->phase)};
    char *jsonl = run_path(t->r, e, "%smetrics.jsonl", t->r->own);
    bool ok;

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

static bool load_latest(struct trainer *t, struct err *e)
{
    struct ckpt_found found = {.step = -1};
    const struct ckpt_check check = {.fits = meta_fits, .list = list_part, .arg = t};
    char *dir = mem_printf(e, "%s/checkpoints", t->job->dir);
    struct ckpt_list single = {0};
    bool ok = dir && list_part(t, 0, 1, &single, e) &&
              checkpoint_dir_latest(dir, single.items, single.n, &check, &found, e);

    t->last_saved = -1;
    if (ok && found.warning) log_line("%s", found.warning);
    if (ok && found.step >= 0) {
        ok = read_meta(t, &found, e);
        if (ok)
            log_line("%s %s: continues from step %lld of %lld", t->job->point, t->job->phase,
                     (long long)t->step, (long long)t->steps);
    }
    ckpt_list_free(&single);
    ckpt_found_free(&found);
    free(dir);
    return ok;
}

bool trainer_restore(struct trainer *t, struct err *e)
{
    int64_t step;

    if (!cluster_agree(load_latest(t, e), e)) return false;
    step = t->step;
    if (!cluster_broadcast(&step, sizeof step, 0, e)) return false;
    return cluster_agree(
               step == t->step ||
                   err_set(e,
                           "%s/checkpoints: step %lld is the newest that can be read here, and "
                           "step %lld for the first process: do all see the same files?",
                           t->job->dir, (long long)t->step, (long long)step),
               e) &&
           cluster_agree(!cluster_first() || rewind_metrics(t, e), e);
}
