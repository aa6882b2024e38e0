/* metric.c - the table of metrics, and how one answer is scored. */
#include "data/metric/metric_parts.h"

#include <stdlib.h>
#include <string.h>

const struct metric metrics[] = {
    {"exact", .figures = exact_figures, .rule = &exact_rule},
    {"ai2d", .figures = exact_figures, .rule = &ai2d_rule},
    {"realworldqa", .question = true, .figures = exact_figures, .rule = &realworldqa_rule},
    {"realworldqa-letter", .figures = exact_figures, .rule = &realworldqa_letter_rule},
    {"seed", .figures = seed_figures, .rule = &seed_rule},
    {"pope", .yes_no = true, .figures = pope_figures, .rule = &pope_rule},
    {"pope-official", .yes_no = true, .figures = pope_figures, .rule = &pope_official_rule},
    {"mmbench", .choices = true, .index = true, .figures = mmbench_figures, .rule = &mmbench_rule},
    {"mmbench-static", .choices = true, .index = true, .figures = mmbench_figures,
     .rule = &mmbench_static_rule},
    {"relaxed", .figures = relaxed_figures, .rule = &relaxed_rule},
    {"anls", .figures = anls_figures, .rule = &anls_rule},
    {"vqa", .figures = exact_figures, .rule = &vqa_rule},
    {"vqav2", .figures = exact_figures, .rule = &vqav2_rule},
    {"mme", .pairs = true, .yes_no = true, .figures = mme_figures, .rule = &mme_rule},
    {"mmmu", .choices = true, .figures = mmmu_figures, .rule = &mmmu_rule},
    {"scienceqa", .figures = exact_figures, .rule = &scienceqa_rule},
    {"scienceqa-letter", .figures = exact_figures, .rule = &scienceqa_letter_rule},
    {"choice", .measured = true, .figures = choice_figures},
    {"tokens", .measured = true, .figures = tokens_figures},
    {0}};

const struct metric *metric_find(const char *name)
{
    for (const struct metric *m = metrics; m->name; m++)
        if (strcmp(m->name, name) == 0) return m;
    return NULL;
}

/* ---- what a rule gets ---- */

static const struct points *all_points(struct work *w, const struct text *t, size_t n)
{
    struct points *out = work_new(w, n, sizeof *out);

    for (size_t i = 0; out && i < n; i++)
        if (t[i].s) out[i] = points_of(w, t[i].s, t[i].n);
    return out;
}

/* A text that is not given is empty. */
static struct points points_or_empty(struct work *w, struct text t)
{
    return t.s ? points_of(w, t.s, t.n) : points_utf8(w, "");
}

static struct inputs inputs_of(struct work *w, const struct metric_sample *s)
{
    return (struct inputs){.answer = points_or_empty(w, s->answer),
                           .references = all_points(w, s->references, s->n_references),
                           .n_references = s->n_references,
                           .choices = all_points(w, s->choices, s->n_choices),
                           .n_choices = s->n_choices,
                           .question = points_or_empty(w, s->question)};
}

static bool check(const struct metric *m, const struct metric_sample *s, struct err *e)
{
    if (m->measured) return err_set(e, "is none of answers");
    if (!s->n_references) return err_set(e, "there is no reference to compare with");
    for (size_t i = 0; i < s->n_references; i++)
        if (!s->references[i].s) return err_set(e, "reference %zu is missing", i + 1);
    if (m->choices && !s->n_choices)
        return err_set(e, "the options of the question (choices) are missing");
    return true;
}

/* ---- scoring ---- */

static enum metric_word word_of(struct points p)
{
    return points_are(p, "yes") ? METRIC_YES : points_are(p, "no") ? METRIC_NO : METRIC_OTHER;
}

static double compare(const struct metric_rule *rule, struct work *w, struct points extracted,
                      struct points reference)
{
    if (rule->compare) return rule->compare(w, extracted, reference);
    return points_equal(extracted, reference);
}

static double best(const struct metric_rule *rule, struct work *w, struct points extracted,
                   const struct inputs *in)
{
    double score = 0;

    for (size_t i = 0; i < in->n_references; i++) {
        double one = compare(rule, w, extracted, in->references[i]);
        if (one > score) score = one;
    }
    return score;
}

static void yes_or_no(const struct metric *m, struct work *w, const struct inputs *in,
                      struct points extracted, struct metric_result *r)
{
    r->said = word_of(extracted);
    r->wanted = word_of(m->rule->reference(w, in->references[0]));
    r->score = r->said == r->wanted;
    if (w->failed || r->wanted != METRIC_OTHER) return;
    w->failed = !err_set(w->e, "the reference must be yes or no");
}

static bool score(const struct metric *m, struct work *w, const struct metric_sample *s,
                  struct metric_result *r)
{
    struct inputs in = inputs_of(w, s);
    struct points extracted = {0};

    if (w->failed) return false;
    extracted = m->rule->extract(w, &in);
    if (m->yes_no)
        yes_or_no(m, w, &in, extracted, r);
    else if (m->rule->compare_all)
        r->score = m->rule->compare_all(w, extracted, &in);
    else if (extracted.v)
        r->score = best(m->rule, w, extracted, &in);
    return !w->failed && points_text(extracted, &r->extracted, w->e);
}

bool metric_score(const struct metric *m, const struct metric_sample *s, struct metric_result *r,
                  struct err *e)
{
    struct work w = {.e = e};
    bool ok;

    memset(r, 0, sizeof *r);
    ok = (check(m, s, e) && score(m, &w, s, r)) || err_context(e, "metric \"%s\"", m->name);
    work_free(&w);
    if (!ok) *r = (struct metric_result){0};
    return ok;
}

void metric_result_free(struct metric_result *r)
{
    free(r->extracted.s);
    *r = (struct metric_result){0};
}
