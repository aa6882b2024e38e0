/* scorer.h - what evaluate.score chooses from: a way to score samples is a file with one function
 * that scores a batch, and a row of the table in scorer.c. The row also says whatever the settings,
 * the dry run and the report have to know of it; nothing else knows a score by name. */
#ifndef TRAIN_SCORE_SCORER_H
#define TRAIN_SCORE_SCORER_H

#include "data/benchmark.h"
#include "train/score/batches.h"
#include "train/score/score.h"

#include <cjson/cJSON.h>

/* Samples that are scored together. */
struct scoring {
    struct run *r;
    struct model *m;
    const struct scorer *how;
    const struct eval_set *set;
    struct sample *samples;         /* [n] */
    const struct batch_item *items; /* [n]: of each, its place in the set */
    int64_t n;
    struct batch_room room;
    FILE *answers; /* of answers.jsonl, a line for each sample; NULL: not wanted */
    struct generate_stats *stats;
    const struct cache_how *cache;
    struct scored *scored; /* [n_scored]: so far, of the set */
    size_t n_scored, cap_scored;
};

/* The score of a sample, for the sums that include it. */
struct scored {
    int64_t entry; /* of the set */
    bool curve;
    struct score one; /* with its kind as the name */
    bool has_item;
    struct metric_item item;                 /* of figures and errors; its kind is category[0] */
    char category[BENCHMARK_CATEGORIES][64]; /* "": no more */
    char kind[BENCHMARK_CATEGORIES][128];    /* the same as names of sums */
};

/* Notes the score of sample i, with its item, which may be NULL. */
bool scoring_count(struct scoring *s, int64_t i, const struct score *one,
                   const struct metric_item *item, struct err *e);
/* The path of its first picture; n 0: it has none. */
struct text scoring_picture(const struct scoring *s, int64_t i);

/* A line of answers.jsonl about sample i: what was asked, and `tokens` ids hashed; NULL, with *e
 * set: out of memory. */
cJSON *scoring_line(const struct scoring *s, int64_t i, int64_t tokens, struct err *e);
/* Writes it, and deletes it. */
bool scoring_put(const struct scoring *s, cJSON *line, struct err *e);
/* The whole line of an answer, given or taken, with what it was scored by; with likelihoods, if the
 * sample's benchmark has them. Nothing is written where none is wanted. */
bool scoring_put_answer(const struct scoring *s, int64_t i, struct text answer,
                        const struct metric_result *r, struct err *e);

/* How the run's models are run on a batch. */
struct generator scoring_generator(const struct scoring *s);

/* A figure that the tables show of a score. */
struct score_cell {
    const char *name;                       /* of its table, and its key in metrics.jsonl */
    double (*value)(const struct score *s); /* NaN: there is none */
    bool share;                             /* shown in per cent */
};

enum { SCORE_CELLS = 3, SCORE_TEXT = 120 };
struct scorer {
    const char *items;   /* what n counts: "questions" */
    const char *counted; /* the same at length, after their number: "answers that ..." */
    bool needs_question; /* a sample that asks nothing is refused */
    bool needs_choices;  /* a sample that has no options is refused */
    bool generates;      /* answers of up to evaluate.max_new_tokens */
    bool (*batch)(struct scoring *s, struct err *e);
    /* For the log; title: the name of the first cell. */
    void (*say)(char text[SCORE_TEXT], const char *title, const struct score *all);
    /* The first is a share of what is right: it makes the curves, and is compared with the base
     * model's. A table of its own for each of the others, with three decimals. */
    struct score_cell cell[SCORE_CELLS]; /* up to one without a name */
};
extern const struct scorer scorers[SCORES]; /* in the order of SCORE_NAMES, train/config.h */
extern const char *const score_names[SCORES];

static inline const struct scorer *scorer_of(const struct config *c)
{
    return &scorers[c->evaluate.score];
}

/* What the first cell is called for this run's sets, and what its n counts, at length: other than
 * their own words if some set has a metric. */
const char *scorer_title(const struct run *r);
const char *scorer_counted(const struct run *r);

/* The rows' functions. */
bool answers_score(struct scoring *s, struct err *e);
void answers_say(char text[SCORE_TEXT], const char *title, const struct score *all);
bool options_score(struct scoring *s, struct err *e);
bool choices_score(struct scoring *s, struct err *e); /* options of a set of choices */
void options_say(char text[SCORE_TEXT], const char *title, const struct score *all);
bool tokens_score(struct scoring *s, struct err *e);
void tokens_say(char text[SCORE_TEXT], const char *title, const struct score *all);

#endif
