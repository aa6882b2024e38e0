/* strategy.c - the strategies' kinds, and the permutations of those that need no calibration. */
#include "model/strategy.h"

#include <inttypes.h>
#include <string.h>

/* What a fixed strategy's permutation of one head follows from. */
struct order {
    int64_t P, step, start;
};

static void high_rank(int32_t *rank, const struct order *o)
{
    for (int64_t i = 0; i < o->P; i++)
        rank[i] = (int32_t)i;
}

static void low_rank(int32_t *rank, const struct order *o)
{
    for (int64_t i = 0; i < o->P; i++)
        rank[i] = (int32_t)(o->P - 1 - i);
}

/* Puts every step-th pair from `start` first; both parts are ascending. */
static void uniform_rank(int32_t *rank, const struct order *o)
{
    int32_t next = 0;

    for (int64_t i = o->start; i < o->P; i += o->step)
        rank[i] = next++;
    for (int64_t i = 0; i < o->P; i++)
        if (i % o->step != o->start) rank[i] = next++;
}

static const char *const names[] = {RANK_NAMES};
static const struct {
    enum rank_kind kind;
    void (*fixed)(int32_t *rank, const struct order *o); /* rank[P] of one head */
} strategies[RANK_STRATEGIES] = {
    [RANK_HIGH] = {RANK_KIND_FIXED, high_rank},       [RANK_LOW] = {RANK_KIND_FIXED, low_rank},
    [RANK_UNIFORM] = {RANK_KIND_FIXED, uniform_rank}, [RANK_2NORM] = {RANK_KIND_MEASURED, NULL},
    [RANK_MKL] = {RANK_KIND_MEASURED, NULL},          [RANK_MKL_MASK] = {RANK_KIND_MEASURED, NULL},
    [RANK_LOGIT] = {RANK_KIND_MEASURED, NULL},        [RANK_FILE] = {RANK_KIND_GIVEN, NULL},
};

const char *rank_strategy_name(enum rank_strategy s)
{
    return names[s];
}

enum rank_kind rank_strategy_kind(enum rank_strategy s)
{
    return strategies[s].kind;
}

enum rank_strategy rank_strategy_of(const char *version)
{
    int s = 0;

    while (s < RANK_STRATEGIES && strcmp(names[s], version) != 0)
        s++;
    CHECK(s < RANK_STRATEGIES);
    return (enum rank_strategy)s;
}

bool rank_check(const struct rank_dims *n, int64_t rope_dim, struct err *e)
{
    if (n->L < 1 || n->H < 1 || n->G < 1 || n->H % n->G != 0)
        return err_set(e,
                       "%" PRId64 " layers with %" PRId64 " query and %" PRId64
                       " kv heads: all must be positive, the kv heads a divisor of the query heads",
                       n->L, n->H, n->G);
    if (n->dh < 2 || n->dh % 2 != 0)
        return err_set(e, "head size %" PRId64 ": RoPE needs an even one", n->dh);
    if (rope_dim < 2 || rope_dim > n->dh || rope_dim % 2 != 0)
        return err_set(e, "rope_dim %" PRId64 ": must be even and from 2 to the head size %" PRId64,
                       rope_dim, n->dh);
    return true;
}

bool rank_fixed(int32_t *rank, enum rank_strategy s, const struct rank_dims *n, int64_t rope_dim,
                int64_t start, struct err *e)
{
    struct order o = {.P = n->dh / 2};

    CHECK(strategies[s].fixed);
    if (!rank_check(n, rope_dim, e)) return false;
    if (s == RANK_UNIFORM) {
        if (n->dh % rope_dim != 0)
            return err_set(e,
                           "strategy uniform: the head size %" PRId64
                           " is not a multiple of rope_dim %" PRId64,
                           n->dh, rope_dim);
        o.step = n->dh / rope_dim;
        o.start = start;
        if (start < 0 || start >= o.step)
            return err_set(e,
                           "strategy uniform: start %" PRId64 " is outside 0..%" PRId64
                           " (head size / rope_dim - 1)",
                           start, o.step - 1);
    }
    strategies[s].fixed(rank, &o);
    for (int64_t j = 1; j < n->L * n->G; j++)
        memcpy(rank + j * o.P, rank, (size_t)o.P * sizeof *rank);
    return true;
}
