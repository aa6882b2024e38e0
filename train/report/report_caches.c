/* report_caches.c - the same models with several kinds of KV cache (evaluate.caches): scores
 * against bytes a token, each beside the model's own kind on the same samples. */
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "train/caches.h"
#include "train/recipes.h"
#include "train/report/plot_cache.h"
#include "train/report/report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is there ---- */

/* A model of the report. */
struct of {
    int64_t point; /* -1: the base */
    int result;
};

static struct report_result *result_of(const struct report *rep, const struct of *m)
{
    return m->point < 0 ? (struct report_result *)&rep->base
                        : &rep->points[m->point].result[m->result];
}

static const char *name_of(const struct report *rep, int64_t point)
{
    return point < 0 ? "base" : rep->points[point].p.name;
}

/* The settings with which it was scored. */
static const struct config *config_of(const struct report *rep, int64_t point)
{
    return point < 0 ? &rep->r->c : recipes_config(&rep->r->c, rep->points[point].p.recipe);
}

/* A rule of eviction; or the first form that is not one of the settings', without its bits, and
 * options: of as many bytes, these would make a curve go up and down. */
static void set_family(struct report_cached *c, const struct cache_kind *k)
{
    static const char *const plain[] = {ROW_FORM_NAMES};
    const char *forms[] = {k->form[CACHE_ROPE]->name, k->form[CACHE_VALUE]->name}, *name = "";

    for (int i = 1; i >= 0; i--) {
        bool known = false;
        for (size_t f = 0; f < sizeof plain / sizeof *plain; f++)
            known = known || strcmp(forms[i], plain[f]) == 0;
        if (!known) name = forms[i];
    }
    if (k->evict.rule) name = evict_rule_name(k->evict.rule);
    snprintf(c->family, sizeof c->family, "%.*s%s%s",
             (int)strcspn(name, k->evict.rule ? "" : "0123456789"), name,
             k->rotate ? "+rotate" : "", k->exact ? "+exact" : "");
}

static bool add(struct report *rep, const struct of *m, const struct cache_kind *kind,
                struct err *e)
{
    struct report_cached *c = &rep->cached[rep->n_cached];
    const struct report_result *own = result_of(rep, m);
    char dir[CACHES_DIR], text[CACHE_KIND_TEXT];

    *c = (struct report_cached){.point = m->point, .result = m->result, .own = !kind};
    c->versus = (struct report_versus){NAN, NAN, false};
    if (!kind) {
        c->at = *own;
        cache_kind_text(c->kind, &own->s.cache);
        set_family(c, &own->s.cache);
        rep->n_cached++;
        return true;
    }
    cache_kind_text(c->kind, kind);
    set_family(c, kind);
    if (strcmp(c->kind, cache_kind_text(text, &own->s.cache)) == 0) return true;
    snprintf(c->at.dir, sizeof c->at.dir, "%s", caches_dir(dir, own->dir, kind));
    if (!report_load(rep->r, &c->at, e)) return false;
    if (!c->at.there) return true;
    rep->n_cached++; /* is freed from here on */
    return report_versus(rep, &c->at, own, &c->versus, e);
}

/* A model that has scores, and then those with each kind that are there. */
static bool add_model(struct report *rep, const struct of *m, bool *any, struct err *e)
{
    const struct schema_strings *names = &config_of(rep, m->point)->evaluate.caches;
    const int64_t before = rep->n_cached;
    struct cache_kind kind;

    if (!result_of(rep, m)->there) return true;
    if (!add(rep, m, NULL, e)) return false;
    for (int64_t i = 0; i < names->n; i++)
        if (!cache_kind_read(&kind, names->v[i], e) || !add(rep, m, &kind, e)) return false;
    *any = *any || rep->n_cached > before + 1;
    return true;
}

/* The most entries of one model. */
static int64_t most_kinds(const struct report *rep)
{
    int64_t most = rep->r->c.evaluate.caches.n;

    for (int64_t i = 0; i < recipes_count(&rep->r->c); i++)
        if (recipes_config(&rep->r->c, i)->evaluate.caches.n > most)
            most = recipes_config(&rep->r->c, i)->evaluate.caches.n;
    return most;
}

bool report_load_caches(struct report *rep, struct err *e)
{
    const int64_t kinds = most_kinds(rep);
    bool any = false, ok;

    if (!kinds) return true;
    rep->cached = mem_new((size_t)((1 + REPORT_RESULTS * rep->n) * (kinds + 1)),
                          sizeof *rep->cached, "kinds of cache", e);
    ok = rep->cached && add_model(rep, &(struct of){-1, 0}, &any, e);
    for (int64_t i = 0; ok && i < rep->n; i++)
        for (int k = REPORT_SVD; ok && k < REPORT_RESULTS; k++)
            ok = add_model(rep, &(struct of){i, k}, &any, e);
    if (ok && !any) report_free_caches(rep);
    return ok;
}

void report_free_caches(struct report *rep)
{
    for (int64_t i = 0; i < rep->n_cached; i++)
        if (!rep->cached[i].own) scores_free(&rep->cached[i].at.s);
    free(rep->cached);
    rep->cached = NULL;
    rep->n_cached = 0;
}

/* ---- tables ---- */

/* Of the original's keys and values in bf16; NaN: no model tells. */
static double share_of(const struct report *rep, const struct report_cached *c)
{
    for (int64_t i = 0; i < rep->n; i++)
        if (rep->points[i].full)
            return report_cache_bytes(&c->at) /
                   (2 * (double)(rep->points[i].full * rep->points[i].layers));
    return NAN;
}

static const char *step_of(const struct report_cached *c)
{
    if (c->point < 0) return "";
    return c->result == REPORT_SVD ? " after SVD" : " stage 2";
}

static void write_row(const struct report *rep, const struct report_cached *c, FILE *fp)
{
    const struct scorer *how = scorer_of(&rep->r->c);
    char t[3][UNIT_TEXT], v[80];
    const double share = share_of(rep, c);

    fprintf(fp, "| %s%s | %s | %s | %s | %s |", name_of(rep, c->point), step_of(c), c->kind,
            unit_count(t[0], report_cache_bytes(&c->at)),
            isnan(share) ? "–" : unit_percent(t[1], share),
            unit_percent(t[2], report_score(rep, &c->at)));
    for (const struct score_cell *cell = how->cell + 1; cell->name; cell++)
        fprintf(fp, " %.3f |", report_value(&c->at, cell));
    fprintf(fp, " %s |\n", c->own ? "" : report_versus_text(v, &c->versus, "–"));
}

void report_caches(const struct report *rep, FILE *fp)
{
    const struct scorer *how = scorer_of(&rep->r->c);

    if (!rep->n_cached) return;
    fprintf(
        fp,
        "## Kinds of cache\n\nThe same models, with caches that hold rotated keys + latents (the "
        "original's: keys + values) in fewer bits. Bytes: of a token in all layers, measured; "
        "their share of the original's in bf16. Beside its own: the difference from the score "
        "with the model's own kind, which is its first row, in points, ± one standard error of the "
        "differences of the same %s, clustered by picture or group; where their 95 %% interval "
        "holds 0, "
        "no difference is shown. h2o and tova: the original, holding that share of the tokens "
        "(docs/method.md).\n\n| model | cache | bytes a token | share | %s |",
        how->needs_question ? how->items : "samples", scorer_title(rep->r));
    for (const struct score_cell *cell = how->cell + 1; cell->name; cell++)
        fprintf(fp, " %s |", cell->name);
    fprintf(fp, " beside its own |\n|---|---|--:|--:|--:|");
    for (const struct score_cell *cell = how->cell + 1; cell->name; cell++)
        fprintf(fp, "--:|");
    fprintf(fp, "--:|\n");
    for (int64_t i = 0; i < rep->n_cached; i++)
        write_row(rep, &rep->cached[i], fp);
    if (rep->caches_picture) fprintf(fp, "\n![caches](caches.png)\n");
    fputc('\n', fp);
}

void report_print_caches(const struct report *rep)
{
    const int width = report_name_width(rep) + 10;
    char t[2][UNIT_TEXT], v[80], name[200];

    if (!rep->n_cached) return;
    log_line("%-*s %-16s %13s %9s   %s", width, "kinds of cache", "", "bytes a token", "score",
             "beside its own");
    for (int64_t i = 0; i < rep->n_cached; i++) {
        const struct report_cached *c = &rep->cached[i];
        snprintf(name, sizeof name, "%s%s", name_of(rep, c->point), step_of(c));
        log_line("%-*s %-16s %13s %9s   %s", width, name, c->kind,
                 unit_count(t[0], report_cache_bytes(&c->at)),
                 unit_percent(t[1], report_score(rep, &c->at)),
                 c->own ? "" : report_versus_text(v, &c->versus, "-"));
    }
    log_line("%s", "");
}

/* ---- the picture ---- */

/* Appends a score behind those of no larger caches, from `first` on. */
static size_t insert(struct cache_score *to, size_t first, size_t n, struct cache_score one)
{
    size_t at = n;

    for (; at > first && to[at - 1].cache > one.cache; at--)
        to[at] = to[at - 1];
    to[at] = one;
    return n + 1;
}

/* The scores of a point, or of the base, with each kind, smallest cache first: those after SVD,
 * then those of stage 2, for a line ends where a score is missing. Of one family. */
static size_t scores_of(const struct report *rep, int64_t point, const char *family,
                        struct cache_score *to)
{
    size_t n = 0, first = 0;

    for (int stage2 = 0; stage2 < 2; stage2++, first = n)
        for (int64_t i = 0; i < rep->n_cached; i++) {
            const struct report_cached *c = &rep->cached[i];
            const double bytes = report_cache_bytes(&c->at);
            const double score = 100 * report_score(rep, &c->at);
            if (c->point != point || strcmp(c->family, family) != 0 || !(bytes > 0)) continue;
            if ((point < 0 || c->result == REPORT_STAGE2) != (stage2 == 1)) continue;
            n = insert(to, first, n,
                       (struct cache_score){
                           bytes, stage2 ? NAN : score, stage2 ? score : NAN, c->kind, {NAN, NAN}});
        }
    return n;
}

enum { LABEL = 180 };

/* Each family of each model, as a curve. */
static size_t curves_of(const struct report *rep, struct cache_score *at,
                        struct cache_curve *curves, char (*labels)[LABEL])
{
    size_t curve = 0;

    for (int64_t i = 0; i < rep->n_cached; i++) {
        const struct report_cached *c = &rep->cached[i];
        bool seen = false;
        for (int64_t k = 0; k < i; k++)
            seen = seen || (rep->cached[k].point == c->point &&
                            strcmp(rep->cached[k].family, c->family) == 0);
        const size_t n = seen ? 0 : scores_of(rep, c->point, c->family, at);
        if (!n) continue;
        snprintf(labels[curve], LABEL, "%s%s%s", name_of(rep, c->point), *c->family ? ", " : "",
                 c->family);
        curves[curve] = (struct cache_curve){labels[curve], at, n, c->point < 0};
        curve++;
        at += n;
    }
    return curve;
}

static bool draw(struct report *rep, const struct cache_curve *curves, size_t n, struct err *e)
{
    char title[300], score[80];
    const struct cache_plot plot = {.title = title,
                                    .score = score,
                                    .base = 100 * report_score(rep, &rep->base),
                                    .curves = curves,
                                    .n = n,
                                    .axis = CACHE_BYTES};
    struct err note;

    snprintf(title, sizeof title, "%s: score against cache", rep->name);
    snprintf(score, sizeof score, "%s (%%)", scorer_of(&rep->r->c)->cell[0].name);
    if (!plot_cache(rep->r->c.run.dir, &plot, &note, e)) return false;
    if (note.msg[0]) log_line("report: %s", note.msg);
    rep->caches_picture = !note.msg[0];
    return true;
}

bool report_draw_caches(struct report *rep, struct err *e)
{
    const size_t n = (size_t)rep->n_cached;
    struct cache_score *at = NULL;
    struct cache_curve *curves = NULL;
    char(*labels)[LABEL] = NULL;
    bool ok;

    if (!n) return plot_cache_remove(rep->r->c.run.dir, CACHE_BYTES, e);
    ok = (at = mem_new(n, sizeof *at, "curves", e)) &&
         (curves = mem_new(n, sizeof *curves, "curves", e)) &&
         (labels = mem_new(n, sizeof *labels, "curves", e)) &&
         draw(rep, curves, curves_of(rep, at, curves, labels), e);
    free(labels);
    free(curves);
    free(at);
    return ok;
}
