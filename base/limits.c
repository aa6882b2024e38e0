/* limits.c - see limits.h. */
#include "base/limits.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* The limits on addresses, and the fields of /proc/self/statm, in pages, that count against them.
 */
static const struct {
    int resource, field;
} limits[] = {{RLIMIT_AS, 0}, {RLIMIT_DATA, 5}};
enum { LIMITS = sizeof limits / sizeof *limits, FIELDS = 7 };

/* Bytes that are left under a limit; false where there is none or nothing is known. */
static bool look(int i, size_t *left)
{
    unsigned long long page = (unsigned long long)sysconf(_SC_PAGESIZE), f[FIELDS] = {0};
    struct rlimit rl;
    FILE *fp;
    int n;

    if (getrlimit((__rlimit_resource_t)limits[i].resource, &rl) != 0 ||
        rl.rlim_cur == RLIM_INFINITY)
        return false;
    fp = fopen("/proc/self/statm", "r");
    if (!fp) return false;
    n = fscanf(fp, "%llu %llu %llu %llu %llu %llu %llu", &f[0], &f[1], &f[2], &f[3], &f[4], &f[5],
               &f[6]);
    fclose(fp);
    *left = rl.rlim_cur > f[limits[i].field] * page
                ? (size_t)(rl.rlim_cur - f[limits[i].field] * page)
                : 0;
    return n == FIELDS;
}

bool limits_stack(struct err *e)
{
    struct rlimit rl;

    if (getrlimit(RLIMIT_STACK, &rl) != 0 || rl.rlim_cur == RLIM_INFINITY ||
        rl.rlim_cur >= LIMITS_STACK)
        return true;
    return err_set(e,
                   "the stack may have %llu KiB (ulimit -s), and %d are needed: raise the limit, "
                   "8192 is usual",
                   (unsigned long long)rl.rlim_cur >> 10, LIMITS_STACK >> 10);
}

bool limits_addresses(size_t bytes, const char *what, struct err *e)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED)
        return err_set(e, "out of memory: %s %zu MiB of addresses", what, bytes >> 20);
    munmap(p, bytes);
    return true;
}

size_t limits_memory(size_t held)
{
    size_t most = SIZE_MAX, left;

    for (int i = 0; i < LIMITS; i++)
        if (look(i, &left) && left + held < most) most = left + held;
    return most;
}
