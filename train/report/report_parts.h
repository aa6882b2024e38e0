/* report_parts.h - inside the report: what report.c gathered from the run's directory, and the
 * Markdown that report_md.c and report_answers.c make of it. What is not there yet is a dash. */
#ifndef TRAIN_REPORT_REPORT_PARTS_H
#define TRAIN_REPORT_REPORT_PARTS_H

#include "train/evaluate.h"

/* The "end" event of a training; zeroed where it has not ended. */
struct report_training {
    bool done;
    double steps, tokens, seconds, trained, parameters;
};

/* One model's scores, and where its files lie under the run's directory. */
struct report_result {
    char dir[160];
    bool there;
    struct scores s;
};

enum { /* as the steps */
       REPORT_STAGE1,
       REPORT_SVD,
       REPORT_STAGE2,
       REPORT_RESULTS
};

struct report_point {
    struct point p;
    struct report_result result[REPORT_RESULTS];
    struct report_training stage1, stage2;
    int64_t values, full;   /* that the cache holds a token and layer; 0: no model yet */
    double *tokens, *score; /* [n] the curve */
    size_t n, cap_tokens, cap_score;
    char label[160];
};

struct report {
    const struct run *r;
    char name[256]; /* of the run: its directory's last part */
    struct report_result base;
    struct report_training baseline;
    struct report_point *points;
    int64_t n;
    bool picture; /* recovery.png shows this report's numbers */
};

/* Share of right answers, NaN where they are not there. */
double report_score(const struct report_result *result);
double report_perplexity(const struct report_result *result); /* where tokens are scored */
bool report_of_tokens(const struct report *rep); /* scores are of tokens, not of answers */
/* Of stage 2 relative to the base model, NaN where one of the two is missing or the base has 0. */
double report_recovered(const struct report *rep, const struct report_point *p);
/* Of the cache of the original, NaN where no model says it. */
double report_cache_share(const struct report_point *p);
/* Measured over the evaluation's caches, all layers; NaN where nothing was measured. */
double report_cache_bytes(const struct report_result *result);

/* Writes report.md. */
bool report_write(const struct report *rep, struct err *e);

/* Its section of sample answers. */
bool report_answers(const struct report *rep, FILE *fp, struct err *e);

/* n bytes of text inside a Markdown table: nothing in it is markup, line breaks are blanks, other
 * control characters stand there as \x00 and the like, and it is cut after some 200 bytes. */
void report_text(FILE *fp, const char *text, size_t n);

#endif
