/* cluster.h - the processes that work on one run together. mpirun or srun starts them; without
 * either, and in a build without MPI, there is one, and all of this costs it nothing.
 *
 * Every process runs the same program with the same settings, and comes to the same meetings in the
 * same order: those are the calls below that take an error. What writes below run.dir is done by
 * the first process while the others wait:
 *
 *     return cluster_agree(!cluster_first() || save(model, path, e), e);
 *
 * A process that has failed goes, on its way out, to the next meeting that is on that way;
 * whichever meeting the others are at, they learn there of its error, and every meeting fails
 * from then on. So all end, and with one message.
 *
 * Sums are made in the order of the ranks by the processes themselves, never by the library: at a
 * given number of processes the same input gives the same bits, and the same at all of them.
 *
 * Global state, as in log.h: a process is in one cluster. Only the main thread may call this. */
#ifndef CLUSTER_CLUSTER_H
#define CLUSTER_CLUSTER_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Joins the processes that were started together; what all but the first write to standard output
 * is lost from then on. To be called once, before any file is opened. */
bool cluster_open(struct err *e);

/* Whether this program can be several processes, and whether a launcher has started this one. */
bool cluster_built(void);
bool cluster_launched(void);

int cluster_size(void);  /* 1 before cluster_open */
int cluster_rank(void);  /* 0 .. size - 1 */
int cluster_local(void); /* how many of them are on this machine */
static inline bool cluster_first(void)
{
    return cluster_rank() == 0;
}

/* Whether all processes have come here with ok. If not, all get the error of the first of them that
 * has one, with "rank K of N: " before it unless all have the same; and the signal that stopped
 * it, if one did, is noted by all (base/signals.h). *e is left alone where all are ok. */
bool cluster_agree(bool ok, struct err *e);

/* The same for work after which a run can be saved: where it is a signal that has stopped it in
 * some processes, it is as if it had come to all. They have noted it, come back from here with
 * that as the error, and may meet again. */
bool cluster_go_on(bool ok, struct err *e);

/* *sig = the signal that the first process comes with which comes with one; 0 if none does. All
 * have noted it then (base/signals.h). */
bool cluster_signal(int *sig, struct err *e);

/* x[n] = its sum over the processes, in the order of their ranks. */
bool cluster_sum(double *x, int64_t n, struct err *e);

/* data[bytes] of process `from` becomes that of all. */
bool cluster_broadcast(void *data, size_t bytes, int from, struct err *e);

/* cluster_agree; then *found is what the first process has found: of a file that it has just made,
 * say, which others could see later. */
bool cluster_as_first(bool ok, bool *found, struct err *e);

/* The n bytes of each process, end to end in the order of ranks: *all is new memory, which the
 * caller frees, and *bytes its size. If memory is short in one process, all fail. */
bool cluster_gather(const void *mine, size_t n, void **all, size_t *bytes, struct err *e);

/* The n bytes of process `from`, not the first, for the first alone: *got is new memory there,
 * which the caller frees, and *bytes its size; NULL and 0 elsewhere. */
bool cluster_hand(int from, const void *mine, size_t n, void **got, size_t *bytes, struct err *e);

/* The last meeting, before the program ends. A process that has failed where the others do not
 * expect it waits for them for a few seconds. */
bool cluster_close(bool ok, struct err *e);
/* After cluster_close: whether it is this process that says how the run ended. */
bool cluster_reports(void);
/* Leaves the processes; ends those that did not come to cluster_close. */
void cluster_leave(int status);

#endif
