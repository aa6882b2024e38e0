/* clip.h - CLIP's vision tower, for the families that have it. c->vision are its settings. */
#ifndef MODEL_FAMILY_CLIP_H
#define MODEL_FAMILY_CLIP_H

#include "model/family/family.h"

struct clip_layer {
    struct param *norm1, *norm1_b, *norm2, *norm2_b, *fc1, *fc1_b, *fc2, *fc2_b;
    struct param *q, *q_b, *k, *k_b, *v, *v_b, *o, *o_b;
};

struct clip {
    struct param *class_embedding, *patch, *position, *pre, *pre_b, *post, *post_b;
    struct clip_layer *layer; /* [num_hidden_layers] */
};

/* vision_config, an object or NULL, with CLIPVisionConfig's defaults, or LLaVA's for none at all. */
bool clip_read(const struct hf_reader *r, const cJSON *obj, struct vision_config *v);

/* vision_feature_layer: one of the tower's hidden states or a list of them. */
bool clip_read_feature_layers(const struct hf_reader *r, const cJSON *obj, struct hf_config *c);

/* The i-th of vision_feature_layer as a number of layers that must run: 0 .. num_hidden_layers; of
 * all of them; and the width of the features that they make together. */
int64_t clip_feature_layer(const struct hf_config *c, int i);
int64_t clip_layers(const struct hf_config *c);
int64_t clip_feature_width(const struct hf_config *c);

/* Pixels of a square: C*S*S. */
int64_t clip_input_width(const struct hf_config *c);

/* Feature rows of one square of image_size: its patches, and the class token with "full". */
int64_t clip_rows(const struct hf_config *c);

/* Declares the tower's parameters; clip->layer has room for all layers. */
void clip_declare(struct model *m, struct clip *clip);
bool clip_check(const struct model *m, struct err *e);
/* The processor that gives CLIP's squares; whether p's are as large as the tower's. */
void clip_new_processor(const struct hf_config *c, struct processor *p);
bool clip_check_processor(const struct hf_config *c, const struct processor *p, struct err *e);

void clip_hash(const struct hf_config *c, struct sha256 *s);

/* Features [n * clip_rows, clip_feature_width] of n squares, pixels [n, C*S*S]. */
struct tensor *clip_features(struct model *m, struct tape *t, const struct clip *clip,
                             struct tensor *pixels);

#endif
