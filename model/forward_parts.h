/* forward_parts.h - parts of a decoder layer shared by forward.c (whole samples) and extend.c
 * (with a cache). T tokens of the batch; the other letters as in forward.c. x is a layer's
 * normalised input [T, d]. */
#ifndef MODEL_FORWARD_PARTS_H
#define MODEL_FORWARD_PARTS_H

#include "model/forward.h"

/* cos and sin for each row [T, dh]. length[s] is the number of tokens of sample s including
 * those in the cache: angles that depend on it (dynamic) are each sample's own, whatever
 * else is in the batch. */
struct tensor *build_table(struct model *m, struct tape *t, const struct batch *b,
                           const int64_t *length);
/* The embedded text, with projected image features in the images' places: [T, d]. */
struct tensor *build_embeddings(struct model *m, struct tape *t, const struct forward *f);

/* Layer l's queries: q[0] rotated [T, H*dr] (FULL: [T, H*dh]), q[1] not rotated
 * [T, H*dc] or NULL. */
void build_query(struct model *m, struct tape *t, int64_t l, struct tensor *x, struct tensor *table,
                 struct tensor *q[2]);
/* Its rotated keys [T, K*dr]. */
struct tensor *build_key(struct model *m, struct tape *t, int64_t l, struct tensor *x,
                         struct tensor *table);
/* What keys [0] and values [1] are made from: latents [T, r] (in `joint` the same
 * tensor twice) or x. */
void build_latents(struct model *m, struct tape *t, const struct batch *b, struct attn *a,
                   struct tensor *x, struct tensor *latent[2]);
/* Unrotated keys [T, G*dc], or values [T, G*dh], from a latent or x. */
struct tensor *build_up(struct model *m, struct tape *t, const struct batch *b, struct attn *a,
                        struct tensor *latent, bool value);
/* held.c: x, layer l's rows of one kind, as f->held holds them; x itself where that is as it is.
 * Else x is overwritten, and must have no other reader. */
struct tensor *build_held(struct model *m, struct tape *t, const struct forward *f, int64_t l,
                          enum cache_row row, struct tensor *x);
struct tensor *build_mlp(struct model *m, struct tape *t, struct layer *w, struct tensor *x);

/* Where layer l's rows of one kind begin, in bytes. */
int64_t kv_cache_at(const struct kv_cache *c, int64_t l, int row);

/* Counts the batch's tokens as held by the sequences seq[s]; their rows are written when the graph
 * runs. There must be room for them. */
bool kv_cache_add(struct kv_cache *c, const struct batch *b, const int64_t *seq, struct err *e);

#endif
