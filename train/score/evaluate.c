/* evaluate.c - takes the chosen samples of every set through the score's function, a batch at a
 * time. The batches of a set go to the processes in turn; what comes of each sample is then
 * counted in the order of the samples, so that the scores do not depend on the number of
 * processes. */
#include "train/score/evaluate.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/place.h"
#include "base/signals.h"
#include "base/text.h"
#include "base/watch.h"
#include "cluster/cluster.h"
#include "train/caches.h"
#include "train/score/choice.h"
#include "train/score/figures.h"
#include "train/score/scorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "set/kind", "kind", "set" or "": the name under which a sample is scored apart from the total. */
static void kind_name(const struct run *r, const struct eval_set *set, const struct text *id,
                      char name[128])
{
    const char *kind = id->n ? memrchr(id->s, '#', id->n) : NULL;
    const char *where = r->n_eval > 1 ? set->name : "";
    char plain[100] = "";

    if (kind) text_plain(plain, sizeof plain, kind + 1, (size_t)(id->s + id->n - kind - 1));
    snprintf(name, 128, "%s%s%s", where, kind && *where ? "/" : "", plain);
}

struct text scoring_picture(const struct scoring *s, int64_t i)
{
    const struct sample *sample = &s->samples[i];
    char *path = sample->images ? s->set->data.images[sample->image[0]].path : NULL;

    return (struct text){path, path ? strlen(path) : 0};
}

/* The categories, and under which names they are scored apart. */
static void note_categories(const struct scoring *s, const struct benchmark *by, struct scored *to)
{
    const char *where = s->r->n_eval > 1 ? s->set->name : "";

    for (size_t i = 0; i < by->n_categories; i++) {
        text_plain(to->category[i], sizeof to->category[i], by->category[i].s, by->category[i].n);
        snprintf(to->kind[i], sizeof to->kind[i], "%.60s%s%s", where, *where ? "/" : "",
                 to->category[i]);
    }
}

bool scoring_count(struct scoring *s, int64_t i, const struct score *one,
                   const struct metric_item *item, struct err *e)
{
    struct scored *to;

    if (!mem_grow(&s->scored, &s->cap_scored, s->n_scored + 1, sizeof *s->scored, e)) return false;
    to = &s->scored[s->n_scored++];
    memset(to, 0, sizeof *to); /* its gaps too: it is sent as it is */
    to->entry = s->items[i].entry;
    to->curve = s->items[i].curve;
    to->one = *one;
    kind_name(s->r, s->set, &s->samples[i].id, to->one.name);
    if (!item) return true;
    to->has_item = true;
    to->item = *item;
    to->item.kind = NULL; /* another process has no use for it */
    to->item.row = s->items[i].entry + 1;
    note_categories(s, &s->samples[i].by, to);
    return true;
}

struct generator scoring_generator(const struct scoring *s)
{
    const struct run *r = s->r;

    return (struct generator){.m = s->m,
                              .t = r->tape,
                              .memory_limit = r->memory_limit,
                              .max_new = run_max_new(r, s->set - r->eval),
                              .stop = r->stop,
                              .n_stop = r->n_stop,
                              .cache = s->cache,
                              .stats = s->stats};
}

void evaluate_each(const struct run *r, int64_t set, bool curve, entry_visitor *visit, void *arg)
{
    const struct choice c = choice_of(r, &r->eval[set]);
    const struct dataset *d = &r->eval[set].data;
    bool both;

    for (int64_t i = 0; i < d->n; i++)
        if (choice_has(&c, d->entries[i].unit, &both) && (both || !curve)) visit(arg, i);
}

/* An evaluation under way. */
struct evaluation {
    struct scoring s;
    const char *context;      /* of the progress line */
    bool curve;               /* only the samples of the curve */
    struct batch_item *items; /* [n_items]: of the set, in the order in which they are scored */
    int64_t n_items;
    size_t cap_items, cap_samples;
    struct scores *out;
    FILE *answers; /* the file; of the first process, NULL: not wanted */
    char *lines;   /* [n_lines]: this process's of the set, by s.answers */
    size_t n_lines;
    struct scored *all; /* [n_all]: of all sets so far, in order */
    size_t n_all, cap_all;
};

/* Scores the n items from `at` on. */
static bool score_batch(struct evaluation *v, int64_t at, int64_t n, struct err *e)
{
    struct scoring *s = &v->s;
    bool ok = mem_grow(&s->samples, &v->cap_samples, (size_t)n, sizeof *s->samples, e);

    if (!ok) return false;
    memset(s->samples, 0, (size_t)n * sizeof *s->samples);
    s->items = v->items + at;
    s->n = n;
    for (int64_t i = 0; ok && i < n; i++)
        ok = dataset_sample(&s->set->data, s->items[i].entry, &s->samples[i], e);
    ok = ok && s->how->batch(s, e);
    for (int64_t i = 0; i < n; i++)
        sample_free(&s->samples[i]);
    return ok;
}

/* Finds what is to be scored of a set, and in which order. */
static bool choose_items(struct evaluation *v, const struct eval_set *set, struct err *e)
{
    const struct choice c = choice_of(v->s.r, set);
    const struct dataset *d = &set->data;

    v->n_items = 0;
    for (int64_t i = 0; i < d->n; i++) {
        struct batch_item one = {.entry = i};
        if (!choice_has(&c, d->entries[i].unit, &one.curve) || (v->curve && !one.curve)) continue;
        if (!mem_grow(&v->items, &v->cap_items, (size_t)v->n_items + 1, sizeof one, e))
            return false;
        v->items[v->n_items++] = one;
    }
    return batches_order(d, v->items, v->n_items, e);
}

/* Scores this process's batches of a set. */
static bool score_batches(struct evaluation *v, const struct eval_set *set, struct err *e)
{
    int64_t size;

    v->s.set = set;
    for (int64_t at = 0, b = 0;
         (size = batches_next(&set->data, v->items, v->n_items, at, &v->s.room)) > 0;
         at += size, b++) {
        if (b % cluster_size() != cluster_rank()) continue;
        log_progress("%s: scoring %s, %lld of %lld", v->context, set->name, (long long)at,
                     (long long)v->n_items);
        if (!signals_go_on(e)) return false;
        if (!score_batch(v, at, size, e)) return false;
    }
    return true;
}

/* What came of a sample, with its line of the answers. */
struct result {
    const struct scored *scored;
    const char *line;
    size_t len;
};

/* By their places in the set. */
static int in_order(const void *a, const void *b)
{
    const struct scored *x = ((const struct result *)a)->scored;
    const struct scored *y = ((const struct result *)b)->scored;

    return (x->entry > y->entry) - (x->entry < y->entry);
}

/* Adds up the score of one sample. */
static bool count_one(struct evaluation *v, const struct scored *s, struct err *e)
{
    bool ok = scores_add(v->out, s->one.name, s->curve, &s->one, e) &&
              mem_grow(&v->all, &v->cap_all, v->n_all + 1, sizeof *v->all, e);

    for (int i = 0; ok && i < BENCHMARK_CATEGORIES && s->kind[i][0]; i++)
        ok = scores_add_kind(v->out, s->kind[i], &s->one, e);
    if (ok) v->all[v->n_all++] = *s;
    return ok;
}

/* Adds up the scores of n samples, and writes their lines. */
static bool count_all(struct evaluation *v, const struct scored *scored, const char *lines,
                      size_t n, struct err *e)
{
    struct result *all = mem_new(n, sizeof *all, "scores", e);
    bool ok = all;

    for (size_t i = 0; ok && i < n; i++) {
        const char *end = *lines ? strchr(lines, '\n') + 1 : lines;
        all[i] = (struct result){&scored[i], lines, (size_t)(end - lines)};
        lines = end;
    }
    if (ok) qsort(all, n, sizeof *all, in_order);
    for (size_t i = 0; ok && i < n; i++) {
        ok = count_one(v, all[i].scored, e);
        if (v->answers) fwrite(all[i].line, 1, all[i].len, v->answers); /* commit checks it */
    }
    free(all);
    return ok;
}

/* What all processes have of a set. */
static bool gather_set(struct evaluation *v, struct err *e)
{
    struct scoring *s = &v->s;
    void *scored = NULL, *lines = NULL;
    size_t n_scored, n_lines;
    bool ok = cluster_gather(s->scored, s->n_scored * sizeof *s->scored, &scored, &n_scored, e) &&
              cluster_gather(v->lines, v->n_lines, &lines, &n_lines, e);

    ok = ok && count_all(v, scored, lines, n_scored / sizeof *s->scored, e);
    free(scored);
    free(lines);
    return ok;
}

static bool evaluate_set(struct evaluation *v, const struct eval_set *set, bool answers,
                         struct err *e)
{
    const size_t before = v->n_all;
    bool ok = true;

    if (!batches_room(v->s.r, v->s.m, set, &v->s.room, e)) return false;
    v->s.n_scored = 0;
    if (answers) ok = (v->s.answers = open_memstream(&v->lines, &v->n_lines)) != NULL;
    ok = (ok || err_set(e, "out of memory for answers")) && choose_items(v, set, e) &&
         score_batches(v, set, e);
    if (v->s.answers && fclose(v->s.answers) != 0 && ok)
        ok = err_set(e, "out of memory for answers");
    ok = cluster_go_on(ok, e) && gather_set(v, e) &&
         figures_add_set(v->out, set, v->all + before, v->n_all - before, e);
    free(v->lines);
    v->lines = NULL;
    v->n_lines = 0;
    v->s.answers = NULL;
    return ok;
}

/* How the caches of all processes were used. */
static bool sum_stats(struct generate_stats *g, struct err *e)
{
    double all[] = {(double)g->prompt_tokens, (double)g->new_tokens, (double)g->cached_tokens,
                    (double)g->cache_bytes, (double)g->shared_tokens};

    if (!cluster_sum(all, sizeof all / sizeof *all, e)) return false;
    g->prompt_tokens = (int64_t)all[0];
    g->new_tokens = (int64_t)all[1];
    g->cached_tokens = (int64_t)all[2];
    g->cache_bytes = (size_t)all[3];
    g->shared_tokens = (int64_t)all[4];
    return true;
}

static void say_scores(const struct evaluation *v)
{
    const struct scores *s = v->out;
    const struct generate_stats *g = &s->stats;
    double bytes = g->cached_tokens ? (double)g->cache_bytes / (double)g->cached_tokens : 0.0;
    char text[SCORE_TEXT], figures[SET_FIGURES_TEXT], kind[CACHE_KIND_TEXT];

    for (size_t i = 0; i < s->n_sets; i++) {
        set_figures_text(&s->sets[i], figures);
        log_line("%s: %s: %s", v->context, s->sets[i].name, figures);
    }
    v->s.how->say(text, scorer_title(v->s.r), &s->all);
    log_line("%s: %s, %.0f bytes of cache a token (%s), %.1f s, %.3g samples a second", v->context,
             text, bytes, cache_kind_text(kind, &s->cache), s->seconds,
             s->seconds > 0 ? (double)v->n_all / s->seconds : 0.0);
    if (g->shared_tokens)
        log_line("%s: %lld of %lld tokens of prompts were those of another's, and computed once",
                 v->context, (long long)g->shared_tokens, (long long)g->prompt_tokens);
}

static void close_evaluation(struct evaluation *v)
{
    free(v->items);
    free(v->s.scored);
    free(v->s.samples);
    free(v->all);
}

bool evaluate(struct run *r, struct model *m, const struct evaluate_how *how, struct scores *s,
              struct err *e)
{
    struct evaluation v = {.s = {.r = r, .m = m, .how = scorer_of(&r->c), .stats = &s->stats},
                           .context = how->context,
                           .curve = how->curve,
                           .out = s};
    const bool answers = how->answers;
    struct file_out out = {0};
    struct cache_how cache = {0};
    double begin = clock_seconds();
    bool ok;

    memset(s, 0, sizeof *s);
    s->cache = how->cache ? *how->cache : caches_own(&r->c, m);
    v.s.cache = &cache;
    ok = cluster_agree(cache_how_new(&cache, m, &s->cache, e) &&
                           (!answers || !cluster_first() || file_out_open(&out, how->answers, e)),
                       e);
    v.answers = out.fp;
    for (int64_t k = 0; ok && k < r->n_eval; k++)
        ok = evaluate_set(&v, &r->eval[k], answers, e);
    ok = ok && sum_stats(&s->stats, e) && figures_set_errors(s, v.all, v.n_all, e);
    ok = cluster_go_on(
        ok && watch_check(e) && place_check(e) && (!out.fp || file_out_commit(&out, e)), e);
    scores_sort(s);
    s->seconds = clock_seconds() - begin;
    if (ok) say_scores(&v);
    file_out_abort(&out);
    close_evaluation(&v);
    cache_how_free(&cache);
    if (!ok) scores_free(s);
    return ok;
}
