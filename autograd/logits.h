/* logits.h - shared by the op files of the language model head only: its logits h w^T, which would
 * be the model's largest tensor (1,000 rows of 152,000 tokens: 600 MB), tile by tile: some rows
 * times a run of the vocabulary. A tile has as many rows as possible, so that each weight is read
 * (and converted) once per pass; what is left of a tile's size sets the run of the vocabulary.
 * Where one tile of a moderate size holds all logits, the forward keeps it for the backward, which
 * otherwise computes each again.
 *
 * A node of such an op has h [rows, d] and w [V, d] as its first two inputs. */
#ifndef AUTOGRAD_LOGITS_H
#define AUTOGRAD_LOGITS_H

#include "autograd/tape.h"

#include <math.h>

enum { LOGITS_H, LOGITS_W };

/* How h and w are cut: a tile's rows and tokens at most, and what the node's scratch holds. */
struct logit_tiles {
    int64_t rows, vocab;
    bool kept;    /* the only tile lies in the node's aux */
    size_t at;    /* reals before the tile: of scratch, or of aux */
    size_t bytes; /* of scratch: the op's own may begin here */
};
struct logit_tiles logit_tiles(const struct tensor *h, const struct tensor *w);
/* The tape's last node gets an aux of `cols` own values a row of h, and may
 * keep its logits there. */
void logits_aux(struct tape *t, const struct node *n, int64_t cols, struct logit_tiles *all);

/* Rows [r0, r0 + rows) of h against the tokens [v0, v0 + vocab). */
struct logit_tile {
    int64_t r0, rows, v0, vocab;
    real *logits; /* [rows, vocab], until the next tile */
};
struct logit_tile logit_tile(struct node *n, const struct logit_tiles *all, int64_t r0, int64_t v0);

/* Computes each tile again if it is not kept, lets `turn` make the gradients of its logits in their
 * place, and adds dh += dlogits w,  dw += dlogits^T h. */
typedef void logit_turn(const struct node *n, const struct logit_tile *t);
void logits_backward(struct node *n, const struct logit_tiles *all, logit_turn *turn);

/* The sum of exp(per * (logit - top)) over what was added so far. */
struct logit_sum {
    double sum;
    real top;
};
#define LOGIT_SUM_NONE ((struct logit_sum){0, -INFINITY})
/* Adds a run of a row's logits, of which at least one must not be -inf. */
void logit_sum_add(struct logit_sum *s, const real *logit, int64_t n, real per);
/* The log of the sum of exp(per * logit); -inf of none. */
double logit_sum_log(const struct logit_sum *s, double per);

/* The log of the sum of exp(per * logit) over k logits and exp(rest). */
double bucket_log(const real *logit, int64_t k, double rest, double per);

#endif
