/* prompts.h - the samples of a batch in a KV cache, with what several of them begin
 * with computed once:
 *
 *     struct prompts p;
 *     if (!prompts_open(&p, s, &in, e)) return false;
 *     ok = model_continue(&how, &p.f, ...);    what is left of each sample is p.f
 *     prompts_close(&p, s, ok);
 *
 * Samples that follow each other and begin alike share the longest run of equal tokens and whole
 * pictures: a system text and the picture that several questions are about, or the context of
 * several answers. Such a beginning is a pass of its own, of one sequence, whose rows are then
 * copied into the caches of the others; so its bits do not depend on how many share it, nor on the
 * rest of the batch. */
#ifndef TRAIN_SCORE_PROMPTS_H
#define TRAIN_SCORE_PROMPTS_H

#include "train/score/scorer.h"

struct prompts_in {
    const struct sample *samples; /* [n] */
    int64_t n;
    bool prompts; /* up to where the last answer would begin, and without labels; else whole */
    int64_t more; /* tokens that each will get behind these */
};

struct prompts {
    struct forward f; /* what is left: sample s continues sequence s of the cache */
    struct kv_cache cache;
    struct batch_buffer batch;
    struct tensor leaf;
    float *features; /* of the leaf; NULL: no pictures are left */
    int64_t *seq;    /* [n]: 0, 1, 2 ... */
    int64_t tokens, shared;
};

bool prompts_open(struct prompts *p, const struct scoring *s, const struct prompts_in *in,
                  struct err *e);
/* count: adds what was computed and cached to s->stats. */
void prompts_close(struct prompts *p, const struct scoring *s, bool count);

/* Sets skip[n] to the tokens of each sample that it shares with the first of its group, which is
 * the nearest before it that has skip[i] < 0: that one computes -skip[i] tokens
 * for them. 0: none. */
void prompts_share(const struct prompts_in *in, int64_t *skip);

#endif
