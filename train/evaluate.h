/* evaluate.h - scoring through a KV cache, by evaluate.score: `answers` generates an answer to each
 * sample's last question, which must equal the expected one (apart from white space at the ends);
 * `tokens` is teacher-forced: for each trained token, whether it is the most likely one after the
 * true tokens before it, and how likely it is (perplexity). */
#ifndef TRAIN_EVALUATE_H
#define TRAIN_EVALUATE_H

#include "model/generate.h"
#include "train/run.h"

/* The score of one kind of question: of a set if there are several, and of what follows
 * # in the ids. Ids are arbitrary, so everything beyond this many kinds is counted
 * together as "(others)". */
enum { SCORE_KINDS = 200 };
struct score {
    char name[128];
    int64_t n, right; /* answers or tokens */
    double loss;      /* sum of -log p over the tokens; 0 for answers */
};

struct scores {
    struct score all;
    struct score curve; /* of the samples used for points of the curve */
    struct score *kinds;
    size_t n, cap;
    struct generate_stats stats;
    double seconds;
};

/* Scores evaluate.samples samples of each set, or with `curve` evaluate.curve_samples of those;
 * both are spread evenly over the set, since files are often sorted. With answers_path, writes
 * every question, expected answer and generated answer there, one JSON object per line
 * (not if tokens are scored). `context` is shown in the progress line. */
bool evaluate(struct run *r, struct model *m, bool curve, const char *answers_path,
              const char *context, struct scores *s, struct err *e);
void scores_free(struct scores *s);
double scores_total(const struct scores *s); /* fraction that is right, 0..1 */
double score_perplexity(const struct score *s);

/* Writes one line of metrics.jsonl. */
bool scores_write(const struct scores *s, struct metrics *m, const char *point, const char *phase,
                  int64_t step, double tokens, struct err *e);

/* Saves the scores to a file and loads them (of stats only cached tokens and bytes). */
bool scores_save(const struct scores *s, const char *path, struct err *e);
bool scores_load(struct scores *s, const char *path, struct err *e);

/* Visits the samples of a set that are scored: for the tables, or for a point of the curve. */
void evaluate_each(const struct run *r, int64_t set, bool curve, entry_visitor *visit, void *arg);

#endif
