/* refit.h - the change of o_proj that brings the attention of a converted layer closest to the
 * original's (docs/method.md, section 3). For tokens t with weights w, with a the converted heads'
 * output [n], and e [d] what the residual stream lacks behind them,
 *
 *     X = argmin sum_t w |e - X a|^2 + lambda |X|^2 = S_ea (S_aa + lambda I)^-1,
 *
 * S_aa = sum w a a^T, S_ea = sum w e a^T, lambda = ridge * the mean of S_aa's diagonal. */
#ifndef CONVERT_REFIT_H
#define CONVERT_REFIT_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct moments;

/* A token's w, from what the residual stream should be behind the layer's attention and what it is,
 * [d] each: 1 / max(|want|^2, |have|^2), 0 if both are 0. So w |want - have|^2 is its error
 * relative to its size, but at most 4, whatever it is: by |want|^2 alone, a token that the
 * converted model makes hundreds of times as large as the original does would
 * outweigh all others. */
double refit_weight(const float *want, const float *have, int64_t d);

struct refit_out {
    double before, after; /* sum w |e|^2, and of e - X a; `before` is the caller's */
};

/* m: of rows sqrt(w) [a, e] (moments_init_cross(m, n, d)), which this destroys. Adds X to o [d,n].
 * The number of threads does not matter. Fails, with o as it was, if memory runs out. */
bool refit_solve(struct moments *m, double ridge, float *o, struct refit_out *out, struct err *e);

/* Bytes that it needs for a [n] and e [d]. */
size_t refit_scratch(int64_t n, int64_t d);

#endif
