/* answers.c - the score `answers`: an answer is generated to each sample's last question, and is
 * worth what the metric of its set says (docs/scores.md). Without one it is right if it equals the
 * expected one, apart from white space at the ends:
 *     exact match = answers equal to the expected one / answers */
#include "base/mem.h"
#include "base/text.h"
#include "train/score/prompts.h"

#include <stdio.h>
#include <stdlib.h>

static bool score_answer(struct scoring *s, int64_t i, const struct generation *g, struct err *e)
{
    const struct sample *sample = &s->samples[i];
    struct text got = {0}, answer;
    struct metric_result r;
    struct metric_item item;
    bool ok;

    got.s = tokenizer_decode(s->r->tokenizer, g->ids, (size_t)g->n, true, &got.n, e);
    if (!got.s) return false;
    answer = text_trimmed(got);
    ok = benchmark_score(&sample->by, sample->answer, answer, &r, e);
    if (ok) {
        item = benchmark_item(&sample->by, &r, scoring_picture(s, i), sample->id);
        ok = scoring_count(s, i, &(struct score){.n = 1, .right = r.score}, &item, e) &&
             scoring_put_answer(s, i, answer, &r, e);
        metric_result_free(&r);
    }
    free(got.s);
    return ok;
}

bool answers_score(struct scoring *s, struct err *e)
{
    const struct generator how = scoring_generator(s);
    const struct prompts_in in = {s->samples, s->n, .prompts = true, .more = how.max_new};
    struct generation *g = mem_new((size_t)s->n, sizeof *g, "answers", e);
    struct prompts p;
    bool ok = g && prompts_open(&p, s, &in, e);

    if (ok) {
        ok = model_continue(&how, &p.f, g, e);
        prompts_close(&p, s, ok);
    }
    for (int64_t i = 0; ok && i < s->n; i++)
        ok = score_answer(s, i, &g[i], e);
    if (g) generation_free(g, s->n);
    free(g);
    return ok;
}

void answers_say(char text[SCORE_TEXT], const char *title, const struct score *all)
{
    char error[24] = "";

    if (all->has_error) snprintf(error, sizeof error, " +- %.2f", 100 * all->se);
    snprintf(text, SCORE_TEXT, "%s %.2f %%%s (%.6g of %lld)", title,
             all->n ? 100 * score_share(all) : 0.0, error, all->right, (long long)all->n);
}
