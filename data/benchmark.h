/* benchmark.h - what a sample says of how it is scored, beside its turns, and what answers.jsonl
 * repeats of it, so that answers can be scored again without the model:
 *
 *     "metric"       one of data/metric/metric.h; "plain", the default: equal but for white space
 *                    at the ends (then nothing else here is read)
 *     "answers"      accepted answers, a list; default: the last answer among the turns
 *     "choices"      texts of the options A, B, ..., null where one is missing
 *     "category"     a string or a list of up to four: scored apart. Figures of kinds look at the
 *                    first
 *     "group"        samples that count together, and depend on each other: rows of one question,
 *                    the two questions of a picture of MME
 *     "question_id"  the set's own name of the question; default: the sample's id. mmbench takes
 *                    the number at its end as the row's index
 *     "question"     in answers.jsonl: the question's text, where the metric looks at it
 *
 * A sample of choices, scored by likelihood (metric "choice"), has no turns but
 *     "context"      what the choices continue, each after a blank; also "question"
 *     "choices"      at least two texts
 *     "label"        which of them is right, from 0
 * or "contexts", of which the label is one, and the "continuation" of them all. In answers.jsonl it
 * has "logp" too, of each choice, in place of contexts; a sample scored by its tokens has "n",
 * "right_tokens" and "loss" there.
 *
 * A metric that lacks what it needs is an error. */
#ifndef DATA_BENCHMARK_H
#define DATA_BENCHMARK_H

#include "base/json/jsonc.h"
#include "base/text.h"
#include "data/metric/metric.h"

enum { BENCHMARK_CATEGORIES = 4 };

struct benchmark {               /* texts are owned; s NULL: not there */
    const struct metric *metric; /* NULL: plain, and all else is zeroed */
    struct text *answers;        /* [n_answers] */
    struct text *choices;        /* [n_choices] */
    size_t n_answers, n_choices;
    struct text category[BENCHMARK_CATEGORIES];
    size_t n_categories;
    struct text group, question_id, question;
    struct text *contexts; /* [n_contexts]: of choices, one or one for each; 0: there are turns */
    size_t n_contexts;
    int64_t label;
    double *logp; /* [n_choices]; NULL: not known */
};

enum { BENCHMARK_CHOICES = 26 };

/* What a choice continues. */
static inline struct text benchmark_context(const struct benchmark *b, size_t choice)
{
    return b->contexts[b->n_contexts > 1 ? choice : 0];
}

/* A choice behind its context, with a blank between, in new memory; *begin: where the part begins
 * that is scored. White space at the context's end is, as in lm-evaluation-harness, which joins it
 * to what follows: tokenizers do so too. */
char *benchmark_choice_text(const struct benchmark *b, size_t choice, size_t *n, size_t *begin,
                            struct err *e);

/* Reads a sample of choices, or its line of answers.jsonl (`line`). As benchmark_read. */
bool benchmark_read_choices(struct benchmark *b, const struct jsonc *doc, const cJSON *object,
                            bool line, struct err *e);
/* The result of choices whose logp are known, with an item's other values. The
 * result is not freed. */
struct metric_result benchmark_choose(const struct benchmark *b, struct metric_item *item);

/* A metric's name, or "plain": then *m is NULL. False without *e if there is no such metric. */
bool benchmark_metric(const char *name, const struct metric **m);
/* The names, as a list for messages: "plain, exact, ...". */
#define BENCHMARK_NAMES 400
void benchmark_names(char out[BENCHMARK_NAMES]);

/* Reads the keys above from an object of `doc`. `instead`: a metric's name that is used instead of
 * the sample's, or NULL. On failure *e begins with "FILE:LINE:COL: ", and *b is zeroed. */
bool benchmark_read(struct benchmark *b, const struct jsonc *doc, const cJSON *object,
                    const char *instead, struct err *e);

/* What follows from the turns where the keys do not say it: the accepted answer, the question
 * (`<image>` marks left out; only where the metric looks at it) and the id. Then checks that the
 * metric has what it needs; the message does not say where. */
struct benchmark_turns {
    struct text answer, question, id; /* borrowed */
};
bool benchmark_complete(struct benchmark *b, const struct benchmark_turns *turns, struct err *e);

/* Scores an answer, whose white space at the ends is left out. Plain: it must equal `expected`,
 * likewise. */
bool benchmark_score(const struct benchmark *b, struct text expected, struct text answer,
                     struct metric_result *r, struct err *e);

/* The figures of a set: exact match, if it is plain. */
const struct metric *benchmark_figures(const struct metric *m);

/* An item for figures: by a result, and the path of the sample's first picture (n 0: none), which
 * is its cluster where there is no group; without either, the id is. Its kind is borrowed. */
struct metric_item benchmark_item(const struct benchmark *b, const struct metric_result *r,
                                  struct text picture, struct text id);

/* Which option the expected answer is by its letter, from 0; -1: it is no letter. */
int benchmark_letter(const struct benchmark *b);
/* How many options are not missing. */
int32_t benchmark_options(const struct benchmark *b);

/* What groups samples that are only scored together, hashed; 0: nothing does. */
uint64_t benchmark_unit(const struct benchmark *b);

/* Adds the keys to an object. False: out of memory. */
bool benchmark_write(const struct benchmark *b, cJSON *object);

void benchmark_free(struct benchmark *b); /* fine on a zeroed struct; zeroes it */

#endif
