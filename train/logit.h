/* logit.h - a run's choice of pairs by rank.strategy "logit": measured once from the base model,
 * into RUN/rank/rank.h5 (model/files/choicefile.h), for all points. With rank.budget "even" each
 * head keeps as many pairs as rank.rope_dim says; else heads, or layers too, share the pairs of one
 * key for all heads (model_to_shared, convert/transform.h), whose width
 * rank.rope_dim is, on average. */
#ifndef TRAIN_LOGIT_H
#define TRAIN_LOGIT_H

#include "model/files/rankfile.h"
#include "train/run.h"

/* Measures it from m, the base model, unless that is done. */
bool logit_measured(struct run *r, struct model *m, struct err *e);

/* kept [L, G, rope_dim/2], as rank_select. */
bool logit_pairs(const struct run *r, const struct model *m, int64_t rope_dim, int32_t *kept,
                 struct err *e);

/* Takes the base model m to its partial form with one key of rope_dim dims, on average. */
bool logit_apply(const struct run *r, struct model *m, int64_t rope_dim, struct err *e);

#endif
