/* refit.h - refits o_proj of a converted model, layer by layer, so that its residual stream stays
 * close to the original's (docs/method.md, section 3): an error that earlier layers have left is
 * mended too, as far as attention can. Costs nothing at inference. */
#ifndef TRAIN_REFIT_H
#define TRAIN_REFIT_H

#include "train/run.h"

struct refit_how {
    const char *what; /* is shown */
    int64_t samples;  /* calibration samples */
    bool fits;        /* else it is only measured what is lost */
};

/* The mean cross entropy of the calibration samples' labels. */
struct refit_loss {
    double original, converted;
};

/* Refits m, whose original is `base`; all processes have m, and end with the same. loss may be
 * NULL. Stops at a signal. */
bool refit_model(struct run *r, struct model *base, struct model *m, const struct refit_how *how,
                 struct refit_loss *loss, struct err *e);

/* Bytes that it needs in addition to the two models and the graphs, which are of `tokens` tokens;
 * the new weights are among them. */
double refit_size(const struct model *m, int64_t tokens);

#endif
