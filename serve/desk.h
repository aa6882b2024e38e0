/* desk.h - where answers are ordered and made. One thread owns the model and works; others put jobs
 * into its queue and wait. Up to `seats` answers are made together: a job takes a seat as soon as
 * one is free, its prompt is computed part by part between the other answers' tokens, and it leaves
 * when it ends; where a part has pictures that are still to be decoded, the others go on meanwhile.
 * Prompts take turns, a part or a picture each. An answer's tokens are the same bits whatever the
 * others are (talk/answer.c). */
#ifndef SERVE_DESK_H
#define SERVE_DESK_H

#include "serve/decoder.h"
#include "serve/request.h"
#include "talk/answer.h"

#include <pthread.h>
#include <stdatomic.h>

enum { DESK_SEATS = 8, DESK_QUEUE = 64, DESK_PART = 128 };

enum job_state { JOB_WAITS, JOB_RUNS, JOB_DONE };

/* One answer that is wanted. Made and freed by who waits for it; between desk_put and JOB_DONE the
 * worker uses it. */
struct job {
    struct request request;
    struct talk_prompt prompt;
    struct sampling how;
    int64_t max_new;
    uint64_t seed;
    atomic_bool gone; /* nobody waits any longer: the answer is to be given up */
    /* Under the desk's lock, with `news` when they change: */
    enum job_state state;
    char *text; /* [n] what is certain of the answer, owned */
    size_t n, cap;
    struct answer answer; /* JOB_DONE without a fault */
    struct fault fault;   /* status 0: none */
    pthread_cond_t news;
};

struct seat {
    struct job *job; /* NULL: free */
    struct asking asking;
    struct making making;
    struct choose choose;
    int64_t used; /* when it was last taken */
    int64_t turn; /* when its prompt last had one: the oldest is next */
};

struct desk {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct job *queue[DESK_QUEUE]; /* [waiting] */
    int64_t waiting, queue_size;
    atomic_bool loaded, closing;
    pthread_mutex_t reading; /* one request is parsed at a time: it can take memory */
    struct decoder decoder;
    /* The worker's alone, but that `loaded` lets others read the talker's options: */
    struct talker talker;
    struct seat seats[DESK_SEATS];
    int64_t taken; /* seats ever taken */
    int64_t turns; /* of prompts, ever */
};

/* Sets up locks; desk_close is to follow. */
void desk_open(struct desk *d, int64_t queue_size);
/* Opens the model, on the thread that will work. */
bool desk_load(struct desk *d, const char *dir, const struct talker_options *how, struct err *e);
/* Works until a signal asks to stop: then finishes what has a seat, as long as signals_patience
 * lets it, and refuses what waits. */
void desk_work(struct desk *d);
void desk_close(struct desk *d);

/* For the threads that wait: makes a job of a body; false with job->fault where it is refused. */
bool desk_read(struct desk *d, struct job *job, const char *body, size_t n);
/* Queues it; false with job->fault if there is no room, or the program is about to end. */
bool desk_put(struct desk *d, struct job *job);
/* Waits up to some ms for more text than `seen`, or the end; true if either is there. */
bool desk_wait(struct desk *d, struct job *job, size_t seen, long ms);
/* Gives it up, unless it is done, and waits until the worker has let go of it. */
void desk_drop(struct desk *d, struct job *job);
void job_free(struct job *job);

#endif
