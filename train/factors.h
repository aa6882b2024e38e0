/* factors.h - MD-SVD factors, made once for all points of a sweep that keep the same pairs rotated,
 * for the largest latent: the components of a smaller latent are the first ones of a larger one,
 * and each point uses as many as it has. */
#ifndef TRAIN_FACTORS_H
#define TRAIN_FACTORS_H

#include "convert/mdsvd.h"
#include "convert/mdsvd_plan.h"
#include "train/run.h"

struct made_factors {
    int64_t layers;
    int sets; /* MODALITIES, or 1 if they share their factors */
    enum kv_method method;
    struct mdsvd_plan plan; /* of the point with the largest latent */
    struct layer_factors {
        struct mdsvd_out out[MODALITIES][2]; /* by part of the plan */
    } * layer;
};

/* The latent dims of a point for a model with m's settings, and the parts to factor; fails if the
 * point is impossible. */
bool point_plan(const struct run *r, const struct model *m, const struct point *p, int64_t *latent,
                struct mdsvd_plan *plan, struct err *e);

/* The point with the largest latent of those that share p's rotated pairs; *n, unless NULL: their
 * number. */
struct point factors_widest(const struct run *r, const struct point *p, int64_t *n);

/* Bytes needed by the points that share p's rotated pairs, in addition to the partial model m, with
 * graphs of `tokens` tokens. made: the peak while factors are made, without the graphs; copied:
 * while they are copied into a point's model. */
struct factors_size {
    double made, copied;
};
bool factors_size(struct factors_size *s, const struct run *r, const struct model *m,
                  const struct point *p, int64_t tokens, struct err *e);

/* Makes the factors for a point and all with smaller latents that share its rotated pairs, from
 * their partial model m; runs the calibration on so many samples. */
bool factors_make(struct made_factors *f, struct run *r, struct model *m,
                  const struct point *widest, int64_t samples, struct err *e);
void factors_free(struct made_factors *f); /* fine on a zeroed struct */

/* Turns the partial model m into the point's MLA model. With `last`, for the last point that needs
 * f, each layer's factors are freed as soon as the model has its copy. */
bool factors_apply(struct made_factors *f, const struct run *r, const struct point *p, bool last,
                   struct model *m, struct err *e);

#endif
