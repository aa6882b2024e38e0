/* transform.h - splits a model's attention: FULL -> PARTIAL -> MLA (model/model.h). */
#ifndef CONVERT_TRANSFORM_H
#define CONVERT_TRANSFORM_H

#include "model/model.h"

/* FULL -> PARTIAL: keeps `pairs` [L, G, rope_dim/2] rotated (ascending within each head). The model
 * is unusable after a failure. */
bool model_to_partial(struct model *m, const int32_t *pairs, int64_t rope_dim, struct err *e);

/* FULL -> PARTIAL in a cross-head basis. Written as complex numbers, z_g = k_i + i k_{i+dh/2} are
 * the keys' pairs i of all heads, q_h a query's, D = diag(scale), V unitary [G, G]
 * with the columns v_c:
 *     z'_c = v_c^H D z,     q'_hc = v_c^H e_g q_h / scale_g     (g: the kv head of h)
 * so that the sum over c of conj(q'_hc) z'_c is conj(q_h) z_g, and turning all by one angle
 * commutes with it. The n components given stay rotated, as one key [2n] for all heads; the rest of
 * each head's key, z_g - sum over these c of V_gc z'_c / scale_g, is not, beside
 * the query q_h itself. */
struct cross_basis {
    int64_t n;
    const int32_t *pair;   /* [L, n]: i of each component, ascending */
    const double *re, *im; /* [L, n, G]: v_c; those of one i are orthonormal */
    const double *scale;   /* [L, G, dh/2], above 0 */
};
bool model_to_cross(struct model *m, const struct cross_basis *b, struct err *e);

/* FULL -> PARTIAL where heads keep different numbers of pairs, which also differ by layer: the
 * pairs kept of all heads of layer l, n[l] of them, are one key for all heads, in the layout of the
 * cross-head basis. A query head has its own kv head's pairs in it, and zeros for the others; the
 * unrotated keys and queries are whole heads, with zeros in the keys for what is rotated. The next
 * n[l] entries of pair and head are layer l's, by pair and then by kv head. Nothing is
 * approximated, and no value changes. */
struct shared_key {
    const int64_t *n; /* [L], from 1 to the pairs of all heads */
    const int32_t *pair, *head;
};
bool model_to_shared(struct model *m, const struct shared_key *k, struct err *e);

/* PARTIAL -> MLA with factors [L][sets], of latents of width r, `latent` or that of the layer in
 * latents [L] unless that is NULL: down [r, d] (two for split), up_k [G*dc, r], up_v [G*dh, r];
 * parts that are not compressed are taken from the model. Rows of up_k and up_v are `ld` apart, so
 * that wider factors can be given, of which the first components are used. The model is
 * unusable after a failure. */
struct factors {
    const float *down[2], *up_k, *up_v;
    int64_t ld;
};
struct to_mla {
    enum kv_method method;
    bool decoupled;
    int64_t latent;
    const struct factors (*factors)[MODALITIES];
    /* NULL, or called once a layer's factors have been copied and may be freed. */
    void (*used)(void *arg, int64_t layer);
    void *arg;
    const int64_t *latents;
};
bool model_to_mla(struct model *m, const struct to_mla *to, struct err *e);

#endif
