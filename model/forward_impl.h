/* forward_impl.h - pieces of a decoder layer that forward.c (whole samples) and extend.c (with a
 * cache) share. */
#ifndef MODEL_FORWARD_IMPL_H
#define MODEL_FORWARD_IMPL_H

#include "model/forward.h"

/* cos and sin for every row. length[s] are the tokens of sample s with those that a cache holds:
 * angles that grow with it (dynamic) are each sample's own, whatever else is in the batch. */
struct tensor *build_table(struct model *m, struct tape *t, const struct batch *b,
                           const int64_t *length);
/* Embedded text with the projected features in the places of the pictures: [T, d]. */
struct tensor *build_embeddings(struct model *m, struct tape *t, const struct forward *f);

/* Layer l's queries: q[0] rotated (FULL: all of it), q[1] not rotated or NULL. */
void build_query(struct model *m, struct tape *t, int64_t l, struct tensor *x, struct tensor *table,
                 struct tensor *q[2]);
/* Its rotated keys. */
struct tensor *build_key(struct model *m, struct tape *t, int64_t l, struct tensor *x,
                         struct tensor *table);
/* What keys [0] and values [1] are made from: the latents, the same twice in `joint`, or x. */
void build_latents(struct model *m, struct tape *t, const struct batch *b, struct attn *a,
                   struct tensor *x, struct tensor *latent[2]);
/* Unrotated keys or values from it. */
struct tensor *build_up(struct model *m, struct tape *t, const struct batch *b, struct attn *a,
                        struct tensor *latent, bool value);
struct tensor *build_mlp(struct model *m, struct tape *t, struct layer *w, struct tensor *x);

/* Counts the batch's tokens as held by the sequences seq[s]; the rows themselves are written when
 * the graph runs. */
bool kv_cache_add(struct kv_cache *c, const struct batch *b, const int64_t *seq, struct err *e);

#endif
