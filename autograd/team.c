/* team.c - see team.h. */
#include "autograd/team.h"
#include "base/limits.h"
#include "base/log.h"

#include <cblas.h>
#include <limits.h>
#include <omp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* 50 us on an AMD EPYC (Zen 4), where libgomp's own 300000 are 7 ms. Fewer cost an idle machine,
 * more a loaded one: docs/speed.md has the figures. */
static const char spins[] = "2000";

void team_wait_shortly(char **argv)
{
#ifndef __clang__ /* its OpenMP is another one, and yields */
    char path[PATH_MAX];
    ssize_t n;

    const bool chosen = getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY");
    if (chosen && getenv("OPENBLAS_NUM_THREADS")) return;
    n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0 || (!chosen && setenv("GOMP_SPINCOUNT", spins, 1) != 0)) return;
    if (setenv("OPENBLAS_NUM_THREADS", "1", 1) != 0) return;
    path[n] = '\0';
    execv(path, argv);
#else
    (void)argv;
#endif
}

/* What OpenBLAS maps for each thread that is in it at the same time (BUFFER_SIZE of its builds for
 * x86-64 and arm64), and room for the thread itself. */
static const size_t blas_buffer = (size_t)128 << 20, thread_room = (size_t)16 << 20;

/* Of OpenBLAS, which keeps what it has mapped; not in its headers, and missing from other BLAS. */
extern void *blas_memory_alloc(int place) __attribute__((weak));
extern void blas_memory_free(void *buffer) __attribute__((weak));

int team_most(void)
{
    static const char key[] = "MAX_THREADS=";
    const char *at = strstr(openblas_get_config(), key);
    const long built = at ? strtol(at + strlen(key), NULL, 10) : 0;

    return built > 0 && built < INT_MAX / 2 ? 2 * (int)built : INT_MAX;
}

bool team_choose(int64_t *threads, int cores, int most, struct err *e)
{
    if (*threads > most)
        return err_set(e,
                       "run.threads is %lld, and the OpenBLAS of this machine serves %d: as many "
                       "or fewer are needed",
                       (long long)*threads, most);
    if (*threads == 0 && cores > most)
        log_line("run.threads is 0, all the cores: %d of the %d are used, as many as the OpenBLAS "
                 "of this machine serves",
                 most, cores);
    if (*threads == 0) *threads = cores < most ? cores : most;
    return true;
}

static size_t own_stack(void)
{
    pthread_attr_t attr;
    size_t size = SIZE_MAX;

    if (pthread_getattr_np(pthread_self(), &attr) != 0) return size;
    pthread_attr_getstacksize(&attr, &size);
    pthread_attr_destroy(&attr);
    return size;
}

bool team_open(int threads, struct err *e)
{
    size_t stack = SIZE_MAX;
    char what[80];

    snprintf(what, sizeof what, "run.threads %d: the threads and OpenBLAS's buffers take", threads);
    if (!limits_addresses((size_t)threads * (blas_buffer + thread_room), what, e)) return false;
#pragma omp parallel num_threads(threads) reduction(min : stack)
    {
        void *buffer = blas_memory_alloc ? blas_memory_alloc(0) : NULL;
        if (omp_get_thread_num() > 0) stack = own_stack(); /* limits_stack was for the first */
#pragma omp barrier
        if (buffer) blas_memory_free(buffer);
    }
    return stack >= LIMITS_STACK ||
           err_set(e, "a thread's stack has %zu KiB (OMP_STACKSIZE), and %d are needed",
                   stack >> 10, LIMITS_STACK >> 10);
}
