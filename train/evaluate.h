/* evaluate.h - scores over a real cache, by evaluate.score: `answers` has each sample's last
 * question answered, and the answer must equal the given one (white space at the ends apart);
 * `tokens` asks of each trained token whether it is the likeliest after the true ones before it,
 * and how likely it is (perplexity). */
#ifndef TRAIN_EVALUATE_H
#define TRAIN_EVALUATE_H

#include "model/generate.h"
#include "train/run.h"

/* Of one kind of question: of a set where there are several, and of what follows # in the ids. Ids
 * may have anything there: what comes after so many kinds is counted together, as "(others)". */
enum { SCORE_KINDS = 200 };
struct score {
    char name[128];
    int64_t n, right; /* answers or tokens */
    double loss;      /* sum of -log of the tokens' probabilities; 0 for answers */
};

struct scores {
    struct score all;
    struct score curve; /* of the samples that points of the curve are made from */
    struct score *kinds;
    size_t n, cap;
    struct generate_stats stats;
    double seconds;
};

/* Scores evaluate.samples of each set, or evaluate.curve_samples of those for a point of the
 * curve; both are spread evenly over the set, since files are often sorted. With answers_path every
 * question, answer and generation is written there, one JSON object a line (not where tokens are
 * scored). `context` stands in the progress line. */
bool evaluate(struct run *r, struct model *m, bool curve, const char *answers_path,
              const char *context, struct scores *s, struct err *e);
void scores_free(struct scores *s);
double scores_total(const struct scores *s); /* share of what is right, 0..1 */
double score_perplexity(const struct score *s);

/* A line of metrics.jsonl. */
bool scores_write(const struct scores *s, struct metrics *m, const char *point, const char *phase,
                  int64_t step, double tokens, struct err *e);

/* The same as a file, and back (stats: cached tokens and bytes only). */
bool scores_save(const struct scores *s, const char *path, struct err *e);
bool scores_load(struct scores *s, const char *path, struct err *e);

#endif
