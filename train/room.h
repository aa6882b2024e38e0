/* room.h - the memory that a graph may take, and how many layers are recomputed to stay within.
 *
 * What counts is anonymous memory: values that are trained or were computed, and activations.
 * Frozen weights lie in mapped files: the system holds as many of their pages as it has room for,
 * and reads the others again. */
#ifndef TRAIN_ROOM_H
#define TRAIN_ROOM_H

#include "train/run.h"

/* Bytes of anonymous memory that the process holds; 0 where the system does not say. */
double room_held(void);

/* What run.memory_limit leaves beside `held` bytes. Where the limit is the machine itself, the
 * `mapped` bytes of frozen weights are to stay in memory as well. Never negative. */
size_t room_left(const struct run *r, double held, double mapped);

/* Bytes of m's parameters that have memory of their own, and of those that are mapped. */
void room_of_params(const struct model *m, double *own, double *mapped);

/* What makes the graph of a training step smaller. */
const char *room_advice(const struct run *r);

/* Builds the graph anew with that many of the first decoder layers recomputed, and says what it
 * needs. */
typedef bool room_build(void *arg, int64_t layers, size_t *bytes, struct err *e);

/* By optim.recompute: with none of the layers, all of them, or the fewest that fit in `room` (all
 * where even that does not fit). Leaves the graph built; *layers and *bytes are its own. How many
 * it is does not change a bit of the result. */
bool room_recompute(const struct run *r, const struct model *m, size_t room, room_build *build,
                    void *arg, int64_t *layers, size_t *bytes, struct err *e);

#endif
