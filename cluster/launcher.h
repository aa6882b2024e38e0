/* launcher.h - what a process can tell of how it was started, from its environment. */
#ifndef CLUSTER_LAUNCHER_H
#define CLUSTER_LAUNCHER_H

#include <stdbool.h>

/* Whether a launcher offers to connect this process to others. */
bool launcher_joins(void);

/* How many processes were started together, as far as the environment says; else 1. */
long launcher_started(void);

#endif
