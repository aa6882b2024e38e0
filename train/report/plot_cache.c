/* plot_cache.c - see plot_cache.h. A recipe has one colour: dashed after the conversion, a full
 * line after stage 2. */
#include "train/report/plot_cache.h"

#include "train/report/gnuplot.h"

#include <math.h>
#include <stdio.h>

static const struct axis {
    const char *name, *label, *more; /* more: further columns */
    bool doubles;                    /* a step to the right is twice as much */
} axes[] = {
    [CACHE_SHARE] = {"recipes", "cache, % of the original", "svd_error\tstage2_error", false},
    [CACHE_BYTES] = {"caches", "cache, bytes a token", "kind", true},
};

/* The two scores of a curve: column of the data, words of the legend, look; dashes: of a colour's
 * first curve, and of its others. */
static const struct line {
    const char *what, *look;
    int column, error, dash[2];
} lines[] = {
    {"after SVD", "linewidth 1.6 pointsize 1.0", 3, 5, {2, 5}},
    {"after stage 2", "linewidth 2.2 pointsize 1.3", 4, 6, {1, 4}},
};
enum { LINES = sizeof lines / sizeof *lines };

static double score_of(const struct cache_score *s, int line)
{
    return line == 0 ? s->svd : s->stage2;
}

static bool has_line(const struct cache_curve *c, int line)
{
    for (size_t i = 0; i < c->n; i++)
        if (isfinite(score_of(&c->at[i], line))) return true;
    return false;
}

static void print_data(FILE *fp, const void *of)
{
    const struct cache_plot *p = of;

    fprintf(fp, "curve\tcache\tafter_svd\tafter_stage2\t%s\tlabel\n", axes[p->axis].more);
    for (size_t c = 0; c < p->n; c++)
        for (size_t i = 0; i < p->curves[c].n; i++) {
            const struct cache_score *s = &p->curves[c].at[i];
            fprintf(fp, "%zu\t%.17g\t%.17g\t%.17g\t", c, s->cache, s->svd, s->stage2);
            if (p->axis == CACHE_BYTES)
                fprintf(fp, "%s\t", s->kind);
            else
                fprintf(fp, "%.17g\t%.17g\t", s->error[0], s->error[1]);
            fprintf(fp, "%s\n", p->curves[c].label);
        }
}

/* The smallest and the largest cache, and the largest score. */
static void find_most(const struct cache_plot *p, double *least, double *cache, double *score)
{
    *cache = 0;
    *least = INFINITY;
    *score = isfinite(p->base) ? p->base : 0;
    for (size_t c = 0; c < p->n; c++)
        for (size_t i = 0; i < p->curves[c].n; i++) {
            const struct cache_score *s = &p->curves[c].at[i];
            if (s->cache > *cache) *cache = s->cache;
            if (s->cache < *least) *least = s->cache;
            for (int k = 0; k < LINES; k++)
                if (score_of(s, k) > *score) *score = score_of(s, k);
        }
}

/* Axes begin at 0, but for one that doubles, and end beyond the last marker. */
static void print_ranges(FILE *fp, const struct cache_plot *p)
{
    double least, cache, score, x, y;

    find_most(p, &least, &cache, &score);
    x = gnuplot_step(cache > 0 ? cache : 1, 10);
    y = gnuplot_step(score > 0 ? score : 1, 8);
    if (axes[p->axis].doubles && cache > 0)
        fprintf(fp, "set logscale x 2\nset format x '%%.0f'\nset xrange [%.17g:%.17g]\n",
                least / 1.2, cache * 1.2);
    else
        fprintf(fp, "set xrange [0:%.17g]\nset xtics %.17g\n", 1.04 * (cache > 0 ? cache : 1), x);
    fprintf(fp, "set yrange [0:%.17g]\nset ytics %.17g\n", y * ceil(1.03 * score / y + 1e-9), y);
}

static bool has_errors(const struct cache_curve *c, int line)
{
    for (size_t i = 0; i < c->n; i++)
        if (isfinite(score_of(&c->at[i], line)) && isfinite(c->at[i].error[line])) return true;
    return false;
}

/* Of a standard error of what is won or lost against the first recipe. */
static void print_errors(FILE *fp, const struct cache_plot *p, size_t c, bool *first)
{
    for (int k = 0; p->axis == CACHE_SHARE && k < LINES; k++) {
        if (!has_errors(&p->curves[c], k)) continue;
        if (!*first) fprintf(fp, ", \\\n     ");
        gnuplot_bars(fp, axes[p->axis].name, c, lines[k].column, lines[k].error);
        *first = false;
    }
}

static void print_curve(FILE *fp, const struct cache_plot *p, size_t c, bool *first)
{
    for (int k = 0; k < LINES; k++) {
        char label[120];
        if (!has_line(&p->curves[c], k)) continue;
        snprintf(label, sizeof label, p->curves[c].whole ? "%s" : "%s, %s", p->curves[c].label,
                 lines[k].what);
        fprintf(fp,
                "%s'%s.tsv' skip 1 using (column(1) == %zu ? column(2) : NaN):%d with "
                "linespoints dashtype %d %s pointtype %d linecolor rgb '%s' title ",
                *first ? "" : ", \\\n     ", axes[p->axis].name, c, lines[k].column,
                lines[k].dash[gnuplot_again(c)], lines[k].look, gnuplot_mark(c), gnuplot_colour(c));
        gnuplot_quoted(fp, label);
        *first = false;
    }
}

static void print_script(FILE *fp, const void *of)
{
    const struct cache_plot *p = of;
    int label = 20;
    size_t legend = 1;
    bool first = true;

    for (size_t c = 0; c < p->n; c++)
        legend += has_line(&p->curves[c], 0) + has_line(&p->curves[c], 1);
    for (size_t c = 0; c < p->n; c++)
        if (gnuplot_width(p->curves[c].label) + 15 > label)
            label = gnuplot_width(p->curves[c].label) + 15;
    gnuplot_head(fp, axes[p->axis].name, 820 + 9 * label, legend);
    fprintf(fp, "set xlabel '%s' offset 0,-0.3\nset ylabel ", axes[p->axis].label);
    gnuplot_quoted(fp, p->score);
    fprintf(fp, " offset 0.3,0\nset title ");
    gnuplot_quoted(fp, p->title);
    fprintf(fp, " noenhanced font ',15'\n");
    print_ranges(fp, p);
    fprintf(fp, "plot ");
    if (isfinite(p->base)) {
        fprintf(fp,
                "%.17g with lines linewidth 2 dashtype 3 linecolor rgb '#707070' "
                "title 'base model: %.4g'",
                p->base, p->base);
        first = false;
    }
    for (size_t c = 0; c < p->n; c++)
        print_errors(fp, p, c, &first);
    for (size_t c = 0; c < p->n; c++)
        print_curve(fp, p, c, &first);
    fprintf(fp, "\nset output\n");
}

bool plot_cache(const char *dir, const struct cache_plot *p, struct err *note, struct err *e)
{
    const struct gnuplot_picture picture = {axes[p->axis].name, print_data, print_script, p};

    return gnuplot_make(dir, &picture, note, e);
}

bool plot_cache_remove(const char *dir, enum cache_axis axis, struct err *e)
{
    return gnuplot_remove(dir, axes[axis].name, e);
}
