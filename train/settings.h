/* settings.h - how settings go together: which contradict each other, and which are not used. */
#ifndef TRAIN_SETTINGS_H
#define TRAIN_SETTINGS_H

#include "train/config.h"

/* Fails if two settings, or two values of one, cannot both be meant. */
bool settings_check(const struct config *c, struct err *e);

/* What decides of the model whether a setting is used. */
struct settings_model {
    bool pictures;              /* it takes them */
    int64_t head_dim, kv_heads; /* 0: not known */
};
/* Logs which of the given settings change nothing here, and why. */
void settings_say_unused(const struct config *c, const struct settings_model *m);

#endif
