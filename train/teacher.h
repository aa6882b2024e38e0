/* teacher.h - the teacher of a training that distills: the original model, from the same mapped
 * files as the model that is trained.
 *
 * On the fly it is asked in every step, about the step's own samples. That takes a forward pass a
 * step, more than half of what a step takes without it (docs/measured.md), and leaves nothing
 * behind. Stored (train/teacher_store.h), it is asked about a sample once, and what it said is
 * there for a second epoch, a sweep's next point and a resumed run: 516 bytes a labelled token (id
 * and logit of 64 tokens, and the rest), and in a text every token is labelled. In a single pass,
 * as of large models, that saves nothing. */
#ifndef TRAIN_TEACHER_H
#define TRAIN_TEACHER_H

#include "data/store.h"
#include "train/run.h"

enum { TEACHER_TOKENS = 64 }; /* kept of a distribution, or all of a smaller vocabulary */

struct teacher {
    bool open;   /* false: the training does not distill */
    bool stored; /* what it says is in `store` (train/teacher_store.h), and m is not open */
    struct model m;
    struct store store;
    float *row; /* of an entry */
    size_t cap_row;
    /* Of the batch that it was asked about last: what it said, or its hidden states (forward.h). */
    struct top_logits said;
    size_t cap_ids, cap_logits, cap_rest;
    bool layers; /* its hidden states are asked for */
    real *hidden;
    size_t cap_hidden;
};

/* Fails if a training asks for hidden states that a model of that shape does not have. */
bool teacher_check(const struct config *c, const struct hf_config *cfg, struct err *e);

/* For the phase of that index, if it distills: opens the original model, or what it said before,
 * which it is asked about first where that is missing. Of all processes together. */
bool teacher_open(struct teacher *t, struct run *r, const struct config_phase *p, int phase,
                  struct err *e);
void teacher_close(struct teacher *t); /* fine on a zeroed struct */

/* Room in t->said for so many labels. */
bool teacher_reserve(struct teacher *t, int64_t labels, struct err *e);

/* A graph on the run's tape that fills t->said for the batch's labels, or t->hidden. */
bool teacher_graph(struct teacher *t, struct run *r, const struct dataset *d,
                   struct batch_buffer *b, struct err *e);

/* Lists of the phase's temperature for a vocabulary of V tokens, without memory. */
struct top_logits teacher_lists(const struct config_phase *p, int64_t V);
/* Bytes of t->said for that many labels; of t->hidden for that many tokens. */
double teacher_bytes(int64_t labels, int64_t V);
double teacher_hidden_bytes(int64_t tokens, const struct model *teacher);
/* Bytes of the teacher's weights that a model of which `kinds` are trained does not map as well. */
double teacher_mapped(const struct model *teacher, unsigned kinds);

#endif
