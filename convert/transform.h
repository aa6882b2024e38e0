/* transform.h - splits a model's attention: FULL -> PARTIAL -> MLA (model/model.h). */
#ifndef CONVERT_TRANSFORM_H
#define CONVERT_TRANSFORM_H

#include "model/model.h"

/* FULL -> PARTIAL: keeps `pairs` [L, G, rope_dim/2] rotated (ascending within each head). The model
 * is unusable after a failure. */
bool model_to_partial(struct model *m, const int32_t *pairs, int64_t rope_dim, struct err *e);

/* PARTIAL -> MLA with factors [L][sets]: down [latent, d] (two for split), up_k [G*dc, latent],
 * up_v [G*dh, latent]; parts that are not compressed are taken from the model. Rows of up_k and
 * up_v are `ld` apart, so that wider factors can be given, of which the first components are used.
 * The model is unusable after a failure. */
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
};
bool model_to_mla(struct model *m, const struct to_mla *to, struct err *e);

#endif
