/* answers.h - a file of answers, scored: one JSON object a line, as a run's answers.jsonl, or of
 * another program. A line has
 *
 *     the answer       one of "answer", "text", "prediction", "response"
 *     whose it is      "id", else "question_id"; default: the line's number
 *     its scoring      the keys of benchmark.h; without a metric "expected", which it must equal
 *     or likelihoods   in place of an answer, of a run that scores by them: "metric" "choice" with
 *                      "choices", "label" and "logp", or "tokens" with "n", "right_tokens", "loss"
 *     optional         "set", "image" (a path: the cluster of errors), "tokens" or "prompt" (equal
 *                      for equal prompts)
 *
 * or its scoring comes from a data set, by the id or the question's id (struct answers_keys). */
#ifndef DATA_ANSWERS_H
#define DATA_ANSWERS_H

#include "base/slots.h"
#include "data/benchmark.h"

struct answer {
    char *set, *id;              /* owned; set "": none is named; with keys the id is the key's */
    const struct metric *metric; /* NULL: plain */
    struct metric_item item;     /* its kind is owned */
    uint64_t prompt;             /* hash; 0: not said */
    uint64_t reference;          /* hash of what it is compared with: references and options */
    size_t nth;                  /* among those with its set and id, from 0 */
};

struct answers {
    struct answer *v; /* [n] in the order of the file */
    size_t n, cap;
    size_t again, first_again;           /* answers with nth > 0, and the first of them */
    size_t unanswered, first_unanswered; /* keys without an answer, and the first of them */
};

/* A data set's scoring by id. */
struct answers_key {
    char *id, *picture;   /* picture "": none */
    struct text expected; /* owned; where `by` is plain: what an answer must equal */
    struct benchmark by;
};
struct answers_keys {
    struct answers_key *v; /* [n] */
    size_t n, cap;
    struct slots slots; /* by id, and by the question's id */
};

/* Reads the samples of a data set; `metric`: the name of one that is used instead of their own, or
 * NULL. A sample without either is plain. Pictures need not be there. */
bool answers_keys_open(struct answers_keys *k, const char *path, const char *metric, struct err *e);
void answers_keys_close(struct answers_keys *k); /* fine on a zeroed struct */

/* Scores a file. keys: where each answer's scoring is found, instead of in its line; NULL: there.
 * Fails if a line lacks what is needed, or its id is that of no key or of several; *a is zeroed
 * then. */
bool answers_open(struct answers *a, const char *path, const struct answers_keys *keys,
                  const char *metric, struct err *e);
void answers_close(struct answers *a); /* fine on a zeroed struct */

/* Whether answer i is the first of its set. */
bool answers_first_of_set(const struct answers *a, size_t i);

/* The items of one set (NULL: of all) that two files have answers for, by set, id and nth, in the
 * order of the first; kinds are borrowed from them. */
struct answers_pairs {
    const struct metric *metric; /* NULL: plain */
    struct metric_item *a, *b;   /* [n] */
    size_t n;
    size_t alone_a, alone_b; /* answers of the first and of the second file that the other lacks */
};

/* Refuses answers to different prompts, or scored by different metrics or against different
 * references: *out is zeroed then. */
bool answers_pairs(const struct answers *a, const struct answers *b, const char *set,
                   struct answers_pairs *out, struct err *e);
void answers_pairs_free(struct answers_pairs *p); /* fine on a zeroed struct */

#endif
