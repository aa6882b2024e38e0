/* gemm_room.c - OpenBLAS takes memory for each thread that multiplies, when it first does. Where it
 * gets none it tries again, without end: so it gets that before anything else takes it. */
#include "autograd/gemm.h"
#include "base/mem.h"

#include <omp.h>
#include <stdlib.h>
#include <sys/mman.h>

static const size_t thread_room = (size_t)128 << 20; /* 0.3.21; addresses, not memory */

/* On all threads at a time, so that each has its own; smaller products would do without. */
static bool multiply(int threads, struct err *e)
{
    enum { N = 256 };
    real *m = mem_new((size_t)(threads + 2) * N * N, sizeof *m, "a matrix product", e);

    if (!m) return false;
#pragma omp parallel num_threads(threads)
    {
        real *c = m + (size_t)(omp_get_thread_num() + 2) * N * N;
#pragma omp barrier
        gemm_serial(N, N, N, 1, mat_of(m, N, false), mat_of(m + N * N, N, false), false, c, N);
    }
    free(m);
    return true;
}

bool gemm_room(struct err *e)
{
    int threads = omp_get_max_threads();
    size_t bytes = (size_t)(threads + 1) * thread_room; /* one for a thread of its own */
    void *p;

    if (mem_limit() == SIZE_MAX) return true;
    p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0);
    if (p == MAP_FAILED)
        return err_set(e, "out of memory: OpenBLAS takes up to %zu MiB of addresses on %d thread%s",
                       bytes >> 20, threads, threads > 1 ? "s" : "");
    munmap(p, bytes);
    return multiply(threads, e);
}
