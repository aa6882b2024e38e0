/* qwen_tower.h - the vision tower of Qwen2.5-VL. */
#ifndef MODEL_FAMILY_QWEN_TOWER_H
#define MODEL_FAMILY_QWEN_TOWER_H

#include "model/family/family.h"

struct qwen_block {
    struct param *norm1, *norm2;
    struct param *q, *q_b, *k, *k_b, *v, *v_b; /* rows of attn.qkv */
    struct param *o, *o_b;
    struct param *gate, *gate_b, *up, *up_b, *down, *down_b;
};

struct qwen { /* model.tower points to this */
    struct param *patch;
    struct param *norm, *fc1, *fc1_b, *fc2, *fc2_b; /* the merger */
    struct qwen_block *block;                       /* [num_hidden_layers] */
};

/* Reads vision_config, an object or NULL, with transformers' defaults
 * (Qwen2_5_VLVisionConfig, 5.24). */
bool qwen_read_tower(const struct hf_reader *r, const cJSON *obj, struct vision_config *v);

bool qwen_declare(struct model *m, struct err *e);
bool qwen_check(const struct model *m, struct err *e);
void qwen_hash(const struct hf_config *c, struct sha256 *s);

/* The order in which the tower works: window after window, keeping cells of merge x merge patches
 * together. order[i]: the i-th cell to work on, where the cells of all pictures are numbered row by
 * row, picture by picture. begin [windows + 1]: where the windows begin, in patches of that order.
 * Both need room for the number of cells plus one. Returns the number of windows. */
int64_t qwen_windows(const struct vision_config *v, const struct picture_shape *shapes, int64_t n,
                     int32_t *order, int64_t *begin);

/* The tower without the merger: pixels [patches, input width] to [patches, hidden_size], in the
 * order of the pixels. */
struct tensor *qwen_features(struct model *m, struct tape *t, struct tensor *pixels,
                             const struct picture_shape *shapes, int64_t n);

/* The merger: f->features [patches, hidden_size] to [patches / merge^2, out_hidden_size]. */
struct tensor *qwen_project(struct model *m, struct tape *t, const struct forward *f);

#endif
