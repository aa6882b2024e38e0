/* share.h - cuts a step's samples over the processes by their cost. */
#ifndef CLUSTER_SHARE_H
#define CLUSTER_SHARE_H

#include <stdint.h>

/* owner[n] = the process, of `size`, that gets each of n samples with these costs, all above 0:
 * the dearest first, each to the process that has least so far, of these to the lowest rank
 * (Graham's rule: no process gets more than 4/3 of the best cut's most). With as many samples as
 * processes, each gets one. load[size] = what each has then. */
void share_by_cost(int32_t *owner, const int64_t *cost, int64_t n, int64_t *load, int size);

#endif
