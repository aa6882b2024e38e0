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
    const struct config_phase *phase; /* NULL: is not trained */
    unsigned kinds;
    bool pixels;
    double count[PARAM_KINDS], all, trained;
    double state_bytes; /* of the optimiser's moments */
    double frozen_bytes, activations, answers;
};

struct forecast {
    struct run *r;
    struct model base;
    struct forecast_model *models;
    int64_t n;
    double program; /* bytes of the process, the index of the data among them */
};

/* The model that the run starts from: as it is there, or as the baseline step will shape it. */
bool forecast_open(struct forecast *f, struct run *r, struct err *e);
/* The models, once the data are open. */
bool forecast_models(struct forecast *f, struct err *e);
/* Fails where a model's training or answers need more memory than the run may use. */
bool forecast_fits(const struct forecast *f, struct err *e);
void forecast_close(struct forecast *f); /* fine on a zeroed struct */

/* A trained value and its gradient, both in fp32, and the optimiser's two moments. */
double forecast_trained_bytes(const struct forecast_model *m);
double forecast_bytes(const struct forecast *f, const struct forecast_model *m);

#endif
