/* score.c - mha2mla-data score: a file of answers, scored without the model, and compared with the
 * answers of another. */
#include "base/file.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/plural.h"
#include "data/answers.h"
#include "data/metric/paired.h"
#include "data/set_figures.h"
#include "datasets/own.h"
#include "datasets/tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CATEGORIES = 100 };

struct score_args {
    const char *metric, *data, *against, *out;
};

/* The answers of one set. */
struct part {
    const char *set;
    const struct metric *metric;
    struct metric_item *items; /* [n] */
    size_t n;
};

/* ---- what is in a file ---- */

/* The items of the answers whose set is that of answer `first`. */
static bool part_of(struct part *p, const struct answers *a, size_t first, struct err *e)
{
    *p = (struct part){.set = a->v[first].set, .metric = a->v[first].metric};
    p->items = mem_new(a->n, sizeof *p->items, "scores", e);
    for (size_t i = first; p->items && i < a->n; i++) {
        if (strcmp(a->v[i].set, p->set) != 0) continue;
        if (a->v[i].metric != p->metric)
            return err_set(e,
                           "\"%s\": is scored by \"%s\", and answers before by \"%s\": --metric "
                           "names one for all",
                           a->v[i].id, a->v[i].metric ? a->v[i].metric->name : "plain",
                           p->metric ? p->metric->name : "plain");
        p->items[p->n++] = a->v[i].item;
    }
    return p->items;
}

/* ---- showing it ---- */

static const char *shown_name(const struct part *p, const char *path)
{
    return *p->set ? p->set : path;
}

/* " +- 0.0123", or nothing where no error is known. */
static const char *error_text(char out[40], int digits, double se)
{
    snprintf(out, 40, isnan(se) ? "" : " +- %.*f", digits, se);
    return out;
}

/* The first figure that counts such an item. */
static const struct metric_figure *figure_of(const struct part *p, const struct metric_item *item)
{
    const struct metric_figure *first = benchmark_figures(p->metric)->figures, *f = first;
    struct metric_item one;

    while (f->name && metric_figure_items(f, &one, item, 1) == 0)
        f++;
    return f->name ? f : first;
}

/* The main figure of the items of one category; some[p->n]: room. */
static bool print_category(const struct part *p, const struct metric_item *like,
                           struct metric_item *some, struct err *e)
{
    const struct metric_figure *f = figure_of(p, like);
    const size_t n = metric_of_kind(some, p->items, p->n, like->kind);
    const int digits = figure_digits(f->most);
    char error[40];
    double value, se;

    if (!metric_figure_value(f, some, n, &value, e) || !metric_figure_error(f, some, n, &se, e))
        return false;
    if (!isnan(value))
        tool_say("  %s (%zu): %s %.*f%s", like->kind, n, f->name, digits, value,
                 error_text(error, digits, se));
    return true;
}

/* Where there are several. */
static bool print_categories(const struct part *p, struct err *e)
{
    struct metric_item *some = mem_new(p->n, sizeof *some, "scores", e);
    const char *seen[CATEGORIES];
    int n = 0;
    bool ok = some;

    for (size_t i = 0; ok && i < p->n; i++) {
        const char *kind = p->items[i].kind;
        int k = 0;
        while (kind && k < n && strcmp(seen[k], kind) != 0)
            k++;
        if (!kind || k < n) continue;
        if (n == CATEGORIES) {
            tool_say("  more categories than %d are not shown", CATEGORIES);
            break;
        }
        seen[n++] = kind;
        ok = print_category(p, &p->items[i], some, e);
    }
    free(some);
    return ok;
}

static bool beyond(const char *path, const char *figure, struct err *e)
{
    return err_set(
        e,
        "%s: its %s is beyond what a number holds: \"loss\" must be the sum of -log p of "
        "\"n\" tokens",
        path, figure);
}

static bool show_part(const struct part *p, const char *path, cJSON *sets, struct err *e)
{
    struct set_figures f;
    char text[SET_FIGURES_TEXT];

    if (!set_figures_fill(&f, shown_name(p, path), p->metric, p->items, p->n, e)) return false;
    for (int i = 0; i < f.n_figures; i++)
        if (isinf(f.figure[i].value)) return beyond(path, f.figure[i].name, e);
    set_figures_text(&f, text);
    tool_say("%s (%lld): %s", f.name, (long long)f.n, text);
    if (!print_categories(p, e)) return false;
    return !sets || set_figures_write(&f, sets) || err_set(e, "out of memory for scores");
}

/* What makes the figures others than those of one answer to each question. */
static void say_notes(const struct answers *a, const char *path, const struct score_args *args,
                      const struct answers_keys *keys)
{
    if (a->again)
        tool_say("note: %s: %zu answer%s the set and id of an earlier one, and %s counted; the "
                 "first: \"%s\"",
                 path, a->again, a->again > 1 ? "s have" : " has", a->again > 1 ? "are" : "is",
                 a->v[a->first_again].id);
    if (a->unanswered)
        tool_say("note: %s: %zu of the %zu questions of %s %s no answer, and %s not counted; the "
                 "first: \"%s\"",
                 path, a->unanswered, keys->n, args->data, a->unanswered > 1 ? "have" : "has",
                 a->unanswered > 1 ? "are" : "is", keys->v[a->first_unanswered].id);
}

/* ---- two models ---- */

/* The first answer of a set; NULL: there is none. */
static const struct answer *of_set(const struct answers *a, const char *set)
{
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->v[i].set, set) == 0) return &a->v[i];
    return NULL;
}

static bool has_one_set(const struct answers *a)
{
    for (size_t i = 1; i < a->n; i++)
        if (strcmp(a->v[i].set, a->v[0].set) != 0) return false;
    return a->n;
}

/* Answers of other programs name no set: where each file has one, and one of the two has no name,
 * both are of the same. The base's takes the other's. */
static bool share_set(struct answers *base, const struct answers *a, const char *against,
                      struct err *e)
{
    if (!has_one_set(base) || !has_one_set(a) || !*base->v[0].set == !*a->v[0].set) return true;
    tool_say("note: %s: its set is taken for that of the other file: one of them names none",
             against);
    for (size_t i = 0; i < base->n; i++) {
        char *name = mem_strdup(a->v[0].set, e);
        if (!name) return false;
        free(base->v[i].set);
        base->v[i].set = name;
    }
    return true;
}

static bool no_pairs(const struct answers *base, const char *set, const char *against,
                     struct err *e)
{
    if (of_set(base, set))
        return err_set(e, "%s: answers no question that is answered here: no id is in both",
                       against);
    return err_set(
        e,
        "%s: has answers of the set \"%s\", and none of \"%s\": what is compared needs the "
        "same \"set\"",
        against, base->v[0].set, set);
}

/* a: the base, --against; b: the file. */
static bool compare_set(const struct answers *a, const struct answers *b, const char *set,
                        const struct score_args *args, struct err *e)
{
    struct answers_pairs pairs;
    struct paired p;
    char text[FIGURE_PAIR_TEXT];
    bool ok;

    if (!answers_pairs(a, b, set, &pairs, e)) return err_context(e, "%s", args->against);
    ok = pairs.n || no_pairs(a, set, args->against, e);
    if (ok)
        tool_say("against %s: %zu question%s%s", args->against, pairs.n, plural((int64_t)pairs.n),
                 pairs.alone_a + pairs.alone_b ? ", of those that both answer" : "");
    if (ok && pairs.alone_a + pairs.alone_b)
        tool_say("note: not compared: %zu answered there alone, %zu here alone", pairs.alone_a,
                 pairs.alone_b);
    for (const struct metric_figure *f = benchmark_figures(pairs.metric)->figures; ok && f->name;
         f++) {
        ok = metric_figure_compare(f, pairs.a, pairs.b, pairs.n, &p, e) &&
             (!isinf(p.base) || beyond(args->against, f->name, e));
        if (!ok || !p.n) continue;
        figure_pair_text(f, &p, text);
        tool_say("  %s", text);
    }
    answers_pairs_free(&pairs);
    return ok;
}

/* Sets that only the base answers. */
static void say_others(const struct answers *base, const struct answers *a, const char *path)
{
    for (size_t i = 0; i < base->n; i++) {
        size_t n = 0;
        if (!answers_first_of_set(base, i) || of_set(a, base->v[i].set)) continue;
        for (size_t k = i; k < base->n; k++)
            n += strcmp(base->v[k].set, base->v[i].set) == 0;
        tool_say("note: %s answers a set \"%s\" (%zu) too, which is not compared", path,
                 base->v[i].set, n);
    }
}

/* ---- the command ---- */

static bool score_sets(const struct answers *a, const struct answers *base, const char *path,
                       const struct score_args *args, cJSON *sets, struct err *e)
{
    bool ok = true;

    for (size_t i = 0; ok && i < a->n; i++) {
        struct part p = {0};
        if (!answers_first_of_set(a, i)) continue;
        ok = (part_of(&p, a, i, e) || err_context(e, "%s", path)) && show_part(&p, path, sets, e);
        if (ok && base) ok = compare_set(base, a, p.set, args, e);
        free(p.items);
    }
    return ok;
}

static bool replace(struct own *own, const char *name, const char *path, const char *text,
                    struct err *e)
{
    struct file_out out = {0};
    bool ok = file_out_open(&out, path, e);

    if (ok) fputs(text, out.fp); /* flush checks it */
    ok = ok && file_out_flush(&out, e) && own_claim(own, name, out.tmp, e) && own_save(own, e) &&
         file_out_commit(&out, e);
    file_out_abort(&out);
    return ok;
}

/* Writes a text to --out, if nothing is there that this tool did not write (own.h); text NULL:
 * looks whether it may. Links are followed first: what was written is listed by its own name. */
static bool put_out(const char *path, const char *text, struct err *e)
{
    char *real = realpath(path, NULL), *dir;
    const char *name;
    struct own own = {0};
    bool ok;

    if (!real) real = mem_strdup(path, e);
    dir = real ? file_dir(real, e) : NULL;
    name = real && strrchr(real, '/') ? strrchr(real, '/') + 1 : real;
    ok = dir && file_regular(real, e) && own_open(&own, dir, e) && own_may_begin(&own, name, e) &&
         (!text || replace(&own, name, real, text, e));
    own_close(&own);
    free(dir);
    free(real);
    return ok;
}

static bool write_out(cJSON *root, const char *path, struct err *e)
{
    char *text = jsonc_print(root, true, e);
    bool ok = text && put_out(path, text, e);

    free(text);
    return ok;
}

static bool score_file(const char *path, const struct answers_keys *keys,
                       const struct score_args *args, struct err *e)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *sets = root ? cJSON_AddObjectToObject(root, "sets") : NULL;
    struct answers a = {0}, base = {0};
    bool ok = (sets || err_set(e, "out of memory for scores")) &&
              answers_open(&a, path, keys, args->metric, e) &&
              (!args->against || answers_open(&base, args->against, keys, args->metric, e));

    if (ok) say_notes(&a, path, args, keys);
    if (ok && args->against) say_notes(&base, args->against, args, keys);
    ok = ok && (!args->against || share_set(&base, &a, args->against, e)) &&
         score_sets(&a, args->against ? &base : NULL, path, args, sets, e);
    if (ok && args->against) say_others(&base, &a, args->against);
    if (ok && args->out) ok = write_out(root, args->out, e);
    answers_close(&a);
    answers_close(&base);
    cJSON_Delete(root);
    return ok;
}

/* Before anything is scored. */
static bool check_out(const struct score_args *a, const char *path, struct err *e)
{
    const char *const inputs[] = {path, a->data, a->against};

    if (!a->out) return true;
    for (int i = 0; i < 3; i++) {
        char *input = (char *)(uintptr_t)inputs[i];
        if (input && !tool_keep_inputs(a->out, &input, 1, e)) return false;
    }
    return put_out(a->out, NULL, e);
}

static bool check_metric(const char *name, struct err *e)
{
    const struct metric *m;
    char names[BENCHMARK_NAMES];

    if (!name || benchmark_metric(name, &m)) return true;
    benchmark_names(names);
    return err_set(e, "score: --metric %s: allowed: %s", name, names);
}

static bool run(int argc, char **argv, struct err *e)
{
    struct score_args a = {0};
    const struct tool_option options[] = {
        {"metric", "NAME", "what answers are scored by, instead of what they or the data say",
         .text = &a.metric},
        {"data", "FILE",
         "the samples that were asked, found by id, where answers do not repeat them",
         .text = &a.data},
        {"against", "FILE", "answers of the base model: compared question by question",
         .text = &a.against},
        {"out", "FILE", "also writes the figures there, as scores.json has them", .text = &a.out},
        {0}};
    struct answers_keys keys = {0};
    int rest;
    bool help, ok;

    if (!tool_options(options, "score ANSWERS.jsonl [OPTION ...]",
                      "Scores answers, such as a run's answers.jsonl, without the model: every "
                      "figure with its standard error\n(docs/scores.md).",
                      argc, argv, &rest, &help, e))
        return false;
    if (help) return true;
    if (argc - rest != 1) return err_set(e, "score: one file of answers is needed");
    if (!check_out(&a, argv[rest], e)) return false;
    ok = check_metric(a.metric, e) && (!a.data || answers_keys_open(&keys, a.data, a.metric, e)) &&
         score_file(argv[rest], a.data ? &keys : NULL, &a, e);
    answers_keys_close(&keys);
    return ok;
}

const struct tool_command tool_score = {
    "score", "scores a file of answers, and compares two models' answers", run};
