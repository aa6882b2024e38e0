/* queue.h - what Slurm knows of our jobs, by squeue, scontrol and sacct. */
#ifndef TRAIN_SUBMIT_QUEUE_H
#define TRAIN_SUBMIT_QUEUE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* A job, or an element of an array. */
struct queued {
    long long id;    /* of the job that was submitted */
    int64_t element; /* of the array; -1: it is none */
    char state[32];  /* "PENDING", "RUNNING", ... */
    char left[32];   /* of its time: "1:58:20" */
    char why[64];    /* it waits; "None" */
};

struct queue {
    struct queued *list;
    size_t n, cap;
};

/* The user's jobs that have not ended, from squeue. */
bool queue_open(struct queue *q, struct err *e);
/* The same from the output of squeue -h -r -o '%F|%K|%T|%L|%r'. */
bool queue_parse(struct queue *q, const char *text, struct err *e);
void queue_close(struct queue *q); /* fine on a zeroed struct */
/* NULL: it has ended, or never was. element -1: the first of any. */
const struct queued *queue_find(const struct queue *q, long long id, int64_t element);

/* How a job ended that is not in the queue any more: "COMPLETED", "CANCELLED", ... as sacct or, for
 * some minutes, scontrol has it; "" if neither does. Returns state. */
const char *queue_ended(char state[32], long long id, int64_t element);

#endif
