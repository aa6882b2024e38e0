/* answers.h - a file of answers, scored: one JSON object a line, as a run's answers.jsonl, or of
 * another program. A line has
 *
 *     the answer       "answer", or "text", "prediction" or "response"
 *     whose it is      "id", else "question_id"; default: the line's number
 *     its scoring      the keys of benchmark.h; without a metric "expected", which it must equal
 *     optional         "set", "image" (a path: the cluster of errors), "tokens" or "prompt" (equal
 *                      for equal prompts)
 *
 * or its scoring comes from a data set, by the id or the question's id (struct answers_keys). */
#ifndef DATA_ANSWERS_H
#define DATA_ANSWERS_H

#include "base/slots.h"
#include "data/benchmark.h"

struct answer {
    char *set, *id;              /* owned; set "": none is named */
    const struct metric *metric; /* NULL: plain */
    struct metric_item item;     /* its kind is owned */
    uint64_t prompt;             /* hash; 0: not said */
};

struct answers {
    struct answer *v; /* [n] in the order of the file */
    size_t n, cap;
};

/* A data set's scoring by id. */
struct answers_key {
    char *id, *picture; /* picture "": none */
    struct benchmark by;
};
struct answers_keys {
    struct answers_key *v; /* [n] */
    size_t n, cap;
    struct slots slots; /* by id, and by the question's id */
};

/* Reads the samples of a data set; `metric`: the name of one that is used instead of their own, or
 * NULL. Pictures need not be there. */
bool answers_keys_open(struct answers_keys *k, const char *path, const char *metric, struct err *e);
void answers_keys_close(struct answers_keys *k); /* fine on a zeroed struct */

/* Scores a file. keys: where each answer's scoring is found, instead of in its line; NULL: there.
 * Fails if a line lacks what is needed, or its id is not among the keys; *a is zeroed then. */
bool answers_open(struct answers *a, const char *path, const struct answers_keys *keys,
                  const char *metric, struct err *e);
void answers_close(struct answers *a); /* fine on a zeroed struct */

/* The items of one set (NULL: of all) that two files have answers for, by set and id, in the order of
 * the first; kinds are borrowed from them. */
struct answers_pairs {
    const struct metric *metric; /* NULL: plain */
    struct metric_item *a, *b;   /* [n] */
    size_t n;
    size_t alone; /* answers of the first file that the second lacks */
};

/* Refuses answers to different prompts, or scored by different metrics: *out is zeroed then. */
bool answers_pairs(const struct answers *a, const struct answers *b, const char *set,
                   struct answers_pairs *out, struct err *e);
void answers_pairs_free(struct answers_pairs *p); /* fine on a zeroed struct */

#endif
