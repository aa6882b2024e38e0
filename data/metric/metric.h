/* metric.h - the metrics of the vision-language benchmarks: pure functions of an answer and what is
 * known of its sample, equal to lmms-eval's, without a model. docs/scores.md lists them, their
 * rules, and where they differ from the benchmarks' own scripts.
 *
 *     const struct metric *m = metric_find("anls");
 *     struct metric_result r;
 *     if (!metric_score(m, &sample, &r, e)) return false;
 *     ... r.score ...
 *     metric_result_free(&r);
 *
 * A set's figures (accuracy, F1, circular accuracy) come from all of its items:
 * metric_figure_value.
 *
 * Texts are UTF-8 and are seen as Unicode code points; what is not UTF-8 counts as U+FFFD. */
#ifndef DATA_METRIC_METRIC_H
#define DATA_METRIC_METRIC_H

#include "base/err.h"
#include "base/text.h"

#include <stdint.h>

/* ---- one sample ---- */

struct metric_sample {
    struct text answer;            /* as the model gave it */
    const struct text *references; /* [n_references], at least one. vqa and vqav2 use all of them
                                    * together, yes-or-no metrics the first; of the others the one
                                    * that gives the best score counts */
    size_t n_references;
    const struct text *choices; /* [n_choices]: texts of the options A, B, ...; s NULL: missing */
    size_t n_choices;
    struct text question; /* realworldqa finds its options there if there are no choices */
};

enum metric_word { METRIC_OTHER, METRIC_NO, METRIC_YES };

struct metric_result {
    double score;                  /* 0 to 1 */
    struct text extracted;         /* what was compared; s NULL: the rules found no answer */
    enum metric_word said, wanted; /* yes-or-no metrics: the answer and the first reference */
};

/* ---- all samples of a set ---- */

/* mmbench: row i + k * METRIC_TURN is question i, turned k times. */
enum { METRIC_TURN = 1000000 };

struct metric_item {
    double score;
    bool undecided;             /* nothing was extracted */
    double by_length, by_bytes; /* choice: 1 if right by these */
    double tokens, loss;        /* tokens: `score` of so many are right, with the sum of -log p */
    enum metric_word said, wanted;
    int64_t index;    /* mmbench: the row's */
    int64_t group;    /* mme: the same for the two questions of a picture */
    int64_t cluster;  /* of errors: the same for samples that depend on each other */
    int64_t row;      /* for messages: its line, or number in the set, from 1 */
    const char *kind; /* the category; NULL: none */
};

/* One of the values whose mean a figure is. */
struct metric_value {
    double value;
    int64_t cluster;
};

/* A figure of a set, under lmms-eval's name where that has it. */
struct metric_figure {
    const char *name;
    const char *const *kinds; /* of items of these kinds only, up to NULL; NULL: of all */
    bool others;              /* of items of all but these kinds */
    bool (*value)(const struct metric_item *items, size_t n, double *out, struct err *e);
    /* The v[*k], k <= n, whose mean it is; NULL: it is no mean. */
    bool (*values)(const struct metric_item *items, size_t n, struct metric_value *v, size_t *k,
                   struct err *e);
    double most; /* what a perfect set has; 0: a number of answers, and no score */
    bool lower;  /* the lower, the better; has `values` */
};

struct metric_rule; /* metric_parts.h */

struct metric {
    const char *name;
    bool choices;                        /* needs them */
    bool question;                       /* looks at it where there are no choices */
    bool index;                          /* rows of a question, by their index, count together */
    bool pairs;                          /* items of a group count together, two of each */
    bool yes_no;                         /* references are yes or no */
    bool measured;                       /* by likelihood: there are no answers, and no rule */
    const struct metric_figure *figures; /* the main one first, up to one without a name */
    const struct metric_rule *rule;
};
extern const struct metric metrics[]; /* up to one without a name */

/* MME's categories, up to NULL. Its figures count any other as cognition. */
extern const char *const metric_mme_perception[], *const metric_mme_cognition[];

const struct metric *metric_find(const char *name); /* NULL if there is none */

/* Scores one answer. Fails if memory is short, or if the sample lacks what the metric needs (the
 * message then names metric and fault, for the caller to say where): *r is zeroed then. */
bool metric_score(const struct metric *m, const struct metric_sample *s, struct metric_result *r,
                  struct err *e);
void metric_result_free(struct metric_result *r); /* fine on a zeroed one */

/* The figure over those of the items that it is of; NaN if there are none. */
bool metric_figure_value(const struct metric_figure *f, const struct metric_item *items, size_t n,
                         double *out, struct err *e);

/* Its standard error: of a mean clustered as below, by items' `cluster`; of any other figure by
 * bootstrap over the clusters, with the draws of one fixed seed. NaN if there are no items of it,
 * or it is a number of answers. */
bool metric_figure_error(const struct metric_figure *f, const struct metric_item *items, size_t n,
                         double *out, struct err *e);

/* Compares it between two models, of which b[i] scored the same sample as a[i]: paired_compare over
 * what it is a mean of; of any other figure the intervals come by bootstrap, and there is no p. In
 * the figure's own units. *out is zeroed, with n 0, where it is of no item, or is no score. */
struct paired; /* data/metric/paired.h */
bool metric_figure_compare(const struct metric_figure *f, const struct metric_item *a,
                           const struct metric_item *b, size_t n, struct paired *out,
                           struct err *e);

/* Those of the items that a figure is of, copied to out[n]; returns how many. */
size_t metric_figure_items(const struct metric_figure *f, struct metric_item *out,
                           const struct metric_item *items, size_t n);

/* Copies the items of a kind to out[n] (which may be `items`) and returns how many there are: for
 * any figure by category. */
size_t metric_of_kind(struct metric_item *out, const struct metric_item *items, size_t n,
                      const char *kind);

/* mmbench: for each question, in the order of their rows with index < 1000000, 1 if all rows of it
 * are right, else 0; hit[n] has room for all. For figures and their standard error. */
bool metric_circular(const struct metric_item *items, size_t n, double *hit, size_t *questions,
                     struct err *e);

/* ---- choices ---- */

/* choice, as lm-evaluation-harness 0.4.13 has it: which of n continuations is the likeliest, by its
 * log p, by that over its characters and over its bytes; of equal ones the first. */
struct metric_choice {
    size_t taken, by_length, by_bytes;
};
struct metric_choice metric_choose(const double *logp, const struct text *choices, size_t n);

/* ---- means ---- */

double metric_mean(const double *x, size_t n); /* NaN if n is 0 */

/* The mean's standard error, sqrt(sum (x - mean)^2 / (n - 1)) / sqrt(n); NaN if n < 2. */
double metric_stderr(const double *x, size_t n);

/* The same where samples of a cluster (a picture) depend on each other (arXiv 2411.00640, eq. 4),
 * with d = x - mean:  SE^2 = s^2 / n + sum over clusters of [(sum d)^2 - sum d^2] / n^2. */
bool metric_stderr_clustered(const double *x, const int64_t *cluster, size_t n, double *out,
                             struct err *e);

#endif
