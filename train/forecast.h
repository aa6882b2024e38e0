/* forecast.h - the models that a run will make and train, before it does: their parameters, and the
 * memory that the longest samples need. Models are declared and graphs are planned, but nothing is
 * computed and no file is written. What cannot be made, or does not fit, is refused here and not
 * after hours. */
#ifndef TRAIN_FORECAST_H
#define TRAIN_FORECAST_H

#include "train/dryrun_parts.h"

/* One model of the run: the base, a partial one, an MLA one; and its training where there is one.
 */
struct forecast_model {
    char name[96]; /* "rope8-rank4 stage 2" */
    struct dry_state state;
    struct point point;               /* of an MLA model */
    const struct config_phase *phase; /* NULL: is not trained */
    unsigned kinds;
    bool pixels;
    double count[PARAM_KINDS], all, trained;
};

/* The most that a step of the run has in memory at a time, in bytes. A graph's region stays for the
 * graphs that come later; `region` is the largest until then. */
struct forecast_step {
    char name[96]; /* of its model, or "rank", "rope8 svd" */
    bool is_training;
    double activations; /* of the longest samples */
    int64_t recomputed; /* layers of those */
    double answers;     /* graph and cache, for the longest questions */
    double region;
    double cache;
    double computed; /* moved rows, moments, factors, a picture that is read */
    double trained;
    double mapped; /* frozen weights in their files: no part of `bytes` */
    double bytes;  /* anonymous memory, all together */
};

struct forecast {
    struct run *r;
    struct model base;
    struct forecast_model *models;
    struct forecast_step *steps; /* in the run's order */
    int64_t n, n_steps;
    const struct dataset *largest; /* the set that has the largest picture; NULL: there is none */
    double program;                /* bytes of the process, the index of the data among them */
};

/* The model that the run starts from: as it is there, or as the baseline step will shape it. */
bool forecast_open(struct forecast *f, struct run *r, struct err *e);
/* The models and the steps, once the data are open. */
bool forecast_models(struct forecast *f, struct err *e);
/* Fails where a step needs more memory than the run may use. */
bool forecast_fits(const struct forecast *f, struct err *e);
void forecast_close(struct forecast *f); /* fine on a zeroed struct */

#endif
