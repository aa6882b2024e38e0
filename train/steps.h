/* steps.h - the steps of the pipeline. Each leaves its output under the run's directory and is
 * skipped where that is complete:
 *     baseline/model                the model to convert, where it is made or trained first
 *     rank/rank.h5                  the importance of every RoPE pair
 *     ROPE/stage1/model             partial RoPE, trained            (ROPE: "rope8")
 *     POINT/svd/model               MLA, straight after MD-SVD       (POINT: "rope8-rank4")
 *     POINT/stage2/model            MLA, trained
 *     .../scores.json, answers.jsonl beside each model
 * Models of stage1 and svd hold the changed tensors only. */
#ifndef TRAIN_STEPS_H
#define TRAIN_STEPS_H

#include "train/run.h"

/* Runs the config's steps for all points, or for run.only_point alone. */
bool run_steps(struct run *r, struct err *e);

/* The original model: what the baseline step made, else model.path. */
bool open_base_model(struct run *r, struct model *m, struct err *e);

/* Whether the run's directory has a complete DIR/model. */
bool model_is_there(const struct run *r, const char *dir, bool *there, struct err *e);

/* Looks at settings and headers of all models that the steps have left; fails where one was damaged
 * since, and says how it is made again. */
bool made_check(const struct run *r, struct err *e);
/* The same message, of a file or directory of that step: *e has what is wrong with it, which is
 * left as it is where that says nothing about what is in it. */
bool made_again(const struct run *r, enum step step, const char *what, const char *path,
                struct err *e);
/* Whether DIR has scores and their answers. What is not whole is said, and counts as not there. */
bool made_scores(const struct run *r, const char *dir, bool *whole, struct err *e);

/* The kinds of parameters that the baseline step trains. */
unsigned baseline_kinds(const struct config *c);

/* New models of the config's "baseline" shape, for a tokenizer of `vocab` ids. */
bool make_baseline_model(const struct run *r, struct model *m, struct err *e);

/* The base model with only the point's pairs rotated; and the same as stage 1 left it, where that
 * is one of the steps. */
bool open_untrained_partial(struct run *r, const struct point *p, struct model *m, struct err *e);
bool open_partial_model(struct run *r, const struct point *p, struct model *m, struct err *e);

/* Whether as many pairs can be kept in a model of m's settings, by the file of rank.file too. */
bool point_check(const struct run *r, const struct model *m, const struct point *p, struct err *e);

/* Whether the file of rank.file, where that is what ranks the pairs, is one for m. */
bool rank_check_given(const struct run *r, const struct model *m, struct err *e);

/* The ranking of the base model's pairs, into rank/rank.h5 where it is measured. */
bool step_rank(struct run *r, struct err *e);

/* recovery.png, report.md, metrics.h5. */
bool step_report(struct run *r, struct err *e);

#endif
