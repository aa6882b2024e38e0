/* blocks.h - low-rank factors of W [n,d] whose errors count by what attention makes of them
 * (docs/method.md, section 3). The rows of y = W x are cut into blocks b, the unrotated keys and
 * the values of each kv head; an error of block b counts by a matrix C_b, at inputs with second
 * moments S_b. With c = D u the latent, u being y or x, whichever is smaller, and y_b = M_b u, the
 * least error for a given D is
 *
 *     f(D) = sum_b tr C_b (M_b S_b M_b^T - X_b G_b^-1 X_b^T),
 *            X_b = M_b S_b D^T [rows, r],  G_b = D S_b D^T [r, r],  up_b = X_b G_b^-1.
 *
 * D starts as Z R, R^T R = M^T C M, Z the top r eigenvectors of R S R^T, and L-BFGS on Z goes on
 * from there. Other than mdsvd.h's, the components of a smaller latent are not the first ones of a
 * larger one: S_b differs from S, so that up depends on all of D. */
#ifndef CONVERT_BLOCKS_H
#define CONVERT_BLOCKS_H

#include "base/err.h"
#include "convert/mdsvd.h"

/* S's are [ld, ld] or a part of that: symmetric, only the lower triangle
 * (column <= row) is read. */
struct block {
    int64_t row0, rows; /* of w; blocks follow each other, and cover all rows */
    const double *s;    /* S_b. With S it must be positive definite where S is */
    const double *c;    /* C_b [rows, rows], symmetric, positive semidefinite */
};

struct blocks_in {
    const float *w; /* [n,d] */
    int64_t n, d;
    bool outputs; /* u is y: S's are [n,n], else [d,d] */
    int64_t ld;
    const struct block *block; /* [blocks] */
    int64_t blocks;
    const double *s; /* S */
    double scale;    /* of S where the factors are balanced, as mdsvd_in.scale */
};

/* A problem, with the start for latents of up to `widest`. Where W is all zeros nothing has energy,
 * whatever S has: `live` is 0, the arrays are NULL, and the factors zero. `in` must outlive it, but
 * for `in` itself. Problems may be opened on several threads, if OpenBLAS's are turned off. */
struct blocks {
    struct blocks_in in;
    int64_t m, live;  /* of u; components of the start with energy */
    double *c, *half; /* C_b and its root, both floored: [rows, rows] of each block */
    double *root;     /* unless outputs: the lower triangle of R^T [m, m]; else R is the C_b^1/2 */
    double *ms, *trace; /* M_b S_b [n, m]; [blocks]: tr C_b M_b S_b M_b^T */
    double *start;      /* Z [live, m] */
};
bool blocks_open(struct blocks *b, const struct blocks_in *in, int64_t widest, struct err *e);
void blocks_close(struct blocks *b); /* fine on a zeroed struct */

/* Factors of latent width r <= widest, after so many steps of L-BFGS, balanced as mdsvd_factor's:
 * up^T up = E c c^T under scale * S, a diagonal. energy, kept and error are in terms of f; of the
 * components, each has its own energy under scale * S. On failure *out is zeroed. Uses all threads;
 * their number does not matter. */
bool blocks_factor(struct mdsvd_out *out, const struct blocks *b, int64_t r, int64_t steps,
                   struct err *e);

/* f at Z [r, m] and its gradient there; INFINITY: G_b is singular. */
struct blocks_eval;
struct blocks_eval *blocks_eval_new(const struct blocks *b, int64_t r, struct err *e);
void blocks_eval_free(struct blocks_eval *v); /* fine on NULL */
double blocks_value(void *blocks_eval, const double *z, double *gradient);

/* Bytes that a problem needs besides its input, and one width of it besides. */
size_t blocks_bytes(int64_t n, int64_t d, int64_t blocks, bool outputs);
size_t blocks_scratch(int64_t n, int64_t d, int64_t r, int64_t rows, bool outputs, int64_t steps);

#endif
