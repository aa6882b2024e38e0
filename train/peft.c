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

static const unsigned sets[PEFT_SETS] = {
    [PEFT_V2] = ATTENTION | NORMS,
    [PEFT_V3] = QUERY | BIT(PARAM_K_ROPE) | DOWN | UP,
    [PEFT_V4] = QUERY | DOWN | UP | NORMS,
    [PEFT_V5] = DOWN | UP,
    [PEFT_V6] = DOWN,
    [PEFT_V3_NORMS] = QUERY | BIT(PARAM_K_ROPE) | DOWN | UP | NORMS,
    [PEFT_V5_NORMS] = DOWN | UP | NORMS,
    [PEFT_V6_NORMS] = DOWN | NORMS,
    [PEFT_KV_ROPE] = DOWN | UP | BIT(PARAM_K_ROPE) | BIT(PARAM_Q_ROPE),
    [PEFT_ALL] = ATTENTION | NORMS | BIT(PARAM_MLP) | BIT(PARAM_EMBED) | BIT(PARAM_HEAD),
    [PEFT_NONE] = 0,
};

unsigned peft_kinds(enum peft_set set, bool projector)
{
    CHECK((unsigned)set < PEFT_SETS);
    return sets[set] | (projector ? BIT(PARAM_PROJECTOR) : 0);
}
