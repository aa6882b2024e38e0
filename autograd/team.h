/* team.h - OpenMP's threads before they have work: how they wait for each other, and that each has
 * the memory it needs. */
#ifndef AUTOGRAD_TEAM_H
#define AUTOGRAD_TEAM_H

#include "base/err.h"

/* OpenBLAS waits without end for a buffer that cannot be mapped: so each of that many threads gets
 * its own now, or the error says which limit is in the way. Their stacks are looked at too. */
bool team_open(int threads, struct err *e);

#endif
