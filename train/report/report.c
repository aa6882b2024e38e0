/* report.c - reads what the steps left in the run's directory, and makes metrics.h5, the recovery
 * curve, report.md and a table on the terminal from it. Only files are read, so a report can be
 * remade at any time, from however much of a run there is. */
#include "base/log.h"
#include "base/mem.h"
#include "train/recipes.h"
#include "train/report/plot.h"
#include "train/report/report_parts.h"
#include "train/made.h"
#include "train/report/report.h"
#include "base/units.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double report_value(const struct report_result *result, const struct score_cell *cell)
{
    return result->there && result->s.all.n ? cell->value(&result->s.all) : NAN;
}

double report_score(const struct report *rep, const struct report_result *result)
{
    return report_value(result, scorer_of(&rep->r->c)->cell);
}

double report_recovered(const struct report *rep, const struct report_point *p)
{
    double base = report_score(rep, &rep->base);

    return base > 0 ? report_score(rep, &p->result[REPORT_STAGE2]) / base : NAN;
}

double report_cache_share(const struct report_point *p)
{
    return p->full ? (double)p->values / (double)p->full : NAN;
}

double report_cache_bytes(const struct report_result *result)
{
    const struct generate_stats *s = &result->s.stats;

    return result->there && s->cached_tokens ? (double)s->cache_bytes / (double)s->cached_tokens
                                             : NAN;
}

bool report_load(const struct run *r, struct report_result *result, struct err *e)
{
    char *path = run_path(r, e, "%s/scores.json", result->dir);
    char *name = mem_printf(e, "%s/scores.json", result->dir);
    bool ok = path && name && file_there(path, &result->there, e);

    if (ok && result->there)
        ok = (scores_load(&result->s, path, e) && outputs_check(r, name, true, e)) ||
             made_again(r, STEP_EVALUATE, "file", path, e);
    free(path);
    free(name);
    return ok;
}

/* What the saved model's cache holds; nothing if there is no model (yet, or any longer). */
static bool load_cache_values(const struct run *r, struct report_point *p, struct err *e)
{
    for (int i = REPORT_SVD; i < REPORT_RESULTS; i++) {
        char *dir = run_path(r, e, "%s/model", p->result[i].dir);
        char *config = dir ? file_join(dir, "config.json", e) : NULL;
        struct model m = {0};
        bool there = false, ok = config && file_there(config, &there, e);
        if (there && (ok = model_open(&m, dir, e))) {
            p->values = model_cache_values(&m);
            p->full = model_cache_values_full(&m);
            p->layers = m.cfg.text.num_hidden_layers;
            model_close(&m);
        }
        free(dir);
        free(config);
        if (!ok || there) return ok;
    }
    return true;
}

static bool load_point(const struct run *r, struct report_point *p, int64_t i, struct err *e)
{
    const struct point at = config_point(&r->c, i);
    const char *recipe = recipes_name(&r->c, at.recipe);
    char share[32] = "";

    p->p = at;
    for (int k = 0; k < REPORT_RESULTS; k++) {
        snprintf(p->result[k].dir, sizeof p->result[k].dir, "%s", at.dir[STEP_STAGE1 + k]);
        if (!report_load(r, &p->result[k], e)) return false;
    }
    if (!load_cache_values(r, p, e)) return false;
    if (p->full)
        snprintf(share, sizeof share, "%.1f %% of the cache ", 100 * report_cache_share(p));
    snprintf(p->label, sizeof p->label, "%s%s%s(rope %lld, rank %g)", recipe, *recipe ? ": " : "",
             share, (long long)p->p.rope_dim, p->p.low_rank);
    return true;
}

/* ---- metrics.jsonl ---- */

static struct report_training training_of(const struct metrics_line *l)
{
    return (struct report_training){true,
                                    metrics_number(l, "step"),
                                    metrics_number(l, "tokens"),
                                    metrics_number(l, "seconds"),
                                    metrics_number(l, "trained_parameters"),
                                    metrics_number(l, "parameters")};
}

static bool add_curve_point(struct report_point *p, const struct metrics_line *l, struct err *e)
{
    if (!mem_grow(&p->tokens, &p->cap_tokens, p->n + 1, sizeof *p->tokens, e) ||
        !mem_grow(&p->score, &p->cap_score, p->n + 1, sizeof *p->score, e) ||
        !mem_grow(&p->error, &p->cap_error, p->n + 1, sizeof *p->error, e))
        return false;
    p->tokens[p->n] = metrics_number(l, "tokens");
    p->error[p->n] = metrics_number(l, "score_stderr");
    p->score[p->n++] = metrics_number(l, "score");
    return true;
}

static bool take_line(void *arg, const struct metrics_line *l, struct err *e)
{
    struct report *rep = arg;
    const char *point = metrics_text(l, "point"), *phase = metrics_text(l, "phase");
    const char *event = metrics_text(l, "event");
    bool ok = true;

    if (!point || !phase || !event) return true;
    bool end = strcmp(event, "end") == 0, eval = strcmp(event, "eval") == 0;
    if (end && strcmp(phase, "baseline") == 0) rep->baseline = training_of(l);
    for (int64_t i = 0; ok && i < rep->n; i++) {
        struct report_point *p = &rep->points[i];
        if (end && strcmp(phase, "stage1") == 0 && strcmp(point, p->p.stage1) == 0)
            p->stage1 = training_of(l);
        if (strcmp(phase, "stage2") != 0 || strcmp(point, p->p.name) != 0) continue;
        if (end) p->stage2 = training_of(l);
        if (eval) ok = add_curve_point(p, l, e);
    }
    return ok;
}

/* ---- outputs ---- */

static bool make_plot(struct report *rep, struct err *e)
{
    const struct score *base = &rep->base.s.curve; /* over the same samples as the curve's points */
    struct recovery_plot plot = {.title = rep->name,
                                 .base_score = rep->base.there && base->n
                                                   ? scorer_of(&rep->r->c)->cell[0].value(base)
                                                   : NAN};
    struct curve *curves = mem_new((size_t)rep->n, sizeof *curves, "curves", e);
    struct err note;
    bool ok = curves, lost = false;

    for (int64_t i = 0; ok && i < rep->n; i++) {
        const struct report_point *p = &rep->points[i];
        if (p->n) curves[plot.n++] = (struct curve){p->label, p->tokens, p->score, p->n, p->error};
        if (!p->n && p->result[REPORT_STAGE2].there) {
            lost = true;
            log_line(
                "report: no curve of %s: %s/metrics.jsonl lacks its scores: it was deleted or cut",
                p->p.name, rep->r->c.run.dir);
        }
    }
    plot.curves = curves;
    if (ok && plot.n && plot.base_score > 0) {
        ok = plot_recovery(rep->r->c.run.dir, &plot, &note, e);
        if (ok && note.msg[0]) log_line("report: %s", note.msg);
        rep->picture = ok && !note.msg[0];
    } else if (ok && (plot.n || !lost)) {
        log_line("report: no recovery curve: %s",
                 plot.n ? "the base model has nothing right to measure against"
                        : "stage 2 has not been scored");
    }
    free(curves);
    return ok;
}

static const char *value_text(char out[UNIT_TEXT], const struct score_cell *cell, double value)
{
    if (cell->share) return unit_percent(out, value);
    snprintf(out, UNIT_TEXT, "%.3f", value);
    return isnan(value) ? "-" : out;
}

int report_name_width(const struct report *rep)
{
    int width = 26;

    for (int64_t i = 0; i < rep->n; i++)
        if ((int)strlen(rep->points[i].p.name) > width) width = (int)strlen(rep->points[i].p.name);
    return width;
}

static void print_table(const struct report *rep, const struct score_cell *cell)
{
    bool first = cell == scorer_of(&rep->r->c)->cell; /* it alone is compared with the base */
    const int width = report_name_width(rep);
    char t[6][UNIT_TEXT], last[16] = "";

    if (first) snprintf(last, sizeof last, " %10s", "recovered");
    log_line("%s", "");
    log_line("%-*s %9s %9s %9s %9s %9s%s", width, first ? scorer_title(rep->r) : cell->name,
             "cache", "base", "stage 1", "after SVD", "stage 2", last);
    for (int64_t i = 0; i < rep->n; i++) {
        const struct report_point *p = &rep->points[i];
        if (first)
            snprintf(last, sizeof last, " %10s", unit_percent(t[5], report_recovered(rep, p)));
        log_line("%-*s %9s %9s %9s %9s %9s%s", width, p->p.name,
                 unit_percent(t[0], report_cache_share(p)),
                 value_text(t[1], cell, report_value(&rep->base, cell)),
                 value_text(t[2], cell, report_value(&p->result[REPORT_STAGE1], cell)),
                 value_text(t[3], cell, report_value(&p->result[REPORT_SVD], cell)),
                 value_text(t[4], cell, report_value(&p->result[REPORT_STAGE2], cell)), last);
    }
}

static void print_tables(const struct report *rep)
{
    for (const struct score_cell *c = scorer_of(&rep->r->c)->cell; c->name; c++)
        print_table(rep, c);
    log_line("%s", "");
}

bool report_lacks(const struct report *rep, int64_t i)
{
    const struct report_point *p = &rep->points[i];
    bool any = p->n > 0;

    for (int64_t k = 0; k < rep->n; k++)
        any = any || rep->points[k].result[REPORT_STAGE2].there;
    return any && !p->result[REPORT_STAGE2].there;
}

static void say_lacking(const struct report *rep)
{
    for (int64_t i = 0; i < rep->n; i++)
        if (report_lacks(rep, i)) log_line("report: %s: " REPORT_LACKS, rep->points[i].p.name);
}

/* The last part of run.dir, ignoring trailing slashes. */
static void name_run(const struct run *r, char *name, size_t size)
{
    size_t end = strlen(r->c.run.dir), begin;

    while (end > 1 && r->c.run.dir[end - 1] == '/')
        end--;
    for (begin = end; begin && r->c.run.dir[begin - 1] != '/';)
        begin--;
    snprintf(name, size, "%.*s", (int)(end - begin), r->c.run.dir + begin);
}

static bool gather(struct report *rep, const char *jsonl, struct err *e)
{
    const struct run *r = rep->r;
    int64_t n = config_points(&r->c);

    name_run(r, rep->name, sizeof rep->name);
    snprintf(rep->base.dir, sizeof rep->base.dir, "base");
    rep->points = mem_new((size_t)n, sizeof *rep->points, "the report's points", e);
    if (!rep->points || !report_load(r, &rep->base, e)) return false;
    for (; rep->n < n; rep->n++)
        if (!load_point(r, &rep->points[rep->n], rep->n, e)) return false;
    return metrics_each(jsonl, take_line, rep, e);
}

static void report_free(struct report *rep)
{
    report_free_caches(rep);
    scores_free(&rep->base.s);
    /* one beyond the complete ones: the one that failed */
    for (int64_t i = 0; rep->points && i < config_points(&rep->r->c); i++) {
        for (int k = 0; k < REPORT_RESULTS; k++)
            scores_free(&rep->points[i].result[k].s);
        free(rep->points[i].tokens);
        free(rep->points[i].score);
        free(rep->points[i].error);
    }
    free(rep->points);
}

bool step_report(struct run *r, struct err *e)
{
    struct report rep = {.r = r};
    char *jsonl = run_path(r, e, "metrics.jsonl"),
         *h5 = jsonl ? run_path(r, e, "metrics.h5") : NULL;
    bool ok = h5 && gather(&rep, jsonl, e) && metrics_write_h5(jsonl, h5, e) &&
              report_compare(&rep, e) && report_load_caches(&rep, e) && make_plot(&rep, e) &&
              report_draw_recipes(&rep, e) && report_draw_caches(&rep, e) && report_write(&rep, e);

    if (ok) print_tables(&rep);
    ok = ok && report_print_recipes(&rep, e);
    if (ok) report_print_caches(&rep);
    if (ok) {
        say_lacking(&rep);
        log_line("look at: %s/%s", r->c.run.dir, rep.picture ? "recovery.png" : "report.md");
        if (rep.recipes_picture) log_line("         %s/recipes.png", r->c.run.dir);
        if (rep.caches_picture) log_line("         %s/caches.png", r->c.run.dir);
        if (rep.picture) log_line("         %s/report.md", r->c.run.dir);
    }
    report_free(&rep);
    free(jsonl);
    free(h5);
    return ok;
}
