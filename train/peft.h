/* peft.h - the sets of parameters that a stage trains. */
#ifndef TRAIN_PEFT_H
#define TRAIN_PEFT_H

#include "model/model.h"

/* In the order of the table; also the config's enum. */
#define PEFT_NAMES                                                                                 \
    "v2", "v3", "v4", "v5", "v6", "v3+norms", "v5+norms", "v6+norms", "kv+rope", "all", "none"

enum { PEFT_KV_ROPE = 8, PEFT_ALL };

/* The parameter kinds trained by set number `set`, as a mask for model_train. */
unsigned peft_kinds(int set, bool projector);

#endif
