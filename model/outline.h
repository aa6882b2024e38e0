/* outline.h - a model of shapes only: every parameter is declared and none has values, so that the
 * graphs of a 7B model are planned in a few megabytes. */
#ifndef MODEL_OUTLINE_H
#define MODEL_OUTLINE_H

#include "model/model.h"

/* The state of a model for which a training or a cache is planned. */
struct model_state {
    enum attn_state state;
    int64_t rope_dim, latent;
    enum kv_method method;
    bool decoupled, cross;
    int64_t *latents;   /* [L], not its own, or NULL */
    int64_t *rope_dims; /* the same, of the rotated dims */
};

/* The model that m becomes in that state, with the parameters of `kinds` trained; of a parameter
 * that m has, or whose rows it has, the dtype is m's. It borrows m's settings: model_close it
 * before m. On failure *shape is zeroed. */
bool model_outline(struct model *shape, const struct model *m, const struct model_state *s,
                   unsigned kinds, struct err *e);

#endif
