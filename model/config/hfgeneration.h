/* hfgeneration.h - generation_config.json: how transformers' generate() would answer with a model.
 * Its end tokens are obeyed; whatever else could change a greedy answer is listed. */
#ifndef MODEL_CONFIG_HFGENERATION_H
#define MODEL_CONFIG_HFGENERATION_H

#include "model/config/hfconfig.h"

struct hf_generation {
    char *path; /* path of the file read; NULL: none */
    int64_t eos_token_id[HF_MAX_EOS];
    int eos_count;
    char *unused; /* "KEY VALUE, ..." that could change a greedy answer; NULL: none */
};

/* Reads the file in the model's directory `dir`, or in the base that c names; fine if there is
 * none. On failure fills *e and leaves *g zeroed. */
bool hf_generation_read(struct hf_generation *g, const char *dir, const struct hf_config *c,
                        struct err *e);
void hf_generation_free(struct hf_generation *g); /* fine on a zeroed struct */

#endif
