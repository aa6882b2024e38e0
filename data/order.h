/* order.h - the order in which samples are drawn. */
#ifndef DATA_ORDER_H
#define DATA_ORDER_H

#include "base/err.h"

#include <stdint.h>

/* An endless stream of samples: each epoch is a permutation of 0..n-1 drawn from (seed, epoch), so
 * that a position alone determines everything that follows. `order` caches the permutation of the
 * last epoch asked for; order_at returns the sample at position `at`. */
struct order {
    uint64_t seed;
    int64_t n, epoch; /* epoch: the one that `order` holds; -1 before the first call */
    int64_t *order;
};
bool order_init(struct order *o, uint64_t seed, int64_t n, struct err *e);
void order_free(struct order *o);
int64_t order_at(struct order *o, int64_t at);

#endif
