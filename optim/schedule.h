/* schedule.h - the learning rate by step. */
#ifndef OPTIM_SCHEDULE_H
#define OPTIM_SCHEDULE_H

#include <stdint.h>

enum decay_style { DECAY_1_SQRT, DECAY_LINEAR, DECAY_COSINE };
#define DECAY_NAMES "1-sqrt", "linear", "cosine" /* of the settings, in order */

/* Linear warm-up over int(warmup * steps) steps, then the peak, and from step int((1 - decay) *
 * steps) on a decay of the given style to min_lr over int(decay * steps) steps. Like the published
 * training's scheduler it counts steps from 0 and warms up from 0, so that with a warm-up the first
 * step has rate 0; if the shares are not whole steps, the last step has min_lr. */
struct schedule {
    double peak, min_lr, warmup, decay; /* warmup and decay: fractions of all steps, 0..1 */
    enum decay_style style;
    int64_t steps;
};

/* The learning rate at step 0 <= step < steps. */
double schedule_lr(const struct schedule *s, int64_t step);

#endif
