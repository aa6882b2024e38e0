/* factors_parts.h - what factors.c and factors_layer.c share. */
#ifndef TRAIN_FACTORS_PARTS_H
#define TRAIN_FACTORS_PARTS_H

#include "train/factors.h"

static inline struct layer_factors *factors_of_layer(const struct made_factors *f, int64_t l,
                                                     int64_t width)
{
    return &f->layer[l * f->widths + width];
}

/* Latent of a part of the plan in layer l. */
int64_t factors_rank(const struct made_factors *f, int64_t width, int part, int64_t l);

/* Where the point's factors are. */
int64_t factors_width(const struct made_factors *f, const struct point *p);

/* The largest latent of a part of the plan. */
int64_t factors_widest_part(const struct made_factors *f, int part);

/* Fills f->layer, by calibration and factorisation layer by layer. m, base: as in factors_make. */
bool factors_make_layers(struct made_factors *f, struct run *r, struct model *m, struct model *base,
                         int64_t samples, struct err *e);

#endif
