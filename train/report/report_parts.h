/* report_parts.h - internal to the report: what report.c gathers from the run's directory,
 * and the Markdown that report_md.c and report_answers.c make of it. Anything not there yet
 * is shown as a dash. */
#ifndef TRAIN_REPORT_REPORT_PARTS_H
#define TRAIN_REPORT_REPORT_PARTS_H

#include "train/score/scorer.h"

/* The "end" event of a training; zeroed if it has not ended. */
struct report_training {
    bool done;
    double steps, tokens, seconds, trained, parameters;
};

/* One model's scores, and where its files are in the run's directory. */
struct report_result {
    char dir[160];
    bool there;
    struct scores s;
};

/* A score less another's, such as the first recipe's at the same size of the cache. */
struct report_versus {
    double difference; /* NaN: one of them is missing */
    double error;      /* one standard error; NaN: the answers are not there, or not of the same
                        * questions */
    bool shown;        /* as of struct paired */
};

enum { /* like the steps */
       REPORT_STAGE1,
       REPORT_SVD,
       REPORT_STAGE2,
       REPORT_RESULTS
};

struct report_point {
    struct point p;
    struct report_result result[REPORT_RESULTS];
    struct report_versus versus[REPORT_RESULTS]; /* not of stage 1 */
    struct report_training stage1, stage2;
    int64_t values, full; /* values per token and layer in the cache; originally; 0: no model */
    int64_t layers;
    double *tokens, *score, *error; /* [n] the curve, and its standard errors: NaN, not known */
    size_t n, cap_tokens, cap_score, cap_error;
    char label[160];
};

/* A model's scores with one kind of cache (train/caches.h). */
struct report_cached {
    int64_t point; /* -1: the base */
    int result;    /* of the point */
    char kind[CACHE_KIND_TEXT];
    char family[40]; /* of kinds that one curve joins; "": plain forms */
    struct report_result at;
    bool own;                    /* it is the model's own kind, and `at` borrows */
    struct report_versus versus; /* the scores with that */
};

struct report {
    const struct run *r;
    char name[256]; /* of the run: the last part of its directory */
    struct report_result base;
    struct report_training baseline;
    struct report_point *points;
    int64_t n;
    struct report_cached *cached; /* [n_cached], by model; n_cached 0: only each one's own kind */
    int64_t n_cached;
    /* recovery.png, recipes.png, caches.png show this report's numbers */
    bool picture, recipes_picture, caches_picture;
};

/* A figure of the score (its row's cell) for one model, NaN if missing. */
double report_value(const struct report_result *result, const struct score_cell *cell);
/* The first: a share of what is right. */
double report_score(const struct report *rep, const struct report_result *result);
/* Stage 2's score relative to the base model's, NaN if one is missing or the base's is 0. */
double report_recovered(const struct report *rep, const struct report_point *p);
/* Fraction of the original's cache, NaN if no model tells. */
double report_cache_share(const struct report_point *p);
/* Measured over the evaluation's caches, all layers; NaN if nothing was measured. */
double report_cache_bytes(const struct report_result *result);

/* Of the terminal's column of points. */
int report_name_width(const struct report *rep);

/* Writes report.md. */
bool report_write(const struct report *rep, struct err *e);

/* Writes its section of the sets that have a metric; nothing if none has. */
bool report_sets(const struct report *rep, FILE *fp, struct err *e);

/* Writes its comparison of stage 2 with the base model, question by question, and logs a line for
 * each; nothing where no answers are there. */
bool report_paired(const struct report *rep, FILE *fp, struct err *e);

/* Writes its section of sample answers. */
bool report_answers(const struct report *rep, FILE *fp, struct err *e);

/* Of a sweep of recipes (else nothing is done): fills the points' versus; draws recipes.png; writes
 * the section of report.md; prints the table. */
bool report_compare(struct report *rep, struct err *e);
bool report_draw_recipes(struct report *rep, struct err *e);
bool report_recipes(const struct report *rep, FILE *fp, struct err *e);
bool report_print_recipes(const struct report *rep, struct err *e);

/* A result's scores less another's, of the same questions; and as text, in
 * points: "+36.30 ± 2.20". */
bool report_versus(const struct report *rep, const struct report_result *own,
                   const struct report_result *other, struct report_versus *v, struct err *e);
const char *report_versus_text(char out[80], const struct report_versus *v, const char *none);

/* Where models were scored with several kinds of cache (else nothing is done): reads these scores;
 * draws caches.png; writes the section of report.md; prints the table. */
bool report_load_caches(struct report *rep, struct err *e);
bool report_draw_caches(struct report *rep, struct err *e);
void report_caches(const struct report *rep, FILE *fp);
void report_print_caches(const struct report *rep);
void report_free_caches(struct report *rep);
/* Reads the scores in result->dir, if they are there. */
bool report_load(const struct run *r, struct report_result *result, struct err *e);

/* Writes n bytes of text for a Markdown table: markup is escaped, line breaks become blanks, other
 * control characters are shown as \x00 and the like, and it is cut after some 200 bytes. */
void report_text(FILE *fp, const char *text, size_t n);

/* Whether point i has no scores of stage 2, and others have, or its own training has begun. */
bool report_lacks(const struct report *rep, int64_t i);
#define REPORT_LACKS "no scores of stage 2: its training has failed, or has not ended"

#endif
