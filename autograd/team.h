/* team.h - OpenMP's threads before they have work: how they wait for each other, and that each has
 * the memory it needs. */
#ifndef AUTOGRAD_TEAM_H
#define AUTOGRAD_TEAM_H

#include "base/err.h"

#include <stdint.h>

/* Lets threads that wait for each other sleep soon. libgomp has them spin for some milliseconds at
 * every barrier, which on a machine with other work takes the time from the very thread that is
 * waited for: a step takes ten times as long. It reads this from the environment before main: where
 * nothing is said there (GOMP_SPINCOUNT, OMP_WAIT_POLICY), the program starts itself once more with
 * it. OpenBLAS's own threads, which nobody uses, are left out on the way, also where only that is
 * to be done. To be called first of all; where it cannot be done, the program goes on as it is. */
void team_wait_shortly(char **argv);

/* The threads that OpenBLAS serves at the same time: a buffer each, of which it has two for each of
 * the threads that it was built for. Beyond, it writes warnings of its own, and from 512 more on it
 * ends the program or writes where it must not. INT_MAX if it does not say. */
int team_most(void);

/* What run.threads stands for: 0 is every core, as far as `most` allows, and that is logged. More
 * than `most` is an error. */
bool team_choose(int64_t *threads, int cores, int most, struct err *e);

/* OpenBLAS waits without end for a buffer that cannot be mapped: so each of that many threads gets
 * its own now, or the error says which limit is in the way. Their stacks are looked at too. */
bool team_open(int threads, struct err *e);

#endif
