/* model.h - a Hugging Face model in memory: its settings, its parameters by name, and the state of
 * its attention. Frozen weights are used in place in the mapped files; whatever is trained or was
 * computed has fp32 memory of its own, and rows that were only moved have memory in the file's
 * dtype.
 *
 * Attention is in one of three states:
 *     FULL     q_proj, k_proj, v_proj, o_proj: the original MHA or GQA, with RoPE on every pair
 *     PARTIAL  q_proj with its rows reordered, k_r_proj, kv_proj.{up_k,up_v}: only the kept pairs
 *              are rotated
 *     MLA      the same, but the unrotated part of the keys and the values come from latents, by
 *              factors kv_proj_{img,text}.{down_*,up_k,up_v}, or kv_proj if modalities share them
 *
 * Letters: T tokens, V vocabulary, d hidden size, L layers, H query heads, G kv heads, dh head
 * size, dr rotated dims of a key and dc unrotated dims per head (dh - dr, or dh in the cross-head
 * basis), K rotated keys (G, or 1), r latent width. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "autograd/ops.h"
#include "base/rng.h"
#include "model/config/choices.h"
#include "model/config/hfconfig.h"
#include "model/files/safetensors.h"

enum attn_state { ATTN_FULL, ATTN_PARTIAL, ATTN_MLA };

/* Which of the unrotated keys and the values come from a latent, and whether from the same one. */
struct kv_method_info {
    bool key, value, joint;
};
extern const struct kv_method_info kv_methods[KV_METHODS];
extern const char *const kv_method_names[KV_METHODS];

/* The role of a parameter, for PEFT sets and for counting. */
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
    int64_t row0; /* the first row of the file's tensor used (q_proj is held as two) */
    enum param_kind kind;
    int ndim; /* the file's shape: [rows], [rows, cols] or [rows, ...] */
    int64_t dim[5];
    struct tensor t; /* used by the graph; t.grad only if trained */
    void *own;       /* its memory if not mapped, of t.dtype */
};

/* The factors of one modality: down[0] [r, d] for keys, down[1] [r, d] for values
 * (the same in `joint`), NULL if that part is not compressed; up_k [G*dc, r or d], up_v
 * [G*dh, r or d]. Biases may be NULL. */
struct kv_set {
    struct param *down[2], *up_k, *up_k_b, *up_v, *up_v_b;
};

struct attn {
    struct param *q[2], *q_b[2];   /* FULL: [0] only; else rotated rows, unrotated rows */
    struct param *k, *k_b;         /* k_proj or k_r_proj */
    struct param *v, *v_b;         /* FULL only */
    struct kv_set set[MODALITIES]; /* only [TEXT] if modalities share their factors */
    struct param *o, *o_b;
};

struct layer {
    struct param *norm1, *norm2, *gate, *up, *down;
    struct param *gate_b, *up_b, *down_b; /* NULL without mlp_bias */
    struct attn attn;
};

struct model {
    struct hf_config cfg;
    char *dir;                   /* directory it was read from; NULL for a new model */
    char *base_dir;              /* directory of `base`; NULL if there is none */
    struct st_model files, base; /* base: if `dir` holds only the changed tensors */
    const struct name_layout *layout;
    char **notes; /* [n_notes], for the log: what in the files is not used, or overridden */
    size_t n_notes, cap_notes;

    enum attn_state state;
    enum kv_method method;
    bool decoupled;
    bool cross;       /* one rotated key for all heads; see model_rope_keys() */
    int64_t rope_dim; /* dr: rotated dims of a key; FULL: head_dim; of rope_dims, their mean */
    int64_t
        *rope_dims;   /* [L]: dr of each layer, of one key for all heads; NULL: all have the same */
    int64_t latent;   /* r: width of a latent, low_rank * G; of latents, their mean */
    int64_t *latents; /* [L]: r of each layer; NULL: all have the same */
    int32_t *pairs;   /* [L, K, dr/2] frequencies of the K rotated keys, ascending; NULL in FULL;
                       * one layer after the other: model_pairs_before */
    int32_t *q_pairs; /* [L, H, dr/2] the same for each query head */

    struct param *params;
    int64_t n_params, cap_params;
    struct layer *layers;
    struct param *embed, *norm, *head; /* head == embed if tied */
    void *tower;                       /* the family's own, in one block; NULL in text models */
};

static inline struct tensor *param_tensor(struct param *p) /* NULL if p is */
{
    return p ? &p->t : NULL;
}

/* Reads a directory with config.json and weights, safetensors or pytorch_model.bin (in any of
 * transformers' key layouts). A tensor that is missing, unused or of the wrong shape is an error
 * that names it; harmless extras are noted in m->notes. */
bool model_open(struct model *m, const char *dir, struct err *e);

/* Reads every weight, at memory (or disk) speed. Fails if one is NaN or infinite, naming file,
 * tensor and index. Only for a model opened from a directory. */
bool model_check_finite(const struct model *m, struct err *e);
/* The same of the tensors that lie in its own directory, and not in that of the model that it
 * builds on. */
bool model_check_own_finite(const struct model *m, struct err *e);
#define MODEL_FETCH_AGAIN /* ends its message */                                                   \
    "; fetch the file again, or take another checkpoint of the model"

/* Fails if the end of a file is zeros as only an unfinished download leaves them; notes in m->notes
 * how many weights are nothing but zeros, or have many in a row. Reads few of the values that are
 * not zero. */
bool model_check_zeros(struct model *m, struct err *e);

/* A new model of cfg's shape with random weights: normal with standard deviation initializer_range.
 * Takes over cfg (also on failure). */
bool model_random(struct model *m, struct hf_config *cfg, uint64_t seed, struct err *e);

/* The same without memory for the weights. */
bool model_declare(struct model *m, struct hf_config *cfg, struct err *e);

void model_close(struct model *m); /* fine on a zeroed struct */

/* Gives p fp32 memory of its own with the same values, unless it has that already. */
bool param_own(struct param *p, struct err *e);

/* Makes exactly the kinds in the bit mask trained: fp32 memory of their own and a zeroed gradient;
 * all others are frozen. All of the vision tower, its vectors too, is PARAM_VISION. */
bool model_train(struct model *m, unsigned kinds, struct err *e);

/* Writes config.json and safetensors to `dir`. Whatever was computed or trained
 * (fp32 memory of its own) is written as `own` (F32 or BF16), everything else in its own dtype,
 * moved or not. With delta, only tensors that differ from the opened directory are written, and the
 * config points there. Without delta, other files (tokenizer, processor) are copied from the
 * directory that the model came from. */
bool model_save(const struct model *m, const char *dir, enum dtype own, bool delta, struct err *e);

/* If the model of changed tensors in `dir` builds on the directory `was`, makes
 * it build on `now`. */
bool model_move_base(const char *dir, const char *was, const char *now, bool *changed,
                     struct err *e);

/* The files, besides settings and weights, that a model's directory may have; ends with NULL. */
extern const char *const model_side_files[];

/* Copies those that are present in a model's directory. */
bool model_copy_files(const char *from, const char *to, struct err *e);

/* Copies all files that describe another tokenizer, and removes those that it lacks: the model's
 * own would describe a different one. */
bool model_copy_tokenizer(const char *from, const char *to, struct err *e);

/* Whether the copies that a run's saved model will get can be what their names say: `dir` is the
 * model's directory, `tokenizer` that of another tokenizer; either may be NULL. */
bool model_check_copied(const char *dir, const char *tokenizer, struct err *e);

/* The sums (sum64) of the settings, by their values, and of the weights that an opened model was
 * read from, as one SHA-256; the caller frees it. NULL on failure. */
char *model_sums(const struct model *m, struct err *e);

/* Records (watch_keep) the files that an opened model was read from, and those that saving copies,
 * and compares the base's weights with their sums; and only those that saving copies, of a
 * directory that need not hold a model. */
bool model_keep_files(const struct model *m, struct err *e);
bool model_keep_copied(const char *dir, struct err *e);

static inline int64_t model_latent(const struct model *m, int64_t l)
{
    return m->latents ? m->latents[l] : m->latent;
}

static inline int64_t model_rope_dim(const struct model *m, int64_t l)
{
    return m->rope_dims ? m->rope_dims[l] : m->rope_dim;
}

/* The rotated pairs of a key in all layers before l: where those of l begin in lists of one key. */
static inline int64_t model_pairs_before(const struct model *m, int64_t l)
{
    int64_t n = m->rope_dims ? 0 : l * m->rope_dim / 2;

    for (int64_t k = 0; m->rope_dims && k < l; k++)
        n += m->rope_dims[k] / 2;
    return n;
}

/* Makes `dims` [L] the rotated dims of m's layers; all alike: just m->rope_dim,
 * which is their mean. */
bool model_set_rope_dims(struct model *m, const int64_t *dims, struct err *e);

/* Makes `latents` [L] those of m; NULL: all layers have m->latent. */
bool model_set_latents(struct model *m, const int64_t *latents, struct err *e);

/* Values that the cache holds per token in layer l: rotated key, unrotated key, value; per token
 * and layer, the mean; and the number for the original attention. */
void model_cache_widths(const struct model *m, int64_t l, int64_t width[3]);
int64_t model_cache_values(const struct model *m);
int64_t model_cache_values_full(const struct model *m);

/* SHA-256 of the vision tower's settings, tensor names and bytes: the key of the feature cache. */
void model_vision_hash(const struct model *m, char hex[65]);

/* The factor f on cos and sin of rotated pairs (yarn: the attention factor, else 1), so that their
 * part of q k has the factor f^2. Pairs that a conversion stops rotating keep it: their keys are
 * multiplied by f^2 (convert/transform.c). */
double model_rope_scale(const struct text_config *c);

/* K rotated keys a token and layer: one for each kv head, whose unrotated part has the other dims;
 * or, in the cross-head basis (docs/method.md, section 2), one for all, beside which every head has
 * an unrotated key as wide as the head: dr is then not bound by dh, and a frequency may come more
 * than once, as components of several heads' keys turn by it. */
static inline int64_t model_rope_keys(const struct model *m)
{
    return m->cross ? 1 : m->cfg.text.num_key_value_heads;
}

/* dc: unrotated dims per head; FULL: none. */
static inline int64_t model_nope_dim(const struct model *m)
{
    return m->cfg.text.head_dim - (m->cross ? 0 : m->rope_dim);
}

static inline int64_t model_sets(const struct model *m)
{
    return m->state == ATTN_MLA && m->decoupled ? MODALITIES : 1;
}

#endif
