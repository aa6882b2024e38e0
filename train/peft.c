/* peft.c - the published sets as they are named (the published code's norms train in v3, v5 and v6
 * too, by a missing pair of brackets: that is the `+norms` ones) and ours. Before compression the
 * factors are up_k and up_v alone, made from the layer's input. */
#include "train/peft.h"

#define BIT(kind) (1u << (kind))

enum {
    NORMS = BIT(PARAM_NORM),
    QUERY = BIT(PARAM_Q) | BIT(PARAM_Q_ROPE),
    DOWN = BIT(PARAM_DOWN),
    UP = BIT(PARAM_UP_K) | BIT(PARAM_UP_V),
    FULL = BIT(PARAM_K) | BIT(PARAM_V), /* only where attention is not converted */
    ATTENTION = QUERY | BIT(PARAM_K_ROPE) | DOWN | UP | FULL | BIT(PARAM_O),
};

static const struct {
    const char *name;
    unsigned kinds;
} sets[] = {
    {"v2", ATTENTION | NORMS},
    {"v3", QUERY | BIT(PARAM_K_ROPE) | DOWN | UP},
    {"v4", QUERY | DOWN | UP | NORMS},
    {"v5", DOWN | UP},
    {"v6", DOWN},
    {"v3+norms", QUERY | BIT(PARAM_K_ROPE) | DOWN | UP | NORMS},
    {"v5+norms", DOWN | UP | NORMS},
    {"v6+norms", DOWN | NORMS},
    {"kv+rope", DOWN | UP | BIT(PARAM_K_ROPE) | BIT(PARAM_Q_ROPE)},
    {"all", ATTENTION | NORMS | BIT(PARAM_MLP) | BIT(PARAM_EMBED) | BIT(PARAM_HEAD)},
    {"none", 0}, /* the projector alone, say */
};

unsigned peft_kinds(int set, bool projector)
{
    CHECK(set >= 0 && (size_t)set < sizeof sets / sizeof *sets);
    return sets[set].kinds | (projector ? BIT(PARAM_PROJECTOR) : 0);
}
