/* score.h - what was counted of a model's answers or predictions, and the files that it goes to. */
#ifndef TRAIN_SCORE_SCORE_H
#define TRAIN_SCORE_SCORE_H

#include "data/set_figures.h"
#include "model/cache_kind.h"
#include "model/generate.h"
#include "train/run.h"

/* A sum over samples, of a whole evaluation or of one kind of question: of a set if there are
 * several, and of what follows # in the ids. Ids are arbitrary, so everything beyond this many
 * kinds is counted together as "(others)". */
enum { SCORE_KINDS = 200 };
struct score {
    char name[128];
    int64_t n;        /* items: questions, tokens */
    double right;     /* what they are worth together, each 0 (wrong) to 1 (right) */
    double loss;      /* sum of -log p over the items; 0 where no likelihood is measured */
    double by_length; /* of options: questions whose likeliest option by its length is right */
    bool has_error;
    double se; /* with has_error: the standard error of right / n */
};

struct scores {
    struct cache_kind cache; /* with which they were measured */
    struct score all;
    struct score curve; /* of the samples used for points of the curve */
    struct score *kinds;
    size_t n, cap;
    struct set_figures *sets; /* those that have a metric; the main figure is each one's first */
    size_t n_sets, cap_sets;
    struct generate_stats stats;
    double seconds;
};

/* right / n, 0 to 1, and exp(loss / n); NaN without items. */
double score_share(const struct score *s);
double score_by_length(const struct score *s); /* 0 to 1; NaN without items */
double score_perplexity(const struct score *s);

/* Adds the score of one sample to every sum that includes it: `kind` may be "", for none. */
bool scores_add(struct scores *s, const char *kind, bool curve, const struct score *one,
                struct err *e);
bool scores_add_kind(struct scores *s, const char *kind, const struct score *one, struct err *e);
void scores_sort(struct scores *s); /* the kinds by name */
void scores_free(struct scores *s);

/* How many samples they are of: the lines of answers.jsonl. */
int64_t scores_lines(const struct scores *s);

/* The figure of all samples that makes a point of the curve; 0 without samples. */
double scores_main(const struct scores *s, const struct run *r);

/* Writes one line of metrics.jsonl: the scores of a training after `step` steps and so many trained
 * tokens; with another event than "eval" these are of no point of a curve. */
struct score_time {
    const char *point, *phase, *event;
    int64_t step;
    double tokens;
};
bool scores_write(const struct scores *s, struct run *r, const struct score_time *when,
                  struct err *e);

/* Saves the scores to a file and loads them (of stats only cached tokens and bytes). */
bool scores_save(const struct scores *s, const char *path, struct err *e);
bool scores_load(struct scores *s, const char *path, struct err *e);

#endif
