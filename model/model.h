/* model.h - a Hugging Face model in memory: its settings, its parameters by name, and how its
 * attention stands. Frozen weights are used where they lie in the mapped files; what is trained or
 * was computed has fp32 memory of its own, and rows that were only moved have some in the file's
 * dtype.
 *
 * Attention is in one of three states:
 *     FULL     q_proj, k_proj, v_proj, o_proj: the original MHA or GQA with RoPE on every pair
 *     PARTIAL  q_proj with its rows reordered, k_r_proj, kv_proj.{up_k,up_v}: RoPE on kept pairs
 * only MLA      the same with the keys' unrotated part and the values made from latents, by factors
 *              kv_proj_{img,text}.{down_*,up_k,up_v}, or one kv_proj where modalities share them */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "autograd/ops.h"
#include "base/rng.h"
#include "model/hfconfig.h"
#include "model/safetensors.h"

enum attn_state { ATTN_FULL, ATTN_PARTIAL, ATTN_MLA };

/* Which of the unrotated key and the value come from a latent, and whether it is the same one. */
enum kv_method { KV_NONE, KV_JOINT, KV_SPLIT, KV_ONLY_KEY, KV_ONLY_VALUE, KV_METHODS };
struct kv_method_info {
    const char *name;
    bool key, value, joint;
};
extern const struct kv_method_info kv_methods[KV_METHODS];
/* KV_METHODS where there is none of that name. */
enum kv_method kv_method_find(const char *name);

/* What a parameter is, for PEFT sets and for counting. */
enum param_kind {
    PARAM_VISION,
    PARAM_PROJECTOR,
    PARAM_EMBED,
    PARAM_HEAD,
    PARAM_NORM,
    PARAM_MLP,
    PARAM_Q,      /* FULL: all rows; else the NoPE rows */
    PARAM_Q_ROPE, /* the rotated rows of q_proj */
    PARAM_K,      /* FULL */
    PARAM_V,      /* FULL */
    PARAM_K_ROPE, /* k_r_proj */
    PARAM_DOWN,
    PARAM_UP_K,
    PARAM_UP_V,
    PARAM_O,
    PARAM_KINDS
};
extern const char *const param_kind_names[PARAM_KINDS];

struct param {
    char *name;   /* of the tensor in the file */
    int64_t row0; /* the first of the file tensor's rows that are meant (q_proj is held in two) */
    enum param_kind kind;
    int ndim; /* the file's shape: [rows], [rows, cols] or [rows, ...] */
    int64_t dim[4];
    struct tensor t; /* what the graph uses; t.grad only where trained */
    void *own;       /* its memory where it is not mapped, of t.dtype */
};

/* The factors of one modality. down[0] is the keys' and down[1] the values' (the same in `joint`);
 * NULL where that part is made from the input itself. Biases may be NULL. */
struct kv_set {
    struct param *down[2], *up_k, *up_k_b, *up_v, *up_v_b;
};

struct attn {
    struct param *q[2], *q_b[2];   /* FULL: [0] only; else rotated rows, unrotated rows */
    struct param *k, *k_b;         /* k_proj or k_r_proj */
    struct param *v, *v_b;         /* FULL only */
    struct kv_set set[MODALITIES]; /* [TEXT] alone where modalities share their factors */
    struct param *o, *o_b;
};

struct layer {
    struct param *norm1, *norm2, *gate, *up, *down;
    struct param *gate_b, *up_b, *down_b; /* NULL without mlp_bias */
    struct attn attn;
};

struct vision_layer {
    struct param *norm1, *norm1_b, *norm2, *norm2_b, *fc1, *fc1_b, *fc2, *fc2_b;
    struct param *q, *q_b, *k, *k_b, *v, *v_b, *o, *o_b;
};

struct vision {
    struct param *class_embedding, *patch, *position, *pre, *pre_b, *post, *post_b;
    struct vision_layer *layers;
    struct param *proj1, *proj1_b, *proj2, *proj2_b; /* the projector */
};

struct model {
    struct hf_config cfg;
    char *dir;                   /* where it was read from; NULL for a new one */
    char *base_dir;              /* of `base`; NULL where there is none */
    struct st_model files, base; /* base: where a directory holds the changed tensors only */
    const struct name_layout *layout;
    char **notes; /* [n_notes], for the log: what of the files is not used, or not as they say */
    size_t n_notes, cap_notes;

    enum attn_state state;
    enum kv_method method;
    bool decoupled;
    int64_t rope_dim; /* dr: rotated dims a head; FULL: head_dim */
    int64_t latent;   /* r: width of a latent, low_rank * G */
    int32_t *pairs;   /* [L, G, dr/2] kept pairs, ascending; NULL in FULL */
    int32_t *q_pairs; /* [L, H, dr/2] the same for each query head */

    struct param *params;
    int64_t n_params, cap_params;
    struct layer *layers;
    struct param *embed, *norm, *head; /* head == embed where tied */
    struct vision vision;
    bool has_vision;
};

/* Reads a directory of config.json and weights, safetensors or pytorch_model.bin (all key layouts
 * of transformers). A tensor missing, of another shape, or without use is an error that names it;
 * what is known to be harmless is noted in m->notes. */
bool model_open(struct model *m, const char *dir, struct err *e);

/* Reads every weight, at the speed of memory (or of the disk). Fails where one is
 * NaN or infinite: names file, tensor and index. Fine for a model from a directory. */
bool model_check_finite(const struct model *m, struct err *e);

/* Fails where the end of a file is zeros as only an unfinished download leaves them; notes in
 * m->notes how many weights are nothing but zeros, or have many in a row. Looks at few values of
 * what is not zero. */
bool model_check_zeros(struct model *m, struct err *e);

/* A new model of cfg's shape with random weights: normal with deviation initializer_range. Takes
 * cfg over (also on failure). */
bool model_random(struct model *m, struct hf_config *cfg, uint64_t seed, struct err *e);

void model_close(struct model *m); /* fine on a zeroed struct */

/* Gives p fp32 memory of its own with the same values, where it has none yet. */
bool param_own(struct param *p, struct err *e);

/* Makes exactly the kinds in the bit mask trained: own memory and a zeroed gradient; all others are
 * frozen. Vectors of the vision tower count as PARAM_VISION. */
bool model_train(struct model *m, unsigned kinds, struct err *e);

/* Writes config.json and the safetensors to `dir`. What was computed or trained (fp32 memory of its
 * own) is written as `own` (F32 or BF16), the rest in its own dtype, moved or not. With delta only
 * those that differ from the opened directory are written, and the config points there. Other files
 * (tokenizer, processor) are copied from the directory that the model came from. */
bool model_save(const struct model *m, const char *dir, enum dtype own, bool delta, struct err *e);

/* Copies tokenizer and processor files that a model's directory has. */
bool model_copy_files(const char *from, const char *to, struct err *e);
/* All files that say how another tokenizer is read; what it lacks is removed: the model's own would
 * say something about another one. */
bool model_copy_tokenizer(const char *from, const char *to, struct err *e);

/* Whether those that a model saved by a run will get can be what their names say: `dir` is the
 * model's, `tokenizer` that of another tokenizer; each may be NULL. */
bool model_check_copied(const char *dir, const char *tokenizer, struct err *e);

/* Remembers (watch_keep) the files that an opened model was read from and those that saving copies;
 * and the latter of a directory that has no model. */
bool model_keep_files(const struct model *m, struct err *e);
bool model_keep_copied(const char *dir, struct err *e);

/* Values that the cache holds for a token and layer, and what the original attention held. */
int64_t model_cache_values(const struct model *m);
int64_t model_cache_values_full(const struct model *m);

/* SHA-256 over the vision tower's settings, names and bytes: the key of the feature cache. */
void model_vision_hash(const struct model *m, char hex[65]);

/* What cos and sin of rotated pairs are multiplied by (yarn: the attention factor f, else 1), so
 * that f^2 stands before their part of q k. Pairs that a conversion stops rotating keep it: their
 * keys are multiplied by f^2 (convert/transform.c). */
double model_rope_scale(const struct text_config *c);

/* Rows of text that one image becomes. */
int64_t model_image_tokens(const struct model *m);

static inline int64_t model_sets(const struct model *m)
{
    return m->state == ATTN_MLA && m->decoupled ? MODALITIES : 1;
}

#endif
