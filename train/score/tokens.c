/* tokens.c - the score `tokens`, teacher-forced: for each trained token, whether it is the most
 * likely one after the true tokens before it, and how likely it is:
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

bool tokens_score(struct scoring *s, struct err *e)
{
    const struct generator how = scoring_generator(s);
    const struct prompts_in in = {s->samples, s->n, .prompts = false};
    struct token_score *each = NULL;
    struct prompts p;
    bool ok = prompts_open(&p, s, &in, e);
    const struct batch *b = &p.batch.batch;

    if (!ok) return false;
    each = mem_new((size_t)b->labels, sizeof *each, "scores of tokens", e);
    ok = each && model_score(&how, &p.f, each, e);
    for (int64_t i = 0, k = 0; ok && i < b->samples; i++) {
        struct score one = {0};
        for (; k < b->labels && b->label_rows[k] < b->begin[i + 1]; k++) {
            one.n++;
            one.right += each[k].right;
            one.loss += each[k].loss;
        }
        ok = count(s, i, &one, e);
    }
    prompts_close(&p, s, ok);
    free(each);
    return ok;
}

void tokens_say(char text[SCORE_TEXT], const char *title, const struct score *all)
{
    (void)title;
    snprintf(text, SCORE_TEXT, "perplexity %.4f, %.2f %% of %lld token%s right",
             score_perplexity(all), all->n ? 100 * score_share(all) : 0.0, (long long)all->n,
             plural(all->n));
}
