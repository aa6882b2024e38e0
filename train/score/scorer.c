/* scorer.c - the table of scores. */
#include "train/score/scorer.h"

const char *const score_names[SCORES] = {SCORE_NAMES};

const struct scorer scorers[SCORES] = {
    [SCORE_ANSWERS] = {.items = "questions",
                       .counted = "generated answers that match exactly",
                       .needs_question = true,
                       .generates = true,
                       .batch = answers_score,
                       .say = answers_say,
                       .cell = {{"exact match", score_share}}},
    [SCORE_TOKENS] = {.items = "tokens",
                      .counted = "tokens that are the likeliest after the true ones before them",
                      .batch = tokens_score,
                      .say = tokens_say,
                      .cell = {{"tokens right", score_share}, {"perplexity", score_perplexity}}},
};
