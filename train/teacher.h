/* teacher.h - the teacher of a training that distills: the original model, from the same mapped
 * files as the model that is trained.
 *
 * It is asked in every step, about the step's own samples, rather than once for all into a file.
 * That takes a forward pass a step, more than half of what a step takes without
 * it (docs/measured.md), which a file would save where a sample comes again: in a second epoch, or
 * at a sweep's next point. In a single pass, as of large models, it would save nothing. It would
 * take 516 bytes a labelled token (id and logit of 64 tokens, and the rest), and in a text every
 * token is labelled; each sample would have to go through the teacher alone, lest it depend on who
 * was in its batch; and points that run beside each other (share.h) write nothing that all of
 * them read. Asked in the step, the teacher leaves nothing behind that could be damaged, missing
 * or of another model: a resumed run, and one of any number of processes, needs no more than
 * without it. */
#ifndef TRAIN_TEACHER_H
#define TRAIN_TEACHER_H

#include "train/run.h"

enum { TEACHER_TOKENS = 64 }; /* kept of a distribution, or all of a smaller vocabulary */

struct teacher {
    bool open; /* false: the training does not distill */
    struct model m;
    struct top_logits said; /* of the batch that it was asked about last */
    size_t cap_ids, cap_logits, cap_rest;
};

/* Opens the original model for a phase that distills; else does nothing. */
bool teacher_open(struct teacher *t, struct run *r, const struct config_phase *p, struct err *e);
void teacher_close(struct teacher *t); /* fine on a zeroed struct */

/* A graph on the run's tape that fills t->said for the batch's labels. */
bool teacher_graph(struct teacher *t, struct run *r, const struct dataset *d,
                   struct batch_buffer *b, struct err *e);

/* Lists of the phase's temperature for a vocabulary of V tokens, without memory. */
struct top_logits teacher_lists(const struct config_phase *p, int64_t V);
/* Bytes of t->said for that many labels. */
double teacher_bytes(int64_t labels, int64_t V);
/* Bytes of the teacher's weights that a model of which `kinds` are trained does not map as well. */
double teacher_mapped(const struct model *teacher, unsigned kinds);

#endif
