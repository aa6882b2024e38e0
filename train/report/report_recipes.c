/* report_recipes.c - what each recipe of a sweep wins against the first one that has a point of the
 * same size of the cache: on the same samples, with the standard error of the paired difference. */
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "train/recipes.h"
#include "train/report/plot_cache.h"
#include "train/report/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- differences ---- */

/* The first point that caches as much, of an earlier recipe; NULL without one. */
static const struct report_point *partner_of(const struct report *rep, const struct report_point *p)
{
    for (int64_t i = 0; p->full && rep->points[i].p.recipe < p->p.recipe; i++)
        if (rep->points[i].full == p->full && rep->points[i].values == p->values)
            return &rep->points[i];
    return NULL;
}

bool report_compare(struct report *rep, struct err *e)
{
    for (int64_t i = 0; i < rep->n; i++) {
        struct report_point *p = &rep->points[i];
        const struct report_point *q = partner_of(rep, p);
        for (int k = 0; k < REPORT_RESULTS; k++) {
            p->versus[k] = (struct report_versus){NAN, NAN, false};
            if (q && k != REPORT_STAGE1 &&
                !report_versus(rep, &p->result[k], &q->result[k], &p->versus[k], e))
                return false;
        }
    }
    return true;
}

/* ---- the points, by falling size of the cache ---- */

static int by_cache(const void *a, const void *b)
{
    const struct report_point *p = *(const struct report_point *const *)a,
                              *q = *(const struct report_point *const *)b;

    if (p->values != q->values) return p->values > q->values ? -1 : 1;
    return p < q ? -1 : p > q; /* as in the sweep */
}

static const struct report_point **sorted(const struct report *rep, struct err *e)
{
    const struct report_point **p = mem_new((size_t)rep->n, sizeof(*p), "the report's points", e);

    for (int64_t i = 0; p && i < rep->n; i++)
        p[i] = &rep->points[i];
    if (p && rep->n) qsort(p, (size_t)rep->n, sizeof(*p), by_cache);
    return p;
}

/* ---- report.md ---- */

static void write_settings(const struct config *c, FILE *fp)
{
    const struct config_recipe *q = c->sweep.recipe.v;

    fprintf(fp, "| recipe | its settings |\n|---|---|\n");
    for (int64_t i = 0; i < c->sweep.recipe.n; i++) {
        fprintf(fp, "| %s |", q[i].name);
        for (int64_t k = 0; k < q[i].set.n; k++) {
            fprintf(fp, "%s ", k ? "," : "");
            report_text(fp, q[i].set.v[k], strlen(q[i].set.v[k]));
        }
        fprintf(fp, "%s |\n", q[i].set.n ? "" : " the run's");
    }
    fputc('\n', fp);
}

static void write_point(const struct report *rep, const struct report_point *p, FILE *fp)
{
    char t[UNIT_TEXT], v[80];
    const double share = report_cache_share(p);

    fprintf(fp, "| %s | %s |", isnan(share) ? "–" : unit_percent(t, share), p->p.name);
    for (int k = REPORT_SVD; k < REPORT_RESULTS; k++) {
        const double score = report_score(rep, &p->result[k]);
        fprintf(fp, " %s | %s |", isnan(score) ? "–" : unit_percent(t, score),
                report_versus_text(v, &p->versus[k], partner_of(rep, p) ? "–" : ""));
    }
    fputc('\n', fp);
}

bool report_recipes(const struct report *rep, FILE *fp, struct err *e)
{
    const struct config *c = &rep->r->c;
    const struct scorer *how = scorer_of(c);
    const struct report_point **p;

    if (!c->recipes) return true;
    p = sorted(rep, e);
    if (!p) return false;
    fprintf(fp, "## Recipes\n\n");
    write_settings(c, fp);
    fprintf(
        fp,
        "The scores are %s. \"Beside the first\": the difference from the first recipe that has a "
        "point of the same size of the cache, in points, ± one standard error of the differences "
        "of the "
        "same %s, clustered by picture or group. Where their 95 %% interval (± 1.96 of it) holds "
        "0, no "
        "difference is shown. Another run.seed would move what was trained as well.\n\n",
        how->cell[0].name, how->needs_question ? how->items : "samples");
    fprintf(fp, "| cache | point | after SVD | beside the first | stage 2 | beside the first |\n"
                "|--:|---|--:|--:|--:|--:|\n");
    for (int64_t i = 0; i < rep->n; i++)
        write_point(rep, p[i], fp);
    if (rep->recipes_picture) fprintf(fp, "\n![recipes](recipes.png)\n");
    fputc('\n', fp);
    free(p);
    return true;
}

/* ---- the terminal ---- */

/* A column of so many characters, of which ± has two bytes. */
static void pad(char *text, size_t size, int width)
{
    size_t n = strlen(text);
    int shown = 0;

    for (const char *s = text; *s; s++)
        shown += ((unsigned char)*s & 0xc0) != 0x80;
    for (; shown < width && n + 1 < size; shown++)
        text[n++] = ' ';
    text[n] = '\0';
}

bool report_print_recipes(const struct report *rep, struct err *e)
{
    const struct report_point **p;
    const int width = report_name_width(rep);
    char share[UNIT_TEXT], svd[120], stage2[80];

    if (!rep->r->c.recipes) return true;
    p = sorted(rep, e);
    if (!p) return false;
    snprintf(svd, sizeof svd, "after SVD, points of %s", scorer_of(&rep->r->c)->cell[0].name);
    log_line("%-*s %9s   %-36s%s", width, "beside the first", "cache", svd, "stage 2");
    for (int64_t i = 0; i < rep->n; i++) {
        if (!partner_of(rep, p[i])) continue;
        report_versus_text(svd, &p[i]->versus[REPORT_SVD], "-");
        pad(svd, sizeof svd, 36);
        log_line("%-*s %9s   %s%s", width, p[i]->p.name,
                 unit_percent(share, report_cache_share(p[i])), svd,
                 report_versus_text(stage2, &p[i]->versus[REPORT_STAGE2], "-"));
    }
    log_line("%s", "");
    free(p);
    return true;
}

/* ---- the picture ---- */

/* The recipe's points, smallest cache first. */
static size_t scores_of(const struct report *rep, const struct report_point *const *p,
                        int64_t recipe, struct cache_score *to)
{
    size_t n = 0;

    for (int64_t i = rep->n; i-- > 0;) {
        if (p[i]->p.recipe != recipe || !p[i]->full) continue;
        to[n++] = (struct cache_score){
            100 * report_cache_share(p[i]),
            100 * report_score(rep, &p[i]->result[REPORT_SVD]),
            100 * report_score(rep, &p[i]->result[REPORT_STAGE2]),
            NULL,
            {100 * p[i]->versus[REPORT_SVD].error, 100 * p[i]->versus[REPORT_STAGE2].error}};
    }
    return n;
}

static bool draw(struct report *rep, const struct report_point *const *p, struct cache_score *at,
                 struct cache_curve *curves, struct err *e)
{
    const struct config *c = &rep->r->c;
    char title[300], score[80];
    struct cache_plot plot = {.title = title,
                              .score = score,
                              .base = 100 * report_score(rep, &rep->base),
                              .curves = curves};
    struct err note;

    snprintf(title, sizeof title, "%s: score against cache", rep->name);
    snprintf(score, sizeof score, "%s (%%)", scorer_of(c)->cell[0].name);
    for (int64_t k = 0; k < recipes_count(c); k++) {
        curves[k] = (struct cache_curve){recipes_name(c, k), at, scores_of(rep, p, k, at), false};
        at += curves[k].n;
        plot.n++;
    }
    if (!plot_cache(rep->r->c.run.dir, &plot, &note, e)) return false;
    if (note.msg[0]) log_line("report: %s", note.msg);
    rep->recipes_picture = !note.msg[0];
    return true;
}

static bool any_score(const struct report *rep)
{
    for (int64_t i = 0; i < rep->n; i++)
        for (int k = REPORT_SVD; k < REPORT_RESULTS; k++)
            if (rep->points[i].full && rep->points[i].result[k].there) return true;
    return false;
}

bool report_draw_recipes(struct report *rep, struct err *e)
{
    const struct report_point **p;
    struct cache_score *at;
    struct cache_curve *curves;
    bool ok;

    if (!rep->r->c.recipes || !any_score(rep)) return true;
    p = sorted(rep, e);
    at = p ? mem_new((size_t)rep->n, sizeof *at, "curves", e) : NULL;
    curves = at ? mem_new((size_t)recipes_count(&rep->r->c), sizeof *curves, "curves", e) : NULL;
    ok = curves && draw(rep, p, at, curves, e);
    free(curves);
    free(at);
    free(p);
    return ok;
}
