/* likelihood.h - how likely several continuations of the same prompts are, through a KV cache: a
 * prompt is computed once, and the cache is taken back to it after each continuation. */
#ifndef MODEL_LIKELIHOOD_H
#define MODEL_LIKELIHOOD_H

#include "data/sample.h"
#include "model/generate.h"

/* Fills logp[k * samples + s] with the sum of the log probabilities of the tokens of option
 * o[k * samples + s], each after the prompt (sample s of f->batch) and the tokens before it; 0
 * where there is none. k < options. f->cache: the caller's, as for model_continue
 * (model/generate.h), with room for the longest option too; it then holds the prompts without their
 * last tokens. NULL: one is made. Of the generator, max_new and stop are not used. */
bool model_likelihood(const struct generator *g, const struct forward *f,
                      const struct continuation *o, int64_t options, double *logp, struct err *e);

#endif
