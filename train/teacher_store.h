/* teacher_store.h - what a teacher says of the training samples, kept in data.cache for all
 * trainings that ask the same (stage1.teacher, stage2.teacher "stored"): a store (data/store.h)
 * whose entries are samples, by the SHA-256 of their tokens, labels and pictures. An entry has for
 * each label, as floats, the ids and the logits of the likeliest tokens, and what the others come
 * to (struct top_logits; ids are below 2^24). The store's directory and `about` follow from all
 * else that the values depend on: the teacher's files, the data set, how pictures are read,
 * temperature, number of tokens and run.compute. So nothing of another teacher is ever read, and
 * nothing has to be refused or thrown away.
 *
 * Each sample goes through the teacher alone: the same bits, whoever else is drawn, and however far
 * an earlier run came. The first of several processes fills the store for all. */
#ifndef TRAIN_TEACHER_STORE_H
#define TRAIN_TEACHER_STORE_H

#include "train/teacher.h"

/* Fills the store with what the phase of that index will draw, and opens it in t. Opens the
 * original model, if something is missing, and closes it again. Stops at a signal; what has
 * been written is kept. Where nothing can be written, all must be there. */
bool teacher_store_open(struct teacher *t, struct run *r, const struct config_phase *p, int phase,
                        struct err *e);

/* Whether a training of a recipe has a stored teacher. */
bool teacher_store_used(const struct config *all);

/* Where nothing can be written in data.cache: whether all is there that the run's trainings will
 * ask of the original model m, and the error if not. */
bool teacher_store_check(struct run *r, const struct model *m, struct err *e);

/* t->said of n samples, one after the other. */
bool teacher_store_read(struct teacher *t, const struct dataset *d, const struct sample *samples,
                        int64_t n, struct err *e);

/* Bytes of the values of so many labels, for a vocabulary of V tokens; and most of them that wait
 * in memory to be written. */
double teacher_store_bytes(int64_t labels, int64_t V);
double teacher_store_pending(int64_t labels, int64_t V);

#endif
