/* order.c - see order.h. */
#include "data/order.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdlib.h>
#include <string.h>

bool order_init(struct order *o, uint64_t seed, int64_t n, struct err *e)
{
    *o = (struct order){.seed = seed, .n = n, .epoch = -1};
    o->order = mem_new((size_t)n, sizeof *o->order, "the order of the samples", e);
    return o->order;
}

void order_free(struct order *o)
{
    free(o->order);
    memset(o, 0, sizeof *o);
}

int64_t order_at(struct order *o, int64_t at)
{
    int64_t epoch = at / o->n;
    struct rng r;

    if (epoch != o->epoch) {
        rng_seed(&r, o->seed, (uint64_t)epoch);
        rng_permutation(&r, o->order, o->n);
        o->epoch = epoch;
    }
    return o->order[at % o->n];
}
