/* report_sets.c - the report's tables of the sets that have a metric: every figure of every model,
 * and the mean over the sets. */
#include "base/mem.h"
#include "data/metric/paired.h"
#include "train/report/report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The models of the report, in the order of its columns. */
static const struct report_result *model_at(const struct report *rep, int64_t i)
{
    if (i == 0) return &rep->base;
    i--;
    return &rep->points[i / REPORT_RESULTS].result[i % REPORT_RESULTS];
}

static int64_t models(const struct report *rep)
{
    return 1 + rep->n * REPORT_RESULTS;
}

/* Points of one rope_dim share their stage 1, which has one column. */
static bool has_column(const struct report *rep, int64_t i)
{
    const int64_t p = (i - 1) / REPORT_RESULTS;

    return i == 0 || (i - 1) % REPORT_RESULTS != REPORT_STAGE1 || p == 0 ||
           strcmp(rep->points[p].p.stage1, rep->points[p - 1].p.stage1) != 0;
}

static void write_head(const struct report *rep, FILE *fp)
{
    static const char *const names[] = {"stage 1", "after SVD", "stage 2"};

    fprintf(fp, "## Benchmarks\n\nFigures as docs/scores.md defines them, with their standard "
                "errors, clustered by picture or group.\n\n| set | figure | base |");
    for (int64_t i = 1; i < models(rep); i++) {
        const struct point *p = &rep->points[(i - 1) / REPORT_RESULTS].p;
        const int64_t k = (i - 1) % REPORT_RESULTS;
        if (has_column(rep, i))
            fprintf(fp, " %s %s |", k == REPORT_STAGE1 ? p->stage1 : p->name, names[k]);
    }
    fprintf(fp, "\n|---|---|");
    for (int64_t i = 0; i < models(rep); i++)
        if (has_column(rep, i)) fprintf(fp, "--:|");
    fputc('\n', fp);
}

static const struct set_figures *set_of(const struct report_result *result, const char *name)
{
    for (size_t i = 0; result->there && i < result->s.n_sets; i++)
        if (strcmp(result->s.sets[i].name, name) == 0) return &result->s.sets[i];
    return NULL;
}

static void number_cell(FILE *fp, double value, double se, int digits)
{
    if (isnan(value))
        fprintf(fp, " – |");
    else if (isnan(se))
        fprintf(fp, " %.*f |", digits, value);
    else
        fprintf(fp, " %.*f ± %.*f |", digits, value, digits, se);
}

static void write_figure_row(const struct report *rep, const struct set_figures *set, int k,
                             FILE *fp)
{
    const struct figure_score *f = &set->figure[k];

    fprintf(fp, "| ");
    report_text(fp, set->name, strlen(set->name));
    fprintf(fp, " (%lld) | %s |", (long long)set->n, f->name);
    for (int64_t i = 0; i < models(rep); i++) {
        const struct set_figures *own = set_of(model_at(rep, i), set->name);
        const bool there = own && k < own->n_figures;
        if (!has_column(rep, i)) continue;
        number_cell(fp, there ? own->figure[k].value : NAN, there ? own->figure[k].se : NAN,
                    f->most > 1   ? 2
                    : f->most > 0 ? 4
                                  : 0);
    }
    fputc('\n', fp);
}

/* Main figures, each as a share of the most that can be had. */
static bool mean_cell(const struct report_result *result, FILE *fp, struct err *e)
{
    const struct scores *s = &result->s;
    double *value = mem_new(s->n_sets, sizeof *value, "the mean over sets", e);
    double *se = mem_new(s->n_sets, sizeof *se, "the mean over sets", e), mean = NAN, error = NAN;
    bool ok = value && se;

    for (size_t i = 0; ok && i < s->n_sets; i++) {
        const struct figure_score *f = &s->sets[i].figure[0];
        value[i] = f->value / f->most;
        se[i] = f->se / f->most;
    }
    if (ok && result->there) paired_mean(value, se, s->n_sets, &mean, &error);
    if (ok) number_cell(fp, mean, error, 4);
    free(value);
    free(se);
    return ok;
}

bool report_sets(const struct report *rep, FILE *fp, struct err *e)
{
    const struct scores *s = NULL;
    bool ok = true;

    for (int64_t i = 0; i < models(rep) && !s; i++)
        if (model_at(rep, i)->there) s = &model_at(rep, i)->s;
    if (!s || !s->n_sets) return true;
    write_head(rep, fp);
    for (size_t q = 0; q < s->n_sets; q++)
        for (int k = 0; k < s->sets[q].n_figures; k++)
            write_figure_row(rep, &s->sets[q], k, fp);
    if (s->n_sets > 1) {
        fprintf(fp, "| mean of %zu sets, which weigh alike | main figure, 0 to 1 |", s->n_sets);
        for (int64_t i = 0; ok && i < models(rep); i++)
            if (has_column(rep, i)) ok = mean_cell(model_at(rep, i), fp, e);
        fputc('\n', fp);
    }
    fputc('\n', fp);
    return ok;
}
