/* trainer_state.c - the checkpoints of a training. One at step s holds what is needed to continue as
 * if nothing had happened: the trained values, the optimiser's state, s; the position in the data
 * follows from s. */
#include "base/json/jsonc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/place.h"
#include "base/watch.h"
#include "train/trainer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
bool trainer_list(struct trainer *t, struct err *e)
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

bool trainer_save(struct trainer *t, struct err *e)
{
    char meta[512], *dir;
    bool ok;

    if (t->last_saved == t->step) return true;
    /* do not keep what was trained on changed files, nor elsewhere */
    if (!watch_check(e) || !place_check(e)) return false;
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

bool trainer_restore(struct trainer *t, struct err *e)
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
    jsonl = mem_strdup(t->r->metrics.path, e);
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
