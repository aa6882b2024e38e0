/* fresh.h - what a family needs for a new model, to be trained from scratch. */
#ifndef MODEL_FAMILY_FRESH_H
#define MODEL_FAMILY_FRESH_H

#include "base/err.h"

#include <stdint.h>

/* The model_types of the families that new models can be of. */
#define FRESH_FAMILIES "llava", "llava_next", "qwen2_5_vl"

struct fresh_shape {
    int64_t hidden_size, intermediate_size, layers, heads, kv_heads, max_length;
    double rope_theta;
    bool tie;
    int64_t vision_hidden_size, vision_intermediate_size, vision_layers, vision_heads;
    int64_t image_size; /* pixels a side: of pictures, of tiles, or of the tower's windows */
    int64_t patch_size;
};

/* Tokens that a new model's config.json names. */
enum fresh_token { FRESH_BOS, FRESH_EOS, FRESH_PLACE, FRESH_START, FRESH_END, FRESH_TOKENS };

struct fresh {
    const char *token[FRESH_TOKENS]; /* their texts; NULL: the family has no such token */
    /* config.json, in new memory; NULL on failure. */
    char *(*json)(const struct fresh_shape *s, int64_t vocab, const int32_t id[FRESH_TOKENS],
                  struct err *e);
};

/* The standard deviation of new weights. */
double fresh_deviation(const struct fresh_shape *s);

#endif
