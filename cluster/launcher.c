/* launcher.c - see launcher.h. */
#include "cluster/launcher.h"

#include <stdlib.h>

bool launcher_joins(void)
{
    /* PMIx (mpirun of Open MPI, srun --mpi=pmix), PMI (mpiexec of MPICH and its kin), and their own
     */
    static const char *const ranks[] = {"PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK",
                                        "MV2_COMM_WORLD_RANK"};

    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
        if (getenv(ranks[i])) return true;
    return false;
}

long launcher_started(void)
{
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE",
                                        "SLURM_STEP_NUM_TASKS"};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *text = getenv(sizes[i]);
        const long n = text ? strtol(text, NULL, 10) : 0;
        if (n > 0) return n;
    }
    return 1;
}
