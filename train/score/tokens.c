/* tokens.c - the score `tokens`, teacher-forced: for each trained token, whether it is the most
 * likely one after the true tokens before it, and how likely it is:
 *     tokens right = most likely tokens / tokens
 *     perplexity   = exp(sum over tokens of -log p(token | true tokens before it) / tokens) */
#include "base/mem.h"
#include "base/plural.h"
#include "train/score/prompts.h"

#include <stdio.h>
#include <stdlib.h>

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
        ok = scoring_count(s, i, &one, NULL, e);
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
