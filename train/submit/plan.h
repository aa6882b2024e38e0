/* plan.h - which jobs a run becomes, and what each asks of a node.
 *
 *     shared   what the points share: baseline, rank, stage1, and the scores of both models
 *     points   an array, one element a point of the sweep: svd, stage2, evaluate; after shared
 *     report   after all points have ended, however
 *
 * A job without steps is left out. Where nothing is shared, the points run one at a time, and
 * share run.dir with nobody. */
#ifndef TRAIN_SUBMIT_PLAN_H
#define TRAIN_SUBMIT_PLAN_H

#include "train/config.h"
#include "train/forecast/forecast.h"
#include "train/submit/partition.h"
#include "train/submit/record.h"

struct plan_job {
    bool step[STEPS]; /* what it does */
    bool wanted;      /* it has steps */
    int64_t memory;   /* MiB of a node */
};

struct plan {
    const struct config *c;
    struct partition partition; /* zeroed: the cluster was not asked */
    int64_t cpus;               /* of a process */
    int64_t per_node;           /* processes */
    int64_t seconds;            /* limit of a job; 0: the partition's */
    struct plan_job job[JOBS];
};

/* Checks what the settings say by themselves. */
bool plan_open(struct plan *p, const struct config *c, struct err *e);
/* Compares it with the partition, which is then part of the plan. */
bool plan_place(struct plan *p, const struct partition *where, struct err *e);

/* Bytes that a process may have of its own: of slurm.memory or, with that 0, of the largest node;
 * no more than run.memory_limit. 0: neither is known. */
double plan_limit(const struct plan *p);
/* The same for one of the job's processes, once its memory is set. */
double plan_job_limit(const struct plan *p, enum submit_job job);

/* Sets each job's memory from the forecast; fails if a job does not fit. */
bool plan_memory(struct plan *p, const struct forecast *f, struct err *e);

#endif
