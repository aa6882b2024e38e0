/* trainer_parts.h - a training under way: shared by trainer.c, which runs it, and trainer_state.c,
 * which saves and restores it, and by bench/, which measures its steps. */
#ifndef TRAIN_TRAINER_PARTS_H
#define TRAIN_TRAINER_PARTS_H

#include "cluster/exchange.h"
#include "data/order.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "train/record/checkpoint.h"
#include "train/record/tensorboard.h"
#include "train/teacher.h"
#include "train/trainer.h"

struct trainer {
    struct run *r;
    struct model *m;
    const struct train_job *job;
    struct teacher teacher;
    struct cache_how held; /* .layers 0: tokens are read as they are */
    struct cache_fault fault;
    struct adamw opt; /* of this process's parts */
    struct exchange *exchange;
    struct param **trained;
    int64_t n_trained, steps, step;
    double tokens, seconds; /* trained so far, also before a resume */
    struct schedule schedule;
    struct order order;
    struct ckpt_list items; /* of this process's checkpoint */
    struct sample *samples; /* [batch_size], those of the current step that are this process's */
    int64_t n_samples;
    int32_t *owner; /* [batch_size] of the step's samples: the process */
    int64_t *cost;  /* [batch_size] of the step's samples, and [processes] */
    struct batch_buffer batch;
    struct tb tb;
    int64_t last_saved;
    bool gave_up; /* a signal came in the middle of a step, at first in this process alone */
};

struct step_result {
    double loss, norm, lr, seconds; /* of all processes; seconds: of this one */
    struct distill_terms terms;     /* of the loss, likewise, where there is a teacher */
    int64_t tokens, labels;         /* of all processes */
};

/* Of a struct with r, m and job: makes the rest, at step 0. All processes must have agreed on the
 * result before the first step. */
bool trainer_open(struct trainer *t, struct err *e);
void trainer_close(struct trainer *t); /* fine on a struct that could not be opened */
/* Step number t->step, together with the other processes. */
bool trainer_step(struct trainer *t, struct step_result *out, struct err *e);

/* Lists in t->items what this process saves: its part of the trained values and of the
 * optimiser's moments. */
bool trainer_list(struct trainer *t, struct err *e);

/* Writes a checkpoint of t->step, unless it is the one that was written last. */
bool trainer_save(struct trainer *t, struct err *e);

/* Loads the newest checkpoint, and removes later entries from the metrics. */
bool trainer_restore(struct trainer *t, struct err *e);

#endif
