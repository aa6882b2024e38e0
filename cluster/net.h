/* net.h - what the room needs of MPI: mpi.c has it, alone.c stands in where MPI is not installed.
 * Nothing else knows of MPI. Only bytes are moved: nothing is computed on the way.
 *
 * All but net_open need net_open to have found more than one process. */
#ifndef CLUSTER_NET_H
#define CLUSTER_NET_H

#include "base/err.h"

#include <stddef.h>

struct net_place {
    int rank, size, local; /* local: how many are on this machine */
};

/* Whether the program was built with MPI. */
bool net_there(void);

/* Joins what a launcher has started. Without a launcher: rank 0 of 1, and MPI is not started. */
bool net_open(struct net_place *p, struct err *e);

/* all[size * bytes] = the `bytes` of each, in the order of ranks. False: not all have come
 * within `seconds` (0: no limit), and nothing more can be done but to end. */
bool net_share(const void *mine, size_t bytes, void *all, double seconds);
/* Piece i of to[size * bytes] goes to process i; from[size * bytes] has what each had for this one.
 */
void net_exchange(const void *to, size_t bytes, void *from);
void net_broadcast(void *data, size_t bytes, int from);
/* data[bytes] of process `from` goes to that of rank 0; for these two. */
void net_hand(void *data, size_t bytes, int from);
void net_close(void);
_Noreturn void net_end(int status); /* ends all processes */

/* Messages under way between two processes. Those from one process to another with the same tag
 * (0 .. 32767) arrive in the order in which they were sent. The memory belongs to the message
 * until it has arrived. */
struct net_calls;
struct net_calls *net_calls_new(int n, struct err *e); /* n at a time, numbered from 0 */
void net_calls_free(struct net_calls *c);              /* fine on NULL; none may be under way */
void net_send(struct net_calls *c, int i, const void *data, size_t bytes, int to, int tag);
void net_receive(struct net_calls *c, int i, void *data, size_t bytes, int from, int tag);
/* Lists in done[n] those that have arrived since the last call, and returns how many. With `wait`,
 * waits until there is one; -1: none is under way. */
int net_arrived(struct net_calls *c, int *done, bool wait);

#endif
