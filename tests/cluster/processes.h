/* processes.h - commands that run the program as several processes, for tests. */
#ifndef TESTS_CLUSTER_PROCESSES_H
#define TESTS_CLUSTER_PROCESSES_H

#include <stdlib.h>

/* Of program.h's places. */
#define TRAIN "$B/mha2mla-train --config $C "
#define PROCESSES(n) "mpirun --oversubscribe -np " #n " " TRAIN

/* What mpirun, and ranks that share a machine's cores, need in their environment. */
static inline void processes_setup(void)
{
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1); /* else mpirun refuses root */
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_btl", "self,vader", 1); /* off the network */
    setenv("OMP_WAIT_POLICY", "passive", 1); /* more threads than cores */
    unsetenv("GOMP_SPINCOUNT");              /* of tests/run.sh, which would come before it */
}

#endif
