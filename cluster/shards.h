/* shards.h - which process owns which values of the trained parameters: it sums their gradients,
 * keeps their optimiser's state and steps them. Each parameter, in blocks of MOMENT_BLOCK values,
 * is cut into as many pieces as there are processes, in the order of ranks; blocks that are left
 * over go to one process after the other, on from where the parameter before has left off, so that
 * all own as much but for one block. A part of every parameter, not a run of whole ones: the
 * backward pass comes to one parameter after the other, and what is final then goes to all owners
 * at the same time, not to a single one that would receive from all. */
#ifndef CLUSTER_SHARDS_H
#define CLUSTER_SHARDS_H

#include "optim/adamw.h"

struct shards {
    int64_t n;      /* parameters */
    int64_t *count; /* [n] values of each */
    int64_t *begin; /* [n + 1] blocks before each */
};

/* The parameters' gradients need not be there. On failure *s is zeroed. */
bool shards_init(struct shards *s, struct tensor *const params[], int64_t n, struct err *e);
void shards_free(struct shards *s); /* fine on a zeroed struct */

/* What process `rank` of `size` owns of parameter i; n is 0 if that is nothing. */
struct adamw_part shards_part(const struct shards *s, int size, int rank, int64_t i);

#endif
