/* converted.h - the stage-2 model of a config, freshly converted and not trained, with its data. */
#ifndef BENCH_LIB_CONVERTED_H
#define BENCH_LIB_CONVERTED_H

#include "data/dataset.h"
#include "optim/adamw.h"
#include "train/run.h"

struct converted {
    struct run r; /* .lock = -1 before it is opened */
    struct model m;
    struct adamw opt; /* for the parameters that stage 2 trains */
    struct sample *samples;
    struct batch_buffer batch; /* of the samples drawn last */
};

/* Makes a ranking if the run's directory has none. sets: KEY=VALUE, as for --set. */
bool converted_open(struct converted *c, const char *config, const char *const *sets, size_t n_sets,
                    struct err *e);
void converted_close(struct converted *c); /* fine on a zeroed struct with r.lock -1 */

/* Fills the batch with stage2.batch_size samples of the training data, by number;
 * NULL: the first ones. */
bool converted_batch(struct converted *c, const int64_t *entry, struct err *e);

/* Loss, gradients and AdamW for the batch, at learning rate 0: every repeat does the same work. */
bool converted_step(struct converted *c, struct err *e);

/* Sets up AdamW for the trained parameters. */
bool adamw_of_model(struct adamw *o, struct model *m, struct err *e);

#endif
