/* factors.h - the factors of MD-SVD: made once for all points of a sweep that keep the same rotated
 * pairs, as wide as the widest of them; the components of a smaller latent are the first ones of a
 * larger one, and each point takes as many as it has. */
#ifndef TRAIN_FACTORS_H
#define TRAIN_FACTORS_H

#include "convert/mdsvd.h"
#include "convert/mdsvd_plan.h"
#include "train/run.h"

struct made_factors {
    int64_t layers;
    int sets; /* MODALITIES, or 1 where they share their factors */
    enum kv_method method;
    struct mdsvd_plan plan; /* of the widest point */
    struct layer_factors {
        struct mdsvd_out out[MODALITIES][2]; /* by part of the plan */
    } * layer;
};

/* How many latent dims the point has in a model of m's settings, and the parts to factor; fails
 * where it cannot be made. */
bool point_plan(const struct run *r, const struct model *m, const struct point *p, int64_t *latent,
                struct mdsvd_plan *plan, struct err *e);

/* Bytes that the points like p need beside the partial model m, with graphs of `tokens` tokens: at
 * most while factors are made, graphs not counted, and while they are copied into a
 * point's model. */
struct factors_size {
    double made, copied;
};
bool factors_size(struct factors_size *s, const struct run *r, const struct model *m,
                  const struct point *p, int64_t tokens, struct err *e);

/* For the points like p, from their partial model m (calibrates). */
bool factors_make(struct made_factors *f, struct run *r, struct model *m, const struct point *p,
                  struct err *e);
void factors_free(struct made_factors *f); /* fine on a zeroed struct */

/* Makes the partial model m the point's MLA model. For the last point that needs f, each layer's
 * factors are freed as soon as the model has its copy. */
bool factors_apply(struct made_factors *f, const struct run *r, const struct point *p, bool last,
                   struct model *m, struct err *e);

#endif
