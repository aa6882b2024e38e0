/* choose.h - how the next token of an answer is chosen from its logits: the largest, or drawn. */
#ifndef TALK_CHOOSE_H
#define TALK_CHOOSE_H

#include "autograd/tensor.h"
#include "base/err.h"
#include "base/rng.h"

#include <stdint.h>

/* Applied in this order, as transformers does: the penalty, the temperature, top_k, top_p. */
struct sampling {
    double penalty; /* of tokens that are there already, prompt included: logits above 0 are divided
                     * by it, others multiplied; 1: none */
    double temperature; /* by which logits are divided; 0: the largest is taken */
    int64_t top_k;      /* only the k largest; 0: all */
    double top_p;       /* only the likeliest, until together they have at least this probability */
};

struct candidate {
    double x; /* logit, later probability */
    int32_t id;
};

struct choose {
    struct sampling how;
    struct rng rng;
    uint8_t *seen;          /* [vocab] whether the conversation has the token */
    struct candidate *sort; /* [vocab] */
    int64_t vocab;
};
bool choose_open(struct choose *c, const struct sampling *how, uint64_t seed, int64_t vocab,
                 struct err *e);
void choose_close(struct choose *c); /* fine on a zeroed struct */

/* The tokens before an answer, n of them; and each token of the answer. */
void choose_begin(struct choose *c, const int32_t *ids, int64_t n);
void choose_saw(struct choose *c, int32_t id);

/* The next token from its logits [vocab], which are written to. */
int32_t choose_next(struct choose *c, real *logits);

#endif
