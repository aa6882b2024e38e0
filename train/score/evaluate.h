/* evaluate.h - scores a model by evaluate.score, through a KV cache. */
#ifndef TRAIN_SCORE_EVALUATE_H
#define TRAIN_SCORE_EVALUATE_H

#include "train/score/score.h"

struct evaluate_how {
    bool curve; /* evaluate.curve_samples of those that are scored otherwise */
    /* The file to write what came of every sample to, one JSON object per line: data/answers.h;
     * NULL: none. */
    const char *answers;
    const char *context;            /* shown in the progress line and in the log */
    const struct cache_kind *cache; /* NULL: the model's own (train/caches.h) */
};

/* Scores evaluate.samples samples of each set, which are spread evenly over it, as the curve's are
 * over these: files are often sorted. On success the caller frees *s. */
bool evaluate(struct run *r, struct model *m, const struct evaluate_how *how, struct scores *s,
              struct err *e);

/* Visits the samples of a set that are scored: for the tables, or for a point of the curve. */
void evaluate_each(const struct run *r, int64_t set, bool curve, entry_visitor *visit, void *arg);

#endif
