/* figures.c - figures of a set from the items of its samples, under lmms-eval's names. */
#include "base/mem.h"
#include "data/metric/metric_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- groups ---- */

static const char *kind_name(const char *kind)
{
    return kind ? kind : "";
}

static int by_key(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int kinds = strcmp(kind_name(x->kind), kind_name(y->kind));

    if (kinds) return kinds;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

static int by_first(const void *a, const void *b)
{
    const struct member *x = a, *y = b;

    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

void members_group(struct member *m, size_t n)
{
    if (!n) return;
    qsort(m, n, sizeof *m, by_key);
    for (size_t i = 0; i < n; i++) {
        bool same = i && m[i].key == m[i - 1].key &&
                    strcmp(kind_name(m[i].kind), kind_name(m[i - 1].kind)) == 0;
        m[i].first = same ? m[i - 1].first : m[i].at;
    }
    qsort(m, n, sizeof *m, by_first);
}

static size_t group_end(const struct member *m, size_t begin, size_t n)
{
    size_t end = begin;

    while (end < n && m[end].first == m[begin].first)
        end++;
    return end;
}

/* ---- means and yes or no ---- */

static bool mean(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    double sum = 0;

    (void)e;
    for (size_t i = 0; i < n; i++)
        sum += items[i].score;
    *out = sum / (double)n;
    return true;
}

static bool each(const struct metric_item *items, size_t n, struct metric_value *v, size_t *k,
                 struct err *e)
{
    (void)e;
    for (*k = 0; *k < n; ++*k)
        v[*k] = (struct metric_value){items[*k].score, items[*k].cluster};
    return true;
}

static bool each_said(const struct metric_item *items, size_t n, struct metric_value *v, size_t *k,
                      struct err *e)
{
    (void)e;
    for (*k = 0; *k < n; ++*k)
        v[*k] = (struct metric_value){items[*k].said == METRIC_YES, items[*k].cluster};
    return true;
}

static bool each_wanted(const struct metric_item *items, size_t n, struct metric_value *v,
                        size_t *k, struct err *e)
{
    (void)e;
    for (*k = 0; *k < n; ++*k)
        v[*k] = (struct metric_value){items[*k].wanted == METRIC_YES, items[*k].cluster};
    return true;
}

static size_t count(const struct metric_item *items, size_t n, int said, int wanted)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++)
        k += (said < 0 || (int)items[i].said == said) &&
             (wanted < 0 || (int)items[i].wanted == wanted);
    return k;
}

enum { ANY = -1 };

static double share(size_t part, size_t rest)
{
    return part + rest ? (double)part / (double)(part + rest) : 0;
}

static bool precision(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    (void)e;
    *out = share(count(items, n, METRIC_YES, METRIC_YES), count(items, n, METRIC_YES, METRIC_NO));
    return true;
}

/* An answer that is neither is not counted as a miss. */
static bool recall(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    (void)e;
    *out = share(count(items, n, METRIC_YES, METRIC_YES), count(items, n, METRIC_NO, METRIC_YES));
    return true;
}

static bool f1(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    double p, r;

    if (!precision(items, n, &p, e) || !recall(items, n, &r, e)) return false;
    *out = p + r > 0 ? 2 * (p * r) / (p + r) : 0;
    return true;
}

static bool yes_wanted(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    (void)e;
    *out = share(count(items, n, ANY, METRIC_YES), count(items, n, ANY, METRIC_NO));
    return true;
}

static bool yes_said(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    size_t yes = count(items, n, METRIC_YES, ANY);

    (void)e;
    *out = share(yes, n - yes);
    return true;
}

/* ---- mmbench ---- */

bool metric_circular(const struct metric_item *items, size_t n, double *hit, size_t *questions,
                     struct err *e)
{
    struct member *m = mem_new(n, sizeof *m, "questions", e);
    double *right = mem_new(n, sizeof *right, "questions", e); /* of the row's question */

    *questions = 0;
    for (size_t i = 0; m && i < n; i++)
        m[i] = (struct member){.key = items[i].index % METRIC_TURN, .at = i};
    if (m) members_group(m, n);
    for (size_t i = 0, end; m && right && i < n; i = end) {
        double all = 1;
        end = group_end(m, i, n);
        for (size_t k = i; k < end; k++)
            if (!(items[m[k].at].score >= 1)) all = 0;
        for (size_t k = i; k < end; k++)
            right[m[k].at] = all;
    }
    for (size_t i = 0; m && right && i < n; i++)
        if (items[i].index < METRIC_TURN) hit[(*questions)++] = right[i];
    free(right);
    free(m);
    return m && right;
}

static bool circular(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    double *hit = mem_new(n, sizeof *hit, "questions", e);
    size_t questions;
    bool ok = hit && metric_circular(items, n, hit, &questions, e);

    if (ok) *out = metric_mean(hit, questions) * 100;
    free(hit);
    return ok;
}

static bool each_question(const struct metric_item *items, size_t n, struct metric_value *v,
                          size_t *k, struct err *e)
{
    double *hit = mem_new(n, sizeof *hit, "questions", e);
    size_t questions = 0;
    bool ok = hit && metric_circular(items, n, hit, &questions, e);

    *k = 0;
    for (size_t i = 0; ok && i < n; i++) {
        if (items[i].index >= METRIC_TURN) continue;
        v[*k] = (struct metric_value){hit[*k] * 100, items[i].cluster};
        ++*k;
    }
    free(hit);
    return ok;
}

static bool each_vanilla(const struct metric_item *items, size_t n, struct metric_value *v,
                         size_t *k, struct err *e)
{
    (void)e;
    *k = 0;
    for (size_t i = 0; i < n; i++)
        if (items[i].index < METRIC_TURN)
            v[(*k)++] = (struct metric_value){items[i].score * 100, items[i].cluster};
    return true;
}

static bool vanilla(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    double sum = 0, rows = 0;

    (void)e;
    for (size_t i = 0; i < n; i++) {
        if (items[i].index >= METRIC_TURN) continue;
        sum += items[i].score;
        rows++;
    }
    *out = rows > 0 ? sum / rows * 100 : NAN;
    return true;
}

static bool undecided(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    (void)e;
    *out = 0;
    for (size_t i = 0; i < n; i++)
        *out += items[i].undecided;
    return true;
}

/* ---- mme ---- */

/* Of a category: the mean over its pictures of 100 * (share right) + 100 * (both right). m[n]: its
 * members, grouped by picture. */
static bool pictures(const struct metric_item *items, const struct member *m, size_t n, double *out,
                     struct err *e)
{
    double sum = 0, number = 0;

    for (size_t i = 0, end; i < n; i = end, number++) {
        double right = 0;
        end = group_end(m, i, n);
        for (size_t k = i; k < end; k++)
            right += items[m[k].at].score;
        if (end - i != 2)
            return err_set(
                e,
                "\"%s\": the picture (\"group\") of row %lld has %zu sample%s: mme needs "
                "two of each",
                kind_name(m[i].kind), (long long)items[m[i].at].row, end - i,
                end - i > 1 ? "s" : "");
        sum += right / 2 * 100 + (right >= 2) * 100.0;
    }
    *out = sum / number;
    return true;
}

/* The sum over categories. */
static bool pairs(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    struct member *m = mem_new(n, sizeof *m, "categories", e);
    bool ok = m;

    *out = 0;
    for (size_t i = 0; m && i < n; i++)
        m[i] = (struct member){.kind = items[i].kind, .at = i};
    if (m) members_group(m, n);
    for (size_t i = 0, end; ok && i < n; i = end) {
        double one = 0;
        end = group_end(m, i, n);
        for (size_t k = i; k < end; k++)
            m[k].key = items[m[k].at].group;
        members_group(m + i, end - i);
        ok = pictures(items, m + i, end - i, &one, e);
        *out += one;
    }
    free(m);
    return ok;
}

/* ---- the lists ---- */

static const char *const image[] = {"image", NULL}, *const video[] = {"video", NULL};
static const char *const human[] = {"human_test", NULL};
const char *const metric_mme_perception[] = {"existence", "count",     "position", "color",
                                             "posters",   "celebrity", "scene",    "landmark",
                                             "artwork",   "OCR",       NULL};
const char *const metric_mme_cognition[] = {"commonsense_reasoning", "numerical_calculation",
                                            "text_translation", "code_reasoning", NULL};

/* The mean of the samples' scores. */
#define MEAN(...)                                                                                  \
    {                                                                                              \
        __VA_ARGS__, .value = mean, .values = each, .most = 1                                      \
    }

const struct metric_figure exact_figures[] = {MEAN("exact_match"), {0}};
const struct metric_figure anls_figures[] = {MEAN("anls"), {0}};
const struct metric_figure mmmu_figures[] = {
    MEAN("mmmu_acc"), {"undecided", .value = undecided}, {0}};
const struct metric_figure seed_figures[] = {
    MEAN("seed_all"), MEAN("seed_image", image), MEAN("seed_video", video), {0}};
const struct metric_figure relaxed_figures[] = {
    MEAN("relaxed_overall"),
    MEAN("relaxed_human_split", human),
    MEAN("relaxed_augmented_split", human, .others = true),
    {0}};
const struct metric_figure pope_figures[] = {
    MEAN("pope_accuracy"),
    {"pope_precision", .value = precision, .most = 1},
    {"pope_recall", .value = recall, .most = 1},
    {"pope_f1_score", .value = f1, .most = 1},
    {"pope_yes_ratio", .value = yes_wanted, .values = each_wanted, .most = 1},
    {"yes_answers", .value = yes_said, .values = each_said, .most = 1},
    {0}};
const struct metric_figure mmbench_figures[] = {
    {"gpt_eval_score", .value = circular, .values = each_question, .most = 100},
    {"vanilla", .value = vanilla, .values = each_vanilla, .most = 100},
    {"undecided", .value = undecided},
    {0}};
const struct metric_figure mme_figures[] = {
    {"mme_perception_score", metric_mme_perception, .value = pairs, .most = 2000},
    {"mme_cognition_score", metric_mme_perception, .others = true, .value = pairs, .most = 800},
    {0}};

/* ---- applying them ---- */

static bool counts(const struct metric_figure *f, const struct metric_item *item)
{
    for (const char *const *k = f->kinds; k && *k; k++)
        if (strcmp(*k, kind_name(item->kind)) == 0) return !f->others;
    return !f->kinds || f->others;
}

size_t metric_figure_items(const struct metric_figure *f, struct metric_item *out,
                           const struct metric_item *items, size_t n)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++)
        if (counts(f, &items[i])) out[k++] = items[i];
    return k;
}

bool metric_figure_value(const struct metric_figure *f, const struct metric_item *items, size_t n,
                         double *out, struct err *e)
{
    struct metric_item *those = mem_new(n, sizeof *those, "items", e);
    size_t k = those ? metric_figure_items(f, those, items, n) : 0;
    bool ok = those;

    *out = NAN;
    if (k) ok = f->value(those, k, out, e);
    free(those);
    return ok;
}

size_t metric_of_kind(struct metric_item *out, const struct metric_item *items, size_t n,
                      const char *kind)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++)
        if (strcmp(kind_name(items[i].kind), kind) == 0) out[k++] = items[i];
    return k;
}
