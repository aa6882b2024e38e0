/* mdsvd.h - low-rank factors of the compressed key/value projection (docs/method.md, section 3):
 * for W[n,d] and the second moments S[d,d] of its inputs, W_up[n,r] and W_down[r,d] that minimise
 * E|W x - W_up W_down x|^2. One problem per layer, modality and part of a plan. */
#ifndef CONVERT_MDSVD_H
#define CONVERT_MDSVD_H

#include "base/err.h"
#include "model/config/choices.h"

#include <stddef.h>
#include <stdint.h>

struct mdsvd_in {
    const float *w; /* [n,d] */
    int64_t n, d;
    const double *s; /* [d,d], symmetric; only the lower triangle (column <= row) is read */
    const double *m; /* or, if s is NULL: [n,n], W S W^T with row length ldm, lower triangle */
    int64_t ldm;
    double scale; /* of s or m; the published code's is moments_scale(). It shifts weight between
                   * the factors; their product does not change. */
    int64_t r;    /* latent width; components beyond those with energy are zero */
    enum mdsvd_method method; /* MDSVD_WEIGHT ignores s, m and scale; not MDSVD_RANDOM */
};

struct mdsvd_out {
    float *up;         /* [n,r] */
    float *down;       /* [r,d] */
    int64_t r;         /* as requested */
    double *component; /* [live], decreasing: each component's part of `kept` */
    /* Number of components with energy: columns live..r-1 of up and those rows of down are zero and
     * would never train. If fewer than r, warn: too little calibration data. */
    int64_t live;
    double energy; /* E|W x|^2 in units of scale * s (weight: |W|^2) */
    double kept;   /* the part of it that the factors keep, <= energy */
    double error;  /* the part that they lose: E|W x - W_up W_down x|^2, >= 0 */
};

/* `count` problems, up to `jobs` at a time on as many threads, each with its own scratch
 * (mdsvd_scratch): layers, modalities and parts are independent. Component signs are fixed (the
 * largest element of each column of P is positive), and the number of threads does not matter: the
 * same input gives the same factors, bit for bit. Fails on values that are not finite: *e is the
 * first problem's error, and all of out is zeroed; otherwise the caller frees each with mdsvd_free.
 * Must not be called from several threads: it sets OpenBLAS's thread count while it runs. */
bool mdsvd_factor(struct mdsvd_out *out, const struct mdsvd_in *in, int count, int jobs,
                  struct err *e);

/* Bytes that one problem needs in addition to its input and the factors; `outputs`: given by m. */
size_t mdsvd_scratch(int64_t n, int64_t d, int64_t r, enum mdsvd_method method, bool outputs);

void mdsvd_free(struct mdsvd_out *out); /* fine on a zeroed struct */

/* Factors that know nothing of W: up [n,r] and down [r,d] normal, with the standard deviation std,
 * by the seed. All r components count as live, and none has energy. */
struct mdsvd_random {
    int64_t n, d, r;
    double std;
    uint64_t seed;
};
bool mdsvd_random(struct mdsvd_out *out, const struct mdsvd_random *in, struct err *e);

/* *error = scale * E|W x - up down x|^2 under in->s (|W - up down|^2 if s is NULL), measured, for
 * any factors: for example what the weight method loses on the activations. */
bool mdsvd_error(double *error, const struct mdsvd_in *in, const float *up, const float *down,
                 struct err *e);

#endif
