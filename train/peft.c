/* peft.c - the published sets under their names (in the published code the norms train in v3, v5
 * and v6 too, for lack of a pair of brackets: here those are the `+norms` sets), and ours. Before
 * compression the factors are just up_k and up_v, applied to the layer's input. */
#include "train/peft.h"

#define BIT(kind) (1u << (kind))

enum {
    NORMS = BIT(PARAM_NORM),
    QUERY = BIT(PARAM_Q) | BIT(PARAM_Q_ROPE),
    DOWN = BIT(PARAM_DOWN),
    UP = BIT(PARAM_UP_K) | BIT(PARAM_UP_V),
    FULL = BIT(PARAM_K) | BIT(PARAM_V), /* only if attention is not converted */
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
    {"none", 0}, /* for training, say, the projector alone */
};

unsigned peft_kinds(int set, bool projector)
{
    CHECK(set >= 0 && (size_t)set < sizeof sets / sizeof *sets);
    return sets[set].kinds | (projector ? BIT(PARAM_PROJECTOR) : 0);
}
