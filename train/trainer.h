/* trainer.h - one training: baseline, stage 1 or stage 2. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "train/run.h"

struct train_job {
    const char *point, *phase; /* for metrics: "rope8-rank4", "stage2" */
    const struct config_phase *p;
    unsigned kinds;  /* what is trained */
    const char *dir; /* of checkpoints and TensorBoard */
    uint64_t stream; /* of the data order's random numbers */
};

/* Trains m in place from its newest checkpoint under job->dir, if there is one, and leaves it with
 * the trained values. Evaluates at step 0, every eval_every steps and at the end. A signal: writes
 * a checkpoint and fails with a message that says so. */
bool train_model(struct run *r, struct model *m, const struct train_job *job, struct err *e);

/* Optimiser steps of a phase over n samples. */
int64_t train_steps(const struct config_phase *p, int64_t n);

/* Begins the graph of one micro-batch and returns its loss; layers are recomputed as
 * optim.recompute and r->room say. */
struct tensor *train_graph(struct run *r, struct model *m, const struct dataset *d,
                           struct batch_buffer *b, double scale, struct err *e);

#endif
