/* basis.h - the cross-head basis of a layer's keys (convert/transform.h says what it is), and the
 * order in which its components lose RoPE, measured on calibration samples
 * (docs/method.md, section 1):
 *
 *     basis_init(&b, &n, e);
 *     for each sample: basis_see(&b, &sample);
 *     basis_solve(&b, e);
 *     for each sample: basis_lose(&b, &sample, max_queries, e);
 *     basis_order(&b, e);
 *
 * Per pair i, M = E[z z^H] of the keys z of all heads, and D = diag(scale), scale_g^2 the mean of
 * |q_h|^2 summed over the query heads of g: V holds the eigenvectors of D M D, so that a component
 * is as large as it is in the scores. Component c of query h and key n has the score
 *     a_c = Re(conj(q'_hc) z'_c) / sqrt(dh) without rotation, and s_c with it.
 * With Q the covariance of a - s under the attention p_h(n), averaged over queries per modality and
 * summed over heads, the scores of a set N without rotation are off by 1^T Q_NN 1: components join
 * N one by one, each as that grows least.
 *
 * Letters: G kv heads, H query heads, P = dh/2 pairs, C = G P components. */
#ifndef CONVERT_BASIS_H
#define CONVERT_BASIS_H

#include "convert/moments.h"
#include "convert/rank.h"

/* Of more components than this only the largest are weighed; the others lose RoPE first. */
enum { BASIS_WEIGHED = 512 };

struct basis {
    struct rank_dims n;
    double *seen;     /* [P, G, G, 2] sum of z z^H, [P, G] of |q|^2, tokens */
    double *re, *im;  /* [P, G, G]: V's columns, by decreasing eigenvalue */
    double *scale;    /* [G, P] */
    double *energy;   /* [C]: eigenvalues, of component i G + c */
    int32_t *weighed; /* [W]: those components, ascending */
    int64_t W;
    struct moments loss; /* Q by the query's modality, times its queries */
    double queries[2];
    int32_t *order; /* [C]: components, the one that loses RoPE last first */
};

bool basis_init(struct basis *b, const struct rank_dims *n, struct err *e);
void basis_free(struct basis *b); /* fine on a zeroed struct */

void basis_see(struct basis *b, const struct rank_sample *x);
/* Several processes add up `seen` [basis_seen] before this, and loss and
 * queries before the order. */
int64_t basis_seen(const struct rank_dims *n);
bool basis_solve(struct basis *b, struct err *e);
bool basis_lose(struct basis *b, const struct rank_sample *x, int64_t max_queries, struct err *e);
bool basis_order(struct basis *b, struct err *e);

/* Bytes that a layer's takes, with samples of up to T tokens. */
double basis_bytes(const struct rank_dims *n, int64_t T);

/* Pair and v_c [G] of a component. */
int32_t basis_pair(const struct basis *b, int64_t component);
const double *basis_re(const struct basis *b, int64_t component);
const double *basis_im(const struct basis *b, int64_t component);

#endif
