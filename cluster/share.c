/* share.c - see share.h. A batch has few samples: to search n costs n times takes less than
 * computing on one sample. */
#include "cluster/share.h"

#include <string.h>

/* The dearest of those without an owner, the first of equals. */
static int64_t dearest(const int32_t *owner, const int64_t *cost, int64_t n)
{
    int64_t best = -1;

    for (int64_t i = 0; i < n; i++)
        if (owner[i] < 0 && (best < 0 || cost[i] > cost[best])) best = i;
    return best;
}

void share_by_cost(int32_t *owner, const int64_t *cost, int64_t n, int64_t *load, int size)
{
    memset(load, 0, (size_t)size * sizeof *load);
    for (int64_t i = 0; i < n; i++) {
        owner[i] = size == 1 ? 0 : -1;
        if (size == 1) load[0] += cost[i];
    }
    for (int64_t k = 0; size > 1 && k < n; k++) {
        const int64_t i = dearest(owner, cost, n);
        int32_t to = 0;

        for (int32_t r = 1; r < size; r++)
            if (load[r] < load[to]) to = r;
        owner[i] = to;
        load[to] += cost[i];
    }
}
