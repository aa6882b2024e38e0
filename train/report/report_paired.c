/* report_paired.c - the report's comparisons of two models, question by question, from the
 * answers.jsonl next to their scores: each point's stage 2 with the base model (a share above 100 %
 * is chance as often as not, and says so here), recipes with each other, kinds of cache
 * with the model's own. */
#include "base/log.h"
#include "base/mem.h"
#include "data/answers.h"
#include "data/metric/paired.h"
#include "data/set_figures.h"
#include "train/report/report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Reads the answers of a model; n 0: they are not there. */
static bool open_answers(const struct report *rep, const struct report_result *from,
                         struct answers *a, struct err *e)
{
    char *path = run_path(rep->r, e, "%s/answers.jsonl", from->dir);
    bool there = false, ok = path && file_there(path, &there, e);

    memset(a, 0, sizeof *a);
    if (ok && there && from->there)
        ok = answers_open(a, path, NULL, NULL, e) ||
             (!e->machine && err_set(e, "%s: delete it and scores.json, and resume", e->msg));
    free(path);
    return ok;
}

static void write_head(FILE *fp)
{
    fprintf(
        fp,
        "## Against the base model\n\nStage 2 and the base model on the same questions: the "
        "mean of the differences with its standard error, clustered by picture or group; its "
        "95 %% interval; recovered with its interval; McNemar's mid-p where an answer is right "
        "or wrong and no two questions share a picture or group. Where the interval holds 0, no "
        "difference is shown.\n\n"
        "| point | set | figure | questions | difference | 95 %% | recovered | 95 %% | p | |\n"
        "|---|---|---|--:|--:|--:|--:|--:|--:|---|\n");
}

static void write_row(FILE *fp, const char *set, const struct metric_figure *f,
                      const struct paired *p)
{
    const int digits = figure_digits(f->most);
    char test[32] = "–";

    if (p->binary && !isnan(p->p)) snprintf(test, sizeof test, "%.3g", p->p);
    report_text(fp, set, strlen(set));
    fprintf(fp, " | %s | %zu | %+.*f ± %.*f | %+.*f to %+.*f |", f->name, p->n, digits,
            p->difference, digits, p->difference_se, digits, p->interval.low, digits,
            p->interval.high);
    if (isnan(p->recovered))
        fprintf(fp, " – | – |");
    else
        fprintf(fp, " %.2f %% | %.2f to %.2f %% |", 100 * p->recovered,
                100 * p->recovered_interval.low, 100 * p->recovered_interval.high);
    fprintf(fp, " %s | %s |\n", test, figure_pair_verdict(p));
}

static void say(const char *point, const char *set, const struct metric_figure *f,
                const struct paired *p)
{
    char text[FIGURE_PAIR_TEXT];

    figure_pair_text(f, p, text);
    log_line("%s against base: %s: %zu questions: %s", point, set, p->n, text);
}

static bool compare_figure(const struct report_point *at, const char *set,
                           const struct metric_figure *f, const struct answers_pairs *pairs,
                           FILE *fp, struct err *e)
{
    struct paired p = {0};

    if (pairs->n > 1 && !metric_figure_compare(f, pairs->a, pairs->b, pairs->n, &p, e))
        return false;
    if (p.n < 2 || isnan(p.difference_se)) return true;
    fprintf(fp, "| %s | ", at->p.name);
    write_row(fp, set, f, &p);
    say(at->p.name, set, f, &p);
    return true;
}

/* One set: its main figure; of likelihoods the first two, acc and acc_norm or tokens right and
 * perplexity. What cannot be compared is said, and is no reason for a report to fail. */
static bool compare_set(const struct report_point *at, const struct answers *base,
                        const struct answers *own, const char *set, FILE *fp, struct err *e)
{
    const struct metric_figure *f;
    struct answers_pairs pairs;
    bool ok = true;

    if (!answers_pairs(base, own, set, &pairs, e)) {
        if (e->machine) return false;
        log_line("report: %s is not compared with the base: %s", at->p.name, e->msg);
        return true;
    }
    f = benchmark_figures(pairs.metric)->figures;
    for (int i = 0; ok && i < (pairs.metric && pairs.metric->measured ? 2 : 1); i++)
        ok = compare_figure(at, set, &f[i], &pairs, fp, e);
    answers_pairs_free(&pairs);
    return ok;
}

static bool compare_point(const struct report *rep, const struct report_point *at,
                          const struct answers *base, FILE *fp, struct err *e)
{
    struct answers own;
    bool ok = open_answers(rep, &at->result[REPORT_STAGE2], &own, e);

    for (size_t i = 0; ok && own.n && i < base->n; i++)
        if (answers_first_of_set(base, i)) ok = compare_set(at, base, &own, base->v[i].set, fp, e);
    answers_close(&own);
    return ok;
}

bool report_paired(const struct report *rep, FILE *fp, struct err *e)
{
    struct answers base = {0};
    bool any = false, ok = true;

    for (int64_t i = 0; i < rep->n; i++)
        any = any || rep->points[i].result[REPORT_STAGE2].there;
    if (!any) return true;
    ok = open_answers(rep, &rep->base, &base, e);
    if (ok && base.n) write_head(fp);
    for (int64_t i = 0; ok && base.n && i < rep->n; i++)
        ok = compare_point(rep, &rep->points[i], &base, fp, e);
    if (ok && base.n) fputc('\n', fp);
    answers_close(&base);
    return ok;
}

/* ---- recipes, kinds of cache ---- */

/* The mean of what samples are worth, whatever their sets; of texts, tokens right. */
static const struct metric_figure *worth_of(const struct answers_pairs *pairs)
{
    const struct metric *tokens = metric_find("tokens");

    return pairs->metric == tokens ? tokens->figures : benchmark_figures(NULL)->figures;
}

/* Where both answered the same questions: else no error is known. */
static bool compare_answers(const struct answers *other, const struct answers *own, const char *dir,
                            struct report_versus *v, struct err *e)
{
    struct answers_pairs pairs;
    struct paired p = {0};
    bool ok = true;

    if (!answers_pairs(other, own, NULL, &pairs, e)) {
        if (e->machine) return false;
        log_line("report: %s: its difference has no error: %s", dir, e->msg);
        return true;
    }
    if (pairs.n > 1 && !pairs.alone_a && !pairs.alone_b)
        ok = metric_figure_compare(worth_of(&pairs), pairs.a, pairs.b, pairs.n, &p, e);
    if (ok && p.n) *v = (struct report_versus){p.difference, p.difference_se, p.shown};
    answers_pairs_free(&pairs);
    return ok;
}

bool report_versus(const struct report *rep, const struct report_result *own,
                   const struct report_result *other, struct report_versus *v, struct err *e)
{
    struct answers x = {0}, y = {0};
    bool ok;

    *v = (struct report_versus){report_score(rep, own) - report_score(rep, other), NAN, false};
    if (isnan(v->difference)) return true;
    ok = open_answers(rep, other, &x, e) && open_answers(rep, own, &y, e);
    if (ok && x.n && y.n) ok = compare_answers(&x, &y, own->dir, v, e);
    answers_close(&x);
    answers_close(&y);
    return ok;
}

const char *report_versus_text(char out[80], const struct report_versus *v, const char *none)
{
    if (isnan(v->difference))
        snprintf(out, 80, "%s", none);
    else if (isnan(v->error))
        snprintf(out, 80, "%+.2f", 100 * v->difference);
    else
        snprintf(out, 80, "%+.2f ± %.2f%s", 100 * v->difference, 100 * v->error,
                 v->shown ? "" : ": no difference shown");
    return out;
}
