/* batches.h - in which order the samples of a set are scored, and how many at a time: longest
 * first, so that those of a batch are of about the same length, but all questions about a picture
 * together, and as many as an eighth of the memory takes. Which samples share a batch follows from
 * the set, the model and the memory alone, not from the number of processes; nor do the scores
 * follow from it (docs/scores.md). */
#ifndef TRAIN_SCORE_BATCHES_H
#define TRAIN_SCORE_BATCHES_H

#include "train/run.h"

struct batch_item {
    int64_t entry; /* of the set's data */
    bool curve;    /* it also counts for a point of the curve */
    int64_t key;   /* batches_order's */
};

/* What a batch may have. */
struct batch_room {
    int64_t rows;    /* of the cache: sequences times the longest with what it may get */
    int64_t samples; /* at most; 0: any number */
    int64_t more;    /* tokens that a sequence may get behind its sample */
};

/* The room for a set's samples, as they are scored by this run. m may be an outline. */
bool batches_room(struct run *r, struct model *m, const struct eval_set *set,
                  struct batch_room *room, struct err *e);

/* Sorts items of d. */
bool batches_order(const struct dataset *d, struct batch_item *items, int64_t n, struct err *e);

/* How many of the sorted items [n] from `at` on make a batch: at least one, and 0 at the end. */
int64_t batches_next(const struct dataset *d, const struct batch_item *items, int64_t n, int64_t at,
                     const struct batch_room *room);

/* The rows of the cache of a batch of items [n]. */
int64_t batches_rows(const struct dataset *d, const struct batch_item *items, int64_t n,
                     const struct batch_room *room);
/* The tokens of items, of all their sequences. */
int64_t batches_tokens(const struct dataset *d, const struct batch_item *items, int64_t n);

#endif
