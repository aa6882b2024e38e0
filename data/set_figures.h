/* set_figures.h - all figures of a set by its metric, with their standard errors, as scores.json,
 * the log and mha2mla-data's `score` show them:
 *
 *     "NAME": {"metric": "pope", "samples": 9000,
 *              "figures": {"pope_accuracy": {"value": 0.87, "stderr": 0.004, "most": 1}, ...}} */
#ifndef DATA_SET_FIGURES_H
#define DATA_SET_FIGURES_H

#include "data/metric/metric.h"

#include <cjson/cJSON.h>

enum { SET_FIGURES = 8 };
struct figure_score {
    char name[40];
    double value, se; /* NaN: there is none */
    double most;      /* what a perfect set has; 0: a number of answers */
};
struct set_figures {
    char name[128], metric[32];
    int64_t n;                               /* samples */
    struct figure_score figure[SET_FIGURES]; /* the main one first */
    int n_figures;
};

/* m NULL: plain, whose figure is exact match. */
bool set_figures_fill(struct set_figures *to, const char *name, const struct metric *m,
                      const struct metric_item *items, size_t n, struct err *e);

/* "pope_accuracy 0.8712 +- 0.0035, ..." */
enum { SET_FIGURES_TEXT = 600 };
void set_figures_text(const struct set_figures *s, char text[SET_FIGURES_TEXT]);

/* A figure of two models (metric_figure_compare): "pope_accuracy +0.0100 +- 0.0041 (95 %: +0.0020
 * to +0.0180), 0.8800 against 0.8700, recovered 101.15 % +- 0.47 %, McNemar's
 * mid-p 0.012: better". */
enum { FIGURE_PAIR_TEXT = 320 };
struct paired; /* data/metric/paired.h */
void figure_pair_text(const struct metric_figure *f, const struct paired *p,
                      char text[FIGURE_PAIR_TEXT]);
/* "better", "worse", "no difference shown"; of one sample, "too few to say more". */
const char *figure_pair_verdict(const struct paired *p);
/* Decimals of a figure that a perfect set has `most` of. */
int figure_digits(double most);

/* Adds the member "NAME" to an object. False: out of memory. */
bool set_figures_write(const struct set_figures *s, cJSON *to);
/* From such a member; false if it is none. */
bool set_figures_read(struct set_figures *s, const cJSON *o);

#endif
