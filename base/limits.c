/* limits.c - see limits.h. */
#include "base/limits.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* The limits on addresses, and the fields of /proc/self/statm, in pages, that count against them.
 */
static const struct {
    int resource, field;
    const char *what, *option;
} limits[] = {{RLIMIT_AS, 0, "addresses", "-v"}, {RLIMIT_DATA, 5, "data", "-d"}};
enum { LIMITS = sizeof limits / sizeof *limits, FIELDS = 7 };

/* Bytes; SIZE_MAX: there is no such limit. */
static size_t limit_of(int i)
{
    struct rlimit r;

    return getrlimit((__rlimit_resource_t)limits[i].resource, &r) == 0 && r.rlim_cur < SIZE_MAX
               ? r.rlim_cur
               : SIZE_MAX;
}

/* Bytes that are left under a limit; false where there is none or nothing is known. */
static bool look(int i, size_t *left)
{
    unsigned long long page = (unsigned long long)sysconf(_SC_PAGESIZE), f[FIELDS] = {0};
    const size_t limit = limit_of(i);
    FILE *fp;
    int n;

    if (limit == SIZE_MAX) return false;
    fp = fopen("/proc/self/statm", "r");
    if (!fp) return false;
    n = fscanf(fp, "%llu %llu %llu %llu %llu %llu %llu", &f[0], &f[1], &f[2], &f[3], &f[4], &f[5],
               &f[6]);
    fclose(fp);
    *left = limit > f[limits[i].field] * page ? limit - (size_t)(f[limits[i].field] * page) : 0;
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

size_t limits_least(void)
{
    size_t least = SIZE_MAX;

    for (int i = 0; i < LIMITS; i++)
        if (limit_of(i) < least) least = limit_of(i);
    return least;
}

void limits_name(struct err *e)
{
    static const char *const memory[] = {"out of memory", "Cannot allocate memory",
                                         "no thread can be made"};
    bool is = false;

    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        is = is || strstr(e->msg, memory[i]);
    for (int i = 0; is && i < LIMITS; i++)
        if (limit_of(i) != SIZE_MAX)
            err_set(e, "%s; this process is limited to %zu MiB of %s (`ulimit %s`): raise that",
                    e->msg, limit_of(i) >> 20, limits[i].what, limits[i].option);
}
