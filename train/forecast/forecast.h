/* forecast.h - the models that a run will make and train: their parameters, and the memory that the
 * longest samples need. Models are declared and graphs planned, but nothing is computed and no file
 * written. What is impossible, or does not fit, is refused here rather than hours later. */
#ifndef TRAIN_FORECAST_FORECAST_H
#define TRAIN_FORECAST_FORECAST_H

#include "train/factors.h"
#include "train/forecast/dryrun_parts.h"

/* One model of the run: the base, a partial one, an MLA one; with its training, if any. */
struct forecast_model {
    char name[96]; /* "rope8-rank4 stage 2" */
    struct model_state state;
    struct point point;               /* of an MLA model */
    const struct config_phase *phase; /* NULL: not trained */
    unsigned kinds;
    bool pixels;
    double count[PARAM_KINDS], all, trained;
    double flop; /* of the training's products, a teacher's among them */
};

/* What is done in a step. */
enum forecast_kind {
    FORECAST_PICTURES,
    FORECAST_MODEL, /* is trained, or answers */
    FORECAST_RANK,
    FORECAST_ROTATION,
    FORECAST_FACTORS,
    FORECAST_RANKS, /* of layers, by their sensitivity */
    FORECAST_STAGE1_REFIT,
    FORECAST_REFIT,
    FORECAST_SPLITS, /* their factors */
    FORECAST_SPLITS_LOSS
};

/* Choices with which a step would need less: of svd.statistics and svd.ranks for factors, of
 * rank.strategy, with each head's own pairs, for a ranking. */
enum {
    FORECAST_LESS_RECEIVED = 1,
    FORECAST_LESS_TOKENS = 2,
    FORECAST_LESS_EVEN = 4,
    FORECAST_LESS_MKL = 8
};

/* The peak memory of one step of the run, in bytes. A graph's region is kept for later graphs;
 * `region` is the largest so far. */
struct forecast_step {
    char name[96]; /* its model's name, or "rank", "rope8 svd" */
    enum step of;  /* the step of the pipeline; what comes before the first one is the baseline's */
    enum forecast_kind kind;
    int64_t recipe; /* that it has the settings of; -1: the run's own */
    unsigned less;  /* bits FORECAST_LESS_... */
    bool is_training;
    double activations; /* for the longest samples */
    int64_t recomputed; /* number of layers, for those */
    double answers;     /* graph and cache, for the longest questions */
    double region;
    double cache;
    double computed; /* moved rows, moments, factors, a picture that is read */
    double trained;
    double mapped;                /* frozen weights in their files: not part of `bytes` */
    double bytes;                 /* total anonymous memory */
    struct factors_narrow narrow; /* of factors that are made */
};

struct forecast {
    struct run *r;
    struct model base;
    struct forecast_model *models;
    struct forecast_step *steps; /* in the run's order */
    int64_t n, n_steps;
    const struct dataset *largest; /* the set with the largest picture; NULL: there is none */
    double program; /* bytes of the process itself, including the index of the data */
};

/* The model that the run starts from: as it exists, or as the baseline step will shape it. */
bool forecast_open(struct forecast *f, struct run *r, struct err *e);
/* The models and the steps; the data must be open. */
bool forecast_models(struct forecast *f, struct err *e);
/* Fails if a step needs more memory than the run may use. */
bool forecast_fits(const struct forecast *f, struct err *e);
void forecast_close(struct forecast *f); /* fine on a zeroed struct */

#endif
