/* options.c - the score `options`: every option of a question is scored as its answer, by
 * likelihood, and the likeliest is taken:
 *     option right    = questions whose right option has the largest log p(option | prompt)
 *     right by length = the same by log p / characters of the option
 * An option is its letter where the expected answer is one, else its text; what ends a turn is not
 * counted. */
#include "base/mem.h"
#include "model/likelihood.h"
#include "train/score/prompts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS = 26 };
static const char letters[OPTIONS + 1] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/* The options of a question as answers. */
struct asked {
    struct text text[OPTIONS]; /* borrowed; s NULL: missing */
    int64_t n, right;
};

static bool equal(struct text a, struct text b)
{
    a = text_trimmed(a);
    b = text_trimmed(b);
    return a.n == b.n && memcmp(a.s, b.s, a.n) == 0;
}

static bool take_options(const struct sample *s, struct asked *a, struct err *e)
{
    const struct benchmark *by = &s->by;
    const struct text want = by->n_answers ? text_trimmed(by->answers[0]) : (struct text){0};
    const int letter = benchmark_letter(by);
    char id[96];

    *a = (struct asked){.n = (int64_t)by->n_choices, .right = -1};
    if (a->n > OPTIONS) a->n = OPTIONS;
    for (int64_t i = 0; i < a->n; i++) {
        if (!by->choices[i].s) continue;
        a->text[i] =
            letter >= 0 ? (struct text){(char *)(uintptr_t)letters + i, 1} : by->choices[i];
        if (a->right < 0 && (letter >= 0 ? letter == i : equal(want, by->choices[i])))
            a->right = i; /* of equal ones the first, which is what is taken */
    }
    return a->right >= 0 ||
           err_set(e,
                   "sample %s: its answer is neither an option's letter nor its text: "
                   "evaluate.score \"options\" needs \"choices\" and a metric (docs/scores.md)",
                   text_plain(id, sizeof id, s->id.s, s->id.n));
}

/* Code points. */
static double characters(struct text t)
{
    size_t n = 0;

    for (size_t i = 0; i < t.n; i++)
        n += ((unsigned char)t.s[i] & 0xc0) != 0x80;
    return n ? (double)n : 1;
}

/* The option with the largest figure, the first of several. logp: of option k at k * stride. */
static int64_t best(const struct asked *a, const double *logp, int64_t stride, bool by_length)
{
    int64_t found = -1;
    double most = -INFINITY;

    for (int64_t k = 0; k < a->n; k++) {
        const double v = logp[k * stride] / (by_length ? characters(a->text[k]) : 1);
        if (!a->text[k].s || (found >= 0 && v <= most)) continue;
        found = k;
        most = v;
    }
    return found;
}

/* log p of each option, NaN where one is missing, for the line of the option that is taken. */
static bool keep_likelihoods(struct benchmark *by, const struct asked *a, const double *logp,
                             int64_t stride, struct err *e)
{
    by->logp = mem_new(by->n_choices, sizeof *by->logp, "options", e);
    for (size_t k = 0; by->logp && k < by->n_choices; k++)
        by->logp[k] = k < OPTIONS && a->text[k].s ? logp[(int64_t)k * stride] : NAN;
    return by->logp;
}

static bool count(struct scoring *s, int64_t i, const struct asked *a, const double *logp,
                  struct err *e)
{
    const int64_t n = s->n, taken = best(a, logp + i, n, false);
    const struct score one = {
        .n = 1, .right = taken == a->right, .by_length = best(a, logp + i, n, true) == a->right};
    const struct metric_result r = {.score = one.right, .extracted = a->text[taken]};
    const struct metric_item item =
        benchmark_item(&s->samples[i].by, &r, scoring_picture(s, i), s->samples[i].id);

    return scoring_count(s, i, &one, &item, e) &&
           keep_likelihoods(&s->samples[i].by, a, logp + i, n, e) &&
           scoring_put_answer(s, i, r.extracted, &r, e);
}

/* The options of all samples as tokens: o[k * n + i] is option k of sample i. */
struct all_options {
    struct asked *a;        /* [n] */
    struct continuation *o; /* [OPTIONS * n] */
    double *logp;           /* the same */
    int64_t most, longest;  /* options of a sample, tokens of one */
};

static void options_free(struct all_options *all, int64_t n)
{
    for (int64_t i = 0; all->o && i < n * OPTIONS; i++)
        free(all->o[i].ids);
    free(all->o);
    free(all->a);
    free(all->logp);
}

static bool options_open(struct all_options *all, const struct scoring *s, struct err *e)
{
    const int64_t n = s->n;
    bool ok;

    *all = (struct all_options){0};
    all->a = mem_new((size_t)n, sizeof *all->a, "options", e);
    all->o = mem_new((size_t)n * OPTIONS, sizeof *all->o, "options", e);
    all->logp = mem_new((size_t)n * OPTIONS, sizeof *all->logp, "options", e);
    ok = all->a && all->o && all->logp;
    for (int64_t i = 0; ok && i < n; i++) {
        struct asked *a = &all->a[i];
        ok = take_options(&s->samples[i], a, e);
        if (ok && a->n > all->most) all->most = a->n;
        for (int64_t k = 0; ok && k < a->n; k++) {
            struct continuation *o = &all->o[k * n + i];
            if (!a->text[k].s) continue;
            ok = dataset_continuation(&s->set->data, s->items[i].entry, &s->samples[i], a->text[k],
                                      o, e);
            if (ok && o->n > all->longest) all->longest = o->n;
        }
    }
    if (!ok) options_free(all, n);
    return ok;
}

/* Options of sample i that are of equal tokens are equally likely: each takes the first one's log
 * p, whose last bits may differ by what is computed together. */
static void level(struct all_options *all, int64_t i, int64_t n)
{
    for (int64_t k = 1; k < all->a[i].n; k++)
        for (int64_t j = 0; j < k; j++) {
            const struct continuation *a = &all->o[j * n + i], *b = &all->o[k * n + i];
            if (!a->n || a->n != b->n || memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids) != 0)
                continue;
            all->logp[k * n + i] = all->logp[j * n + i];
            break;
        }
}

/* Options of questions that are asked as the set's template asks them. */
static bool asked_score(struct scoring *s, struct err *e)
{
    const struct generator how = scoring_generator(s);
    struct all_options all;
    struct prompts p;
    bool ok = options_open(&all, s, e);

    if (!ok) return false;
    ok = prompts_open(
        &p, s, &(struct prompts_in){s->samples, s->n, .prompts = true, .more = all.longest}, e);
    if (ok) {
        ok = model_likelihood(&how, &p.f, all.o, all.most, all.logp, e);
        prompts_close(&p, s, ok);
    }
    for (int64_t i = 0; ok && i < s->n; i++) {
        level(&all, i, s->n);
        ok = count(s, i, &all.a[i], all.logp, e);
    }
    options_free(&all, s->n);
    return ok;
}

bool options_score(struct scoring *s, struct err *e)
{
    if (s->set->data.metric && s->set->data.metric->measured) return choices_score(s, e);
    return asked_score(s, e);
}

void options_say(char text[SCORE_TEXT], const char *title, const struct score *all)
{
    char error[24] = "";

    if (all->has_error) snprintf(error, sizeof error, " +- %.2f", 100 * all->se);
    snprintf(text, SCORE_TEXT, "%s %.2f %%%s (%.0f of %lld), by length %.2f %%", title,
             all->n ? 100 * score_share(all) : 0.0, error, all->right, (long long)all->n,
             all->n ? 100 * score_by_length(all) : 0.0);
}
