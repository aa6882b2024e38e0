/* qwen_tower.h - the vision towers of Qwen's families, for pictures near their own size. */
#ifndef MODEL_FAMILY_QWEN_TOWER_H
#define MODEL_FAMILY_QWEN_TOWER_H

#include "model/family/family.h"

/* In what one family's tower and its settings differ from another's. */
struct qwen_kind {
    /* model_types of the parts of config.json, ended by NULL; the first is the default */
    const char *const *text_types, *const *vision_types;
    const struct hf_field *fields; /* of vision_config */
    size_t n_fields;
    /* Reads what is not a field, and sets or checks what follows from those. */
    bool (*settle)(const struct hf_reader *r, const cJSON *obj, struct vision_config *v);
    const char *width, *out; /* the keys of hidden_size and out_hidden_size, for messages */
    struct {
        const char *key;              /* of the width of the blocks' MLP; */
        bool ratio;                   /* whether it counts in widths of the tower */
        const char *gate, *up, *down; /* tensors behind "blocks.N."; gate NULL: there is none */
    } mlp;
    bool layernorm; /* norms are LayerNorm with biases, else RMSNorm */
};

/* A matrix [out, in], or a norm's vector, and its bias [out]; NULL where there is none. */
struct qwen_affine {
    struct param *w, *b;
};

struct qwen_block {
    struct qwen_affine norm1, norm2;
    struct qwen_affine q, k, v; /* rows of attn.qkv */
    struct qwen_affine o;
    struct qwen_affine gate, up, down; /* without a gate: up, the activation, down */
};

struct qwen { /* model.tower points to this */
    struct param *patch;
    struct qwen_affine norm, fc1, fc2; /* the merger */
    struct qwen_block *block;          /* [num_hidden_layers] */
};

/* Reads vision_config, an object or NULL, with transformers' defaults (5.24). */
bool qwen_read_tower(const struct hf_reader *r, const cJSON *obj, const struct qwen_kind *k,
                     struct vision_config *v);

bool qwen_declare(struct model *m, const struct qwen_kind *k, struct err *e);
bool qwen_check(const struct model *m, const struct qwen_kind *k, struct err *e);
void qwen_hash(const struct hf_config *c, struct sha256 *s);

/* The order in which a tower with windows works: window after window, keeping cells of merge x
 * merge patches together. order[i]: the i-th cell to work on, where the cells of all pictures are
 * numbered row by row, picture by picture. begin [windows + 1]: where the windows begin, in patches
 * of that order. Both need room for the number of cells plus one. Returns the number of windows. */
int64_t qwen_windows(const struct vision_config *v, const struct picture_shape *shapes, int64_t n,
                     int32_t *order, int64_t *begin);

/* The tower without the merger: pixels [patches, input width] to [patches, hidden_size], in the
 * order of the pixels. */
struct tensor *qwen_features(struct model *m, struct tape *t, struct tensor *pixels,
                             const struct picture_shape *shapes, int64_t n);

/* The merger: f->features [patches, hidden_size] to [patches / merge^2, out_hidden_size]. */
struct tensor *qwen_project(struct model *m, struct tape *t, const struct forward *f);

/* A row of vision_config's table: a whole number from 1 to `max`. */
#define QWEN_INT(json, member, max, d)                                                             \
    {                                                                                              \
        .key = json, .offset = offsetof(struct vision_config, member), .kind = HF_INT, .lo = 1,    \
        .hi = max, .def = {                                                                        \
            d                                                                                      \
        }                                                                                          \
    }

#endif
