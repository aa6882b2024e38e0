/* clip.h - CLIP's vision tower, for the families that use it. Its settings are c->vision. */
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

/* Reads vision_config, an object or NULL: the defaults are CLIPVisionConfig's, or
 * LLaVA's for NULL. */
bool clip_read(const struct hf_reader *r, const cJSON *obj, struct vision_config *v);

/* Reads vision_feature_layer: one of the tower's hidden states, or a list of them. */
bool clip_read_feature_layers(const struct hf_reader *r, const cJSON *obj, struct hf_config *c);

/* clip_feature_layer: the i-th of vision_feature_layer as the number of layers to run, 0 ..
 * num_hidden_layers. clip_layers: the largest of these. clip_feature_width: the width of all
 * features side by side. */
int64_t clip_feature_layer(const struct hf_config *c, int i);
int64_t clip_layers(const struct hf_config *c);
int64_t clip_feature_width(const struct hf_config *c);

/* Values per input row, an image: C*S*S. */
int64_t clip_input_width(const struct hf_config *c);

/* Feature rows of one image: (image_size / patch_size)^2, plus one for the class token with
 * "full". */
int64_t clip_rows(const struct hf_config *c);

/* Declares the tower's parameters (shapes in clip.c); clip->layer has room for all layers. */
void clip_declare(struct model *m, struct clip *clip);
/* Fails if vision_config contradicts the tensors, naming both. */
bool clip_check(const struct model *m, struct err *e);
/* The processor of CLIP's square images; checks that p's output has the tower's size. */
void clip_new_processor(const struct hf_config *c, struct processor *p);
bool clip_check_processor(const struct hf_config *c, const struct processor *p, struct err *e);

/* Adds the settings that features depend on, except the tower's weights. */
void clip_hash(const struct hf_config *c, struct sha256 *s);

/* pixels [n, C*S*S] of n images to features [n * clip_rows, clip_feature_width]. */
struct tensor *clip_features(struct model *m, struct tape *t, const struct clip *clip,
                             struct tensor *pixels);

#endif
