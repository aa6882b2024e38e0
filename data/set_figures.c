/* set_figures.c - see set_figures.h. */
#include "data/set_figures.h"
#include "data/benchmark.h"
#include "data/metric/paired.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool set_figures_fill(struct set_figures *to, const char *name, const struct metric *m,
                      const struct metric_item *items, size_t n, struct err *e)
{
    memset(to, 0, sizeof *to);
    snprintf(to->name, sizeof to->name, "%s", name);
    snprintf(to->metric, sizeof to->metric, "%s", m ? m->name : "plain");
    to->n = (int64_t)n;
    for (const struct metric_figure *f = benchmark_figures(m)->figures; f->name; f++) {
        struct figure_score *one = &to->figure[to->n_figures++];
        CHECK(to->n_figures <= SET_FIGURES);
        snprintf(one->name, sizeof one->name, "%s", f->name);
        one->most = f->most;
        if (!metric_figure_value(f, items, n, &one->value, e) ||
            !metric_figure_error(f, items, n, &one->se, e))
            return err_context(e, "%s", to->name);
    }
    return true;
}

int figure_digits(double most)
{
    return most > 1 ? 2 : most > 0 ? 4 : 0;
}

void set_figures_text(const struct set_figures *s, char text[SET_FIGURES_TEXT])
{
    size_t n = 0;

    text[0] = '\0';
    for (int i = 0; i < s->n_figures; i++) {
        const struct figure_score *f = &s->figure[i];
        const int digits = figure_digits(f->most);
        if (isnan(f->value)) continue;
        n += (size_t)snprintf(text + n, SET_FIGURES_TEXT - n, "%s%s %.*f", n ? ", " : "", f->name,
                              digits, f->value);
        if (!isnan(f->se))
            n += (size_t)snprintf(text + n, SET_FIGURES_TEXT - n, " +- %.*f", digits, f->se);
    }
}

const char *figure_pair_verdict(const struct paired *p)
{
    if (isnan(p->difference_se)) return "too few to say more";
    if (!p->shown) return "no difference shown";
    return (p->difference > 0) != p->lower ? "better" : "worse";
}

void figure_pair_text(const struct metric_figure *f, const struct paired *p,
                      char text[FIGURE_PAIR_TEXT])
{
    const int digits = figure_digits(f->most);
    char error[80] = "", recovered[80] = "", test[48] = "";

    if (!isnan(p->difference_se))
        snprintf(error, sizeof error, " +- %.*f (95 %%: %+.*f to %+.*f)", digits, p->difference_se,
                 digits, p->interval.low, digits, p->interval.high);
    if (!isnan(p->recovered) && isnan(p->recovered_se))
        snprintf(recovered, sizeof recovered, ", recovered %.2f %%", 100 * p->recovered);
    else if (!isnan(p->recovered))
        snprintf(recovered, sizeof recovered, ", recovered %.2f %% +- %.2f %%", 100 * p->recovered,
                 100 * p->recovered_se);
    if (p->binary && !isnan(p->p)) snprintf(test, sizeof test, ", McNemar's mid-p %.3g", p->p);
    snprintf(text, FIGURE_PAIR_TEXT, "%s %+.*f%s, %.*f against %.*f%s%s: %s", f->name, digits,
             p->difference, error, digits, p->converted, digits, p->base, recovered, test,
             figure_pair_verdict(p));
}

static bool add_number(cJSON *o, const char *key, double v)
{
    return !isfinite(v) || cJSON_AddNumberToObject(o, key, v);
}

bool set_figures_write(const struct set_figures *s, cJSON *to)
{
    cJSON *o = cJSON_AddObjectToObject(to, s->name), *figures = NULL;
    bool ok = o && cJSON_AddStringToObject(o, "metric", s->metric) &&
              cJSON_AddNumberToObject(o, "samples", (double)s->n) &&
              (figures = cJSON_AddObjectToObject(o, "figures"));

    for (int i = 0; ok && i < s->n_figures; i++) {
        const struct figure_score *f = &s->figure[i];
        cJSON *one = cJSON_AddObjectToObject(figures, f->name);
        ok = one && add_number(one, "value", f->value) && add_number(one, "stderr", f->se) &&
             add_number(one, "most", f->most);
    }
    return ok;
}

static double number_or_nan(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(o, key);

    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

bool set_figures_read(struct set_figures *s, const cJSON *o)
{
    const cJSON *metric = cJSON_GetObjectItem(o, "metric"), *f;
    const double n = number_or_nan(o, "samples");

    memset(s, 0, sizeof *s);
    if (!cJSON_IsString(metric) || !(n >= 0 && n < 1e15)) return false;
    snprintf(s->name, sizeof s->name, "%s", o->string);
    snprintf(s->metric, sizeof s->metric, "%s", metric->valuestring);
    s->n = (int64_t)n;
    cJSON_ArrayForEach(f, cJSON_GetObjectItem(o, "figures"))
    {
        struct figure_score *to = &s->figure[s->n_figures];
        if (s->n_figures++ == SET_FIGURES) return false;
        snprintf(to->name, sizeof to->name, "%s", f->string);
        to->value = number_or_nan(f, "value");
        to->se = number_or_nan(f, "stderr");
        to->most = number_or_nan(f, "most");
    }
    return s->n_figures > 0;
}
