/* flop.h - the work of a graph, in multiplications and additions of its matrix products: what else
 * it does takes little of the time of models that are large. */
#ifndef AUTOGRAD_FLOP_H
#define AUTOGRAD_FLOP_H

#include "autograd/tape.h"

/* Of the backward pass, each gradient that is wanted is one more product, and the head's logits and
 * attention's scores are computed again; layers that are recomputed (forward.h) are not counted. */
struct flop {
    double forward, backward;
};
struct flop tape_flop(const struct tape *t);

static inline double flop_all(struct flop f)
{
    return f.forward + f.backward;
}

#endif
