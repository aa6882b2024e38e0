/* schedule.c - warm-up, constant, decay. */
#include "optim/schedule.h"

#include <math.h>

static double decay_linear(double p)
{
    return 1 - p;
}
static double decay_sqrt(double p)
{
    return 1 - sqrt(p);
}
static double decay_cosine(double p)
{
    return (1 + cos(M_PI * p)) / 2;
}

static double (*const decays[])(double) = {
    [DECAY_1_SQRT] = decay_sqrt, [DECAY_LINEAR] = decay_linear, [DECAY_COSINE] = decay_cosine};

double schedule_lr(const struct schedule *s, int64_t step)
{
    int64_t warm = (int64_t)(s->warmup * (double)s->steps);
    int64_t tail = (int64_t)(s->decay * (double)s->steps);
    int64_t start = (int64_t)((1 - s->decay) * (double)s->steps);

    if (warm > 0 && step <= warm) return s->peak * (double)step / (double)warm;
    if (tail == 0 || step < start) return s->peak;
    if (step >= start + tail) return s->min_lr;
    return s->min_lr +
           (s->peak - s->min_lr) * decays[s->style]((double)(step - start) / (double)tail);
}
