/* room.h - the memory available to a graph, and how many layers to recompute to stay within it.
 *
 * Only anonymous memory counts: values that are trained or were computed, and activations. Frozen
 * weights are in mapped files: the system keeps as many of their pages as it has room for, and
 * rereads the others. */
#ifndef TRAIN_FORECAST_ROOM_H
#define TRAIN_FORECAST_ROOM_H

#include "train/run.h"

/* Bytes of anonymous memory that the process holds; 0 if the system does not say. */
double room_held(void);

/* What run.memory_limit leaves beyond `held` bytes. If the limit is the machine itself, the
 * `mapped` bytes of frozen weights should stay in memory too. Never negative. */
size_t room_left(const struct run *r, double held, double mapped);

/* Bytes of m's parameters with memory of their own, and of those that are mapped. */
void room_of_params(const struct model *m, double *own, double *mapped);

/* What makes the graph of a training step smaller. */
const char *room_advice(const struct run *r);

/* Rebuilds the graph with that many of the first decoder layers recomputed, and returns the
 * bytes that it needs. */
typedef bool room_build(void *arg, int64_t layers, size_t *bytes, struct err *e);

struct room_graph {
    room_build *build;
    void *arg;      /* of build */
    size_t room;    /* bytes that it may take */
    int64_t layers; /* filled: recomputed ones */
    size_t bytes;   /* filled: what it needs */
};
/* Chooses by optim.recompute: none of the layers, all of them, or the fewest with which the graph
 * fits in its room (all if even that does not fit). Leaves the graph built. The number of layers
 * does not change a bit of the result. */
bool room_recompute(const struct run *r, const struct model *m, struct room_graph *g,
                    struct err *e);

#endif
