/* ranks.h - how wide each layer's latent is (svd.ranks), at the width that all have on average:
 * each next component goes to the layer where leaving it out costs most, component by component
 * from three quarters of the width, and to no layer more than one and a half of it. With c_li layer
 * l's component i as a share of its energy, summed over modalities and parts, it costs
 *
 *     energy        c_li
 *     sensitivity   c_li (loss with l an eighth narrower - loss) / (c_li summed over that eighth)
 *
 * the loss being the cross entropy of calibration labels with all other layers at the mean width.
 * The eighth and the bounds keep to where that is nearly so: by a half, and from a half to twice
 * the width, layers that break down when they lose that much took from all others. */
#ifndef TRAIN_RANKS_H
#define TRAIN_RANKS_H

#include "train/factors.h"

/* Those of point p into f->latents, for factors_apply; NULL if svd.ranks is "even", or there is
 * nothing to divide. Of all processes together. Stops at a signal. */
bool ranks_choose(struct run *r, struct made_factors *f, const struct point *p, struct err *e);

/* Of all points of `what` into its latents, which ranks_free_all frees: where factors are made for
 * each width (svd.statistics "blocks"), f was made for the means, and is to be made again for
 * these. There c_li is a share of what all components have, of one and a half times the width. */
bool ranks_choose_all(struct run *r, struct made_factors *f, struct factors_for *what,
                      struct err *e);
void ranks_free_all(struct factors_for *what);

/* The same, from each layer's weight [L]: what its energy is worth. In new memory, *latents [L]. */
bool ranks_divide(const struct made_factors *f, int64_t mean, const double *weight,
                  int64_t **latents, struct err *e);

#endif
