/* adamw.h - AdamW (Loshchilov and Hutter, arXiv 1711.05101) as computed by torch.optim.AdamW, and
 * clipping by the global norm. */
#ifndef OPTIM_ADAMW_H
#define OPTIM_ADAMW_H

#include "autograd/tensor.h"
#include "base/err.h"
#include "optim/moment.h"

/* The part of a parameter that an optimiser steps: the n values from `first` on, which is a
 * multiple of MOMENT_BLOCK. Another process steps the rest. */
struct adamw_part {
    int64_t first, n;
};

struct adamw_slot {
    struct tensor *param; /* fp32, with its gradient; borrowed */
    struct adamw_part part;
    struct moment m, v; /* [part.n] */
};

struct adamw {
    double beta1, beta2, eps, weight_decay;
    uint64_t seed; /* for stochastic rounding; adamw_init sets 0 */
    int64_t step;  /* steps done so far */
    struct adamw_slot *slots;
    int64_t n;
    struct moment_code *codes; /* for the second and the first moments */
};

/* Zeroed state for n parameters, of type `state` where moment_type_of agrees; parts[n] says
 * which part of each, NULL: all. On failure *o is zeroed. */
bool adamw_init(struct adamw *o, struct tensor *const params[], const struct adamw_part *parts,
                int64_t n, enum moment_type state, struct err *e);
void adamw_free(struct adamw *o); /* fine on a zeroed struct */

/* The sum of the squares of all gradients in the optimiser's parts, in double in a fixed order: the
 * square of their norm. */
double adamw_grad_squares(const struct adamw *o);

/* Bytes of the moments. */
double adamw_state_bytes(const struct adamw *o);

/* One step of the parts with the gradients times grad_scale (the clipping factor), which are then
 * zeroed:
 *     m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2,
 *     p -= lr wd p + lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps),
 * where p uses m and v before they are rounded for storage. The rounding depends only on seed,
 * step, index of the parameter and element. */
void adamw_step(struct adamw *o, double lr, double grad_scale);

#endif
