/* peft.h - the sets of parameters that a stage trains. */
#ifndef TRAIN_PEFT_H
#define TRAIN_PEFT_H

#include "model/model.h"

enum peft_set {
    PEFT_V2,
    PEFT_V3,
    PEFT_V4,
    PEFT_V5,
    PEFT_V6,
    PEFT_V3_NORMS,
    PEFT_V5_NORMS,
    PEFT_V6_NORMS,
    PEFT_KV_ROPE,
    PEFT_ALL,
    PEFT_NONE, /* for training, say, the projector alone */
    PEFT_SETS
};
#define PEFT_NAMES                                                                                 \
    "v2", "v3", "v4", "v5", "v6", "v3+norms", "v5+norms", "v6+norms", "kv+rope", "all", "none"

/* The parameter kinds that a set trains, as a mask for model_train. */
unsigned peft_kinds(enum peft_set set, bool projector);

#endif
