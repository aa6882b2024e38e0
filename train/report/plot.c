/* plot.c - the numbers and the gnuplot script of the recovery curve. */
#include "train/report/plot.h"

#include "train/report/gnuplot.h"

#include <math.h>
#include <stdio.h>

/* ---- scales ---- */

struct range {
    double low, high, step;
};

static struct range token_range(const struct recovery_plot *p)
{
    struct range r = {0, 0, 1};

    for (size_t c = 0; c < p->n; c++)
        for (size_t i = 0; i < p->curves[c].n; i++)
            if (isfinite(p->curves[c].x_tokens[i])) r.high = fmax(r.high, p->curves[c].x_tokens[i]);
    if (r.high <= 0) return (struct range){0, 1, 2}; /* nothing trained yet: one tick, at 0 */
    r.step = gnuplot_step(r.high, 8);
    r.high *= 1.02; /* keeps the last marker inside */
    return r;
}

/* In percent of the base; always includes 99 to 101, and 0 if the curves come near it. */
static struct range percent_range(const struct recovery_plot *p)
{
    struct range r = {99, 101, 1};
    double span;

    for (size_t c = 0; c < p->n; c++)
        for (size_t i = 0; i < p->curves[c].n; i++) {
            const double y = 100 * p->curves[c].y_score[i] / p->base_score;
            const double error = p->curves[c].y_error ? p->curves[c].y_error[i] : NAN;
            const double bar = isfinite(error) ? 100 * error / p->base_score : 0;
            if (!isfinite(y)) continue;
            r.low = fmin(r.low, fmax(y - bar, 0));
            r.high = fmax(r.high, y + bar);
        }
    span = r.high - r.low;
    if (r.low > 0 && r.low < 0.25 * r.high) {
        r.low = 0;
        span = r.high;
    }
    r.step = gnuplot_step(span, 8);
    if (r.low != 0) r.low = r.step * floor((r.low - 0.04 * span) / r.step);
    r.high = r.step * ceil((r.high + 0.04 * span) / r.step);
    return r;
}

/* ---- the two files ---- */

/* The label comes last, so that quotes in it cannot hide a number from gnuplot. */
static void print_data(FILE *fp, const void *of)
{
    const struct recovery_plot *p = of;

    fprintf(fp, "curve\ttrained_tokens\tscore\tpercent_of_base\tpercent_error\tlabel\n");
    for (size_t c = 0; c < p->n; c++)
        for (size_t i = 0; i < p->curves[c].n; i++) {
            double y = p->curves[c].y_score[i];
            double error = p->curves[c].y_error ? p->curves[c].y_error[i] : NAN;
            fprintf(fp, "%zu\t%.17g\t%.17g\t%.17g\t%.17g\t", c, p->curves[c].x_tokens[i], y,
                    100 * y / p->base_score, 100 * error / p->base_score);
            for (const char *s = p->curves[c].label; *s; s++)
                fputc((unsigned char)*s < ' ' ? ' ' : *s, fp);
            fputc('\n', fp);
        }
}

static void print_token_ticks(FILE *fp, struct range r)
{
    static const struct {
        double unit;
        const char *letter;
    } units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}, {1, ""}};
    size_t u = 0;

    /* The unit of the last tick, used for all: 0.5M, 1M, 1.5M. */
    while (u < 4 && r.step * floor(r.high / r.step) < units[u].unit)
        u++;
    fprintf(fp, "set xtics (");
    for (int i = 0; i * r.step <= r.high; i++)
        fprintf(fp, "%s'%.6g%s' %.17g", i ? ", " : "", i * r.step / units[u].unit,
                i ? units[u].letter : "", i * r.step);
    fprintf(fp, ")\n");
}

/* In pixels, so that the title fits over the curves and the longest label in the legend. */
static int picture_width(const struct recovery_plot *p)
{
    int title = 10 * gnuplot_width(p->title), label = 26; /* the base line's */

    for (size_t c = 0; c < p->n; c++)
        if (gnuplot_width(p->curves[c].label) > label) label = gnuplot_width(p->curves[c].label);
    return 180 + (title > 700 ? title : 700) + 9 * label;
}

static bool has_errors(const struct curve *c)
{
    for (size_t i = 0; c->y_error && i < c->n; i++)
        if (isfinite(c->y_error[i])) return true;
    return false;
}

/* Of a standard error, the base model's score held fixed. */
static void print_errors(FILE *fp, size_t c)
{
    fprintf(fp, ", \\\n     ");
    gnuplot_bars(fp, "recovery", c, 4, 5);
}

static void print_script(FILE *fp, const void *of)
{
    const struct recovery_plot *p = of;
    struct range x = token_range(p), y = percent_range(p);

    gnuplot_head(fp, "recovery", picture_width(p), 1 + p->n);
    fprintf(fp, "set xlabel 'trained tokens' offset 0,-0.3\n"
                "set ylabel 'score relative to the base model (%%)' offset 0.3,0\n");
    fprintf(fp, "set title ");
    gnuplot_quoted(fp, p->title);
    fprintf(fp, " noenhanced font ',15'\n");
    fprintf(fp, "set xrange [0:%.17g]\n", x.high);
    print_token_ticks(fp, x);
    fprintf(fp, "set yrange [%.17g:%.17g]\nset ytics %.17g\n", y.low, y.high, y.step);
    fprintf(fp,
            "plot 100 with lines linewidth 2 dashtype 2 linecolor rgb '#707070' "
            "title 'base model: %.4g = 100 %%'",
            p->base_score);
    for (size_t c = 0; c < p->n; c++)
        if (has_errors(&p->curves[c])) print_errors(fp, c);
    for (size_t c = 0; c < p->n; c++) {
        fprintf(fp,
                ", \\\n     'recovery.tsv' skip 1 using (column(1) == %zu ? column(2) : NaN):4 "
                "with linespoints linewidth 2.2 dashtype %d pointtype %d pointsize 1.3 "
                "linecolor rgb '%s' title ",
                c, gnuplot_again(c) ? 4 : 1, gnuplot_mark(c), gnuplot_colour(c));
        gnuplot_quoted(fp, p->curves[c].label);
    }
    fprintf(fp, "\nset output\n");
}

bool plot_recovery(const char *dir, const struct recovery_plot *p, struct err *note, struct err *e)
{
    const struct gnuplot_picture picture = {"recovery", print_data, print_script, p};

    if (!(p->base_score > 0 && isfinite(p->base_score)))
        return err_set(e,
                       "%s: no recovery curve: the base model's score is %g, and must be above 0 "
                       "to measure against",
                       dir, p->base_score);
    return gnuplot_make(dir, &picture, note, e);
}
