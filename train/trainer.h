/* trainer.h - one training: baseline, stage 1 or stage 2. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "train/run.h"

struct train_job {
    const char *point, *phase; /* for metrics: "rope8-rank4", "stage2" */
    const struct config_phase *p;
    unsigned kinds;  /* mask of the kinds trained */
    const char *dir; /* for checkpoints and TensorBoard */
    int index;       /* of phase_steps: its order of the data is its own */
};

/* Trains m in place, starting from its newest checkpoint under job->dir if there is one, and leaves
 * it with the trained values. Evaluates at step 0, every eval_every steps and at the end. On a
 * signal writes a checkpoint and fails with a message that says so. */
bool train_model(struct run *r, struct model *m, const struct train_job *job, struct err *e);

/* Optimiser steps of a phase over n samples: p->steps, or epochs * n / batch_size, at least 1. */
int64_t train_steps(const struct config_phase *p, int64_t n);

/* Samples of n that a phase's teacher is asked about: those of all steps, or each once if what it
 * says is stored. */
int64_t train_asked(const struct config_phase *p, int64_t n);

/* Visits the samples that the run's phase of that index draws, some of them more than once. */
bool train_each(const struct run *r, int phase, entry_visitor *visit, void *arg, struct err *e);

/* A loss: the cross entropy times distill.scale, or with what a teacher said at the labels, or with
 * its hidden states. */
struct train_loss {
    struct distill distill;       /* teacher NULL: none */
    struct hidden hidden;         /* to NULL: none */
    const struct cache_how *held; /* of struct forward; NULL: none */
    struct cache_fault *fault;    /* of the same, held_fault */
};

/* Builds the graph of one micro-batch and returns its loss [1, 1]. Layers are recomputed as
 * determined by optim.recompute and r->room. */
struct tensor *train_graph(struct run *r, struct model *m, const struct dataset *d,
                           struct batch_buffer *b, const struct train_loss *how, struct err *e);

#endif
