/* cache_rotation.h - the transform of latents before they are packed, of a kind of cache with
 * "rotate". A few strong channels of a latent would decide on the scale of their block, and the
 * weak ones be lost. So channel i is scaled by t_i, how much of it the model uses: the norm of
 * column i of up_k and up_v, of those that read the latent; and blocks of up to 64 channels, dealt
 * out in turn, are mixed by the Walsh-Hadamard transform (op_hadamard). Queries get the inverse
 * scales and the same transform, and sums of latents the way back, so that attention is the
 * same but for rounding. */
#ifndef MODEL_CACHE_ROTATION_H
#define MODEL_CACHE_ROTATION_H

#include "model/cache_kind.h"

/* Of one latent of a layer. */
struct latent_turn {
    int64_t block;                           /* 0: it is not rotated */
    real *by[MODALITIES], *back[MODALITIES]; /* [r]: t, and 1 / t */
};

/* How a model's caches are held: made once, for any number of them, with the
 * model as it is then. */
struct cache_how {
    struct cache_kind kind;
    int64_t layers;
    struct latent_turn (*turn)[2]; /* [layers]: of the key's latent, of the value's; NULL: none */
    real *memory;
};

/* Fails if the model's caches cannot be of that kind. */
bool cache_how_new(struct cache_how *h, const struct model *m, const struct cache_kind *kind,
                   struct err *e);
/* After the model was trained: the rotation is measured again, in the memory that it has. */
bool cache_how_renew(struct cache_how *h, const struct model *m, struct err *e);
void cache_how_free(struct cache_how *h); /* fine on a zeroed struct */

/* Columns of a block: the largest power of two up to 64 that divides r; 0 where that is below 8. */
int64_t latent_block(int64_t r);

/* Whether anything is rotated in m, which may be an outline. */
bool cache_rotates(const struct model *m);

#endif
