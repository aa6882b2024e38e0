/* tokens.c - the score `tokens`, teacher-forced, with a window that moves over long texts: for each
 * trained token, whether it is the most likely one after the true tokens before it,
 * and how likely it is:
 *     tokens right = most likely tokens / tokens
 *     perplexity   = exp(sum over tokens of -log p(token | true tokens before it) / tokens) */
#include "base/mem.h"
#include "base/plural.h"
#include "train/score/prompts.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

/* For the figures of the set, and for comparing two models on the same samples. */
static bool count(struct scoring *s, int64_t i, const struct score *one, struct err *e)
{
    const struct sample *sample = &s->samples[i];
    const struct metric_result r = {.score = one->right, .extracted = sample->id};
    struct metric_item item = benchmark_item(&sample->by, &r, scoring_picture(s, i), sample->id);
    cJSON *line;

    item.tokens = (double)one->n;
    item.loss = one->loss;
    if (!scoring_count(s, i, one, &item, e)) return false;
    if (!s->answers) return true;
    line = scoring_line(s, i, sample->n, e);
    if (!line) return false;
    if (cJSON_AddStringToObject(line, "metric", "tokens") &&
        cJSON_AddNumberToObject(line, "n", (double)one->n) &&
        cJSON_AddNumberToObject(line, "right_tokens", one->right) &&
        cJSON_AddNumberToObject(line, "loss", one->loss))
        return scoring_put(s, line, e);
    cJSON_Delete(line);
    return err_set(e, "out of memory for a score");
}

/* A part of a sample that is scored as a sequence of its own: its tokens [begin, end), of which
 * those from `from` on are scored. */
struct window {
    int64_t sample, begin, end, from;
};

/* The windows of sample i: as in transformers' guide to the perplexity of models of fixed length,
 * each scores what those before it have not. Returns how many; w NULL: only counts. */
static int64_t cut(const struct scoring *s, int64_t i, struct window *w)
{
    const struct dataset_options *o = &s->set->data.o;
    const struct sample *sample = &s->samples[i];
    const bool whole = !o->window || sample->n <= o->window ||
                       s->set->data.entries[s->items[i].entry].sequences == 1;
    const int64_t size = whole ? sample->n : o->window;
    int64_t n = 0, done = 0;

    for (int64_t begin = 0; done < sample->n; begin += o->stride, n++) {
        const int64_t end = begin + size < sample->n ? begin + size : sample->n;
        if (w) w[n] = (struct window){i, begin, end, done};
        done = end;
    }
    return n;
}

/* A window as a sample, which shares the original's memory but for `trained`. */
static bool take(const struct scoring *s, const struct window *w, struct sample *to, struct err *e)
{
    const struct sample *all = &s->samples[w->sample];
    const int64_t n = w->end - w->begin;

    *to = *all;
    to->n = n;
    to->prompt = all->prompt < n ? all->prompt : n;
    to->ids = all->ids + w->begin;
    to->kind = all->kind + w->begin;
    to->trained = mem_new((size_t)n, sizeof *to->trained, "a window", e);
    for (int64_t k = w->from - w->begin; to->trained && k < n; k++)
        to->trained[k] = all->trained[w->begin + k];
    return to->trained;
}

/* Adds up the scores of n windows, by their samples. */
static bool score_windows(struct scoring *s, const struct window *w, int64_t n, struct score *one,
                          struct err *e)
{
    const struct generator how = scoring_generator(s);
    struct sample *part = mem_new((size_t)n, sizeof *part, "windows", e);
    struct token_score *each = NULL;
    struct prompts p = {0};
    bool ok = part;

    for (int64_t i = 0; ok && i < n; i++)
        ok = take(s, &w[i], &part[i], e);
    ok = ok && prompts_open(&p, s, &(struct prompts_in){part, n, .prompts = false}, e);
    if (ok) {
        const struct batch *b = &p.batch.batch;
        each = mem_new((size_t)b->labels, sizeof *each, "scores of tokens", e);
        ok = each && (!b->labels || model_score(&how, &p.f, each, e));
        for (int64_t i = 0, k = 0; ok && i < n; i++)
            for (; k < b->labels && b->label_rows[k] < b->begin[i + 1]; k++) {
                one[w[i].sample].n++;
                one[w[i].sample].right += each[k].right;
                one[w[i].sample].loss += each[k].loss;
            }
        prompts_close(&p, s, ok);
    }
    for (int64_t i = 0; part && i < n; i++)
        free(part[i].trained);
    free(part);
    free(each);
    return ok;
}

/* As many windows as a batch has room for. */
static int64_t next_windows(const struct scoring *s, const struct window *w, int64_t n)
{
    int64_t count = 0, longest = 0;

    for (; count < n; count++) {
        const int64_t size = w[count].end - w[count].begin;
        const int64_t most = size > longest ? size : longest;
        if (count && (count + 1) * most > s->room.rows) break;
        longest = most;
    }
    return count;
}

bool tokens_score(struct scoring *s, struct err *e)
{
    struct score *one = mem_new((size_t)s->n, sizeof *one, "scores", e);
    struct window *w = NULL;
    int64_t n = 0;
    bool ok = one;

    for (int64_t i = 0; i < s->n; i++)
        n += cut(s, i, NULL);
    w = ok ? mem_new((size_t)n, sizeof *w, "windows", e) : NULL;
    ok = w;
    for (int64_t i = 0, at = 0; ok && i < s->n; i++)
        at += cut(s, i, w + at);
    for (int64_t at = 0, size; ok && at < n; at += size) {
        size = next_windows(s, w + at, n - at);
        ok = score_windows(s, w + at, size, one, e);
    }
    for (int64_t i = 0; ok && i < s->n; i++)
        ok = count(s, i, &one[i], e);
    free(one);
    free(w);
    return ok;
}

void tokens_say(char text[SCORE_TEXT], const char *title, const struct score *all)
{
    (void)title;
    snprintf(text, SCORE_TEXT, "perplexity %.4f, %.2f %% of %lld token%s right",
             score_perplexity(all), all->n ? 100 * score_share(all) : 0.0, (long long)all->n,
             plural(all->n));
}
