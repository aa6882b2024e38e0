/* scorer.c - the table of scores. */
#include "train/score/scorer.h"

const char *const score_names[SCORES] = {SCORE_NAMES};

static bool has_metric(const struct run *r)
{
    bool has = false;

    for (int64_t i = 0; i < r->n_eval; i++)
        has = has || r->eval[i].data.metric;
    return has;
}

const char *scorer_title(const struct run *r)
{
    return scorer_of(&r->c)->generates && has_metric(r) ? "mean score"
                                                        : scorer_of(&r->c)->cell[0].name;
}

const char *scorer_counted(const struct run *r)
{
    return scorer_of(&r->c)->generates && has_metric(r)
               ? "generated answers, each worth 0 to 1 by the metric of its set"
               : scorer_of(&r->c)->counted;
}

const struct scorer scorers[SCORES] = {
    [SCORE_ANSWERS] = {.items = "questions",
                       .counted = "generated answers that match exactly",
                       .needs_question = true,
                       .generates = true,
                       .batch = answers_score,
                       .say = answers_say,
                       .cell = {{"exact match", score_share, true}}},
    [SCORE_TOKENS] = {.items = "tokens",
                      .counted = "tokens that are the likeliest after the true ones before them",
                      .batch = tokens_score,
                      .say = tokens_say,
                      .cell = {{"tokens right", score_share, true},
                               {"perplexity", score_perplexity, false}}},
    [SCORE_OPTIONS] = {.items = "questions",
                       .counted = "questions whose right option is the likeliest answer",
                       .needs_question = true,
                       .needs_choices = true,
                       .batch = options_score,
                       .say = options_say,
                       .cell = {{"option right", score_share, true},
                                {"right by length", score_by_length, true}}},
};
