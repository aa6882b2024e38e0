/* hfconfig.h - Hugging Face's config.json as plain structs. Settings missing from the file get the
 * value that transformers gives them; what this program cannot compute is refused by name, never
 * ignored, and what it does not use is listed. Messages name the file with line and column, the
 * key, what was found and what is allowed.
 *
 *     struct hf_config cfg;
 *     if (!hf_config_read(&cfg, "llava-1.5-7b-hf/config.json", e)) return false;
 *     ... cfg.text.hidden_size ...
 *     hf_config_free(&cfg); */
#ifndef MODEL_CONFIG_HFCONFIG_H
#define MODEL_CONFIG_HFCONFIG_H

#include "autograd/ops.h" /* enum activation */
#include "base/json/jsonc.h"
#include "model/files/hfjson.h" /* HF_NO_TOKEN */

#include <stddef.h>
#include <stdint.h>

enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN, ROPE_TYPES };
extern const char *const rope_type_names[ROPE_TYPES];

/* Fields that a type does not use are 0. */
struct rope_scaling {
    enum rope_type type;
    double factor; /* linear, dynamic, llama3, yarn: >= 1; yarn: 0 means max_position_embeddings
                    * divided by the original */
    double low_freq_factor, high_freq_factor; /* llama3: low < high */
    int64_t original_max_position_embeddings; /* llama3, yarn */
    /* yarn; 0 if not in the file */
    double attention_factor, mscale, mscale_all_dim, beta_fast, beta_slow;
    bool truncate;
};

enum { HF_MAX_EOS = 16, HF_MAX_FEATURES = 16, HF_MAX_GRIDS = 64, HF_MAX_BLOCKS = 256 };

struct text_config {
    const char *model_type; /* such as "llama" */
    int64_t hidden_size, intermediate_size, num_hidden_layers;
    int64_t num_attention_heads, num_key_value_heads; /* heads is a multiple of kv heads */
    int64_t head_dim;                                 /* even */
    int64_t vocab_size, max_position_embeddings;
    double rms_norm_eps, initializer_range;
    double rope_theta;
    struct rope_scaling rope_scaling;
    int axes; /* axes of positions: 1, or 3 (time, height, width) */
    /* axes 3: the number of consecutive pairs of a head that each axis rotates;
     * together head_dim / 2 */
    int64_t mrope_section[3];
    bool qkv_bias;     /* llama: attention_bias; qwen2: always */
    bool bias_by_type; /* qkv_bias follows from model_type */
    bool o_bias;       /* llama: attention_bias; qwen2: never */
    bool mlp_bias;
    bool tie_word_embeddings;           /* effective value: the text's or the whole model's */
    enum activation hidden_act;         /* ACT_SILU */
    int64_t bos_token_id, pad_token_id; /* HF_NO_TOKEN: none */
    int64_t pad_row; /* row of the embeddings that torch gives no gradient: pad_token_id, where -1
                      * means the last row; HF_NO_TOKEN: none */
    int64_t eos_token_id[HF_MAX_EOS];
    int eos_count;
    int64_t window;           /* keys that a query of some layer sees, itself included; 0: all */
    double attention_dropout; /* used when the model was trained; not applied here */
    const char *dtype;        /* "float32", "float16", "bfloat16", or "" if not given */
};

struct vision_config {
    const char *model_type; /* such as "clip_vision_model" */
    int64_t hidden_size, intermediate_size, num_hidden_layers, num_attention_heads;
    int64_t patch_size, num_channels;
    int64_t image_size, projection_dim; /* CLIP only: image_size is a multiple of patch_size */
    /* towers for pictures of any size: */
    int64_t out_hidden_size, spatial_merge_size, temporal_patch_size;
    int64_t window_size;      /* side in pixels; 0: no windows */
    bool full[HF_MAX_BLOCKS]; /* blocks whose attention sees the whole picture */
    double layer_norm_eps, attention_dropout;
    enum activation hidden_act;
};

/* How attention was changed: the object "mha2mla" at the top of config.json. The keys of the first
 * group are those of published MHA2MLA checkpoints. */
struct mha2mla_config {
    const char *partial_rope_version; /* of RANK_VERSION_NAMES, model/config/choices.h */
    int64_t rope_dim_for_mla;         /* rotated dims of a key: even, 0 .. head_dim; cross: .. all
                                       * kv heads' */
    int64_t uniform_start_point;
    const char *qk_tensor_path;  /* NULL: none */
    const char *svd_init_method; /* of KV_METHOD_NAMES */
    int64_t low_rank;            /* latent dims per kv head */
    bool is_gqa2mha2mla;
    bool is_baseline, is_mla_from_scratch; /* false here; the published text code looks them up */
    const char *peft_train;                /* NULL: none */

    bool decoupled;          /* ours: a latent per modality */
    const char *calibration; /* ours: of MDSVD_NAMES; NULL: not given */
    const char *statistics;  /* ours: of KV_STATISTICS_NAMES; NULL: tokens, or not given */
    bool refit;              /* ours: o_proj was refitted after the conversion */
    const char *rope_basis;  /* ours: of BASIS_NAMES; NULL: head */
    const char *base;        /* ours: directory with the tensors missing here; NULL: none missing */
    const char *base_sum;    /* ours: sums of its files of weights; NULL: an older version's */
};

struct hf_config {
    const struct family *family; /* a row of the table in model/family/ */
    struct text_config text;
    struct vision_config vision; /* zeroed if the family has no tower */
    int64_t image_token_index;   /* image_token_id in newer files */
    int64_t vision_start_token_id, vision_end_token_id, video_token_id; /* HF_NO_TOKEN: none */
    int64_t image_seq_length; /* ignored: like transformers, we count patches */
    /* Indices into the hidden states (0 embeddings, -1 last layer), which are put side by side. */
    int64_t vision_feature_layer[HF_MAX_FEATURES];
    int feature_count;
    bool vision_feature_full;      /* select strategy "full": keep the class token */
    int64_t grid[HF_MAX_GRIDS][2]; /* image_grid_pinpoints: [height, width]s */
    int64_t grids;
    enum activation projector_hidden_act;
    bool multimodal_projector_bias;
    int64_t pad_token_id; /* of the whole model; HF_NO_TOKEN: none */
    const char *dtype;    /* of the whole model, as in text_config */
    bool has_mha2mla;
    struct mha2mla_config mha2mla;

    char *unused;       /* "KEY, text_config.KEY": keys of the file that have no effect here and are
                       * not known to be harmless; NULL: none */
    struct jsonc doc;   /* the whole file; strings above point into it. Has no line numbers after
                       * changes or copying. */
    struct cJSON *json; /* of doc, borrowed */
    const char *file;   /* of doc, borrowed: for messages */
};

bool hf_is_cross(const struct mha2mla_config *m); /* rope_basis "cross" */

/* On failure, both fill *e and leave *c zeroed. `name` is the file's name in messages. */
bool hf_config_read(struct hf_config *c, const char *path, struct err *e);
bool hf_config_parse(struct hf_config *c, const char *text, size_t len, const char *name,
                     struct err *e);
void hf_config_free(struct hf_config *c); /* fine on a zeroed struct */

/* Makes a struct that was copied a view of the original, which must outlive it: it has the settings
 * but no JSON, and freeing it frees nothing. */
void hf_config_borrow(struct hf_config *c);

/* Copies by reading the JSON again; the caller frees *dst. */
bool hf_config_copy(struct hf_config *dst, const struct hf_config *src, struct err *e);

/* Puts m's keys into the file's "mha2mla" object (created if missing; its other keys stay) and
 * reads it back with all checks; m's strings may be c's own. NULL removes the object. On
 * failure *c is unchanged. */
bool hf_config_set_mha2mla(struct hf_config *c, const struct mha2mla_config *m, struct err *e);

/* Sets "FILE:LINE:COL: message" about the value at a path such as "text_config.vocab_size"
 * (if absent: "FILE: message", and that it has its default); returns false. */
bool hf_config_fail(const struct hf_config *c, const char *path, struct err *e, const char *fmt,
                    ...) __attribute__((format(printf, 4, 5)));

/* Sets "dtype" and "torch_dtype", whichever are there, at the top and in text_config; if the top
 * has neither, adds "torch_dtype". On failure *c is unchanged. */
bool hf_config_set_dtype(struct hf_config *c, const char *dtype, struct err *e);

/* Sets "tie_word_embeddings" to false, at the top and in text_config. On failure *c is
 * unchanged. */
bool hf_config_untie(struct hf_config *c, struct err *e);

/* Writes the JSON as it was read, with the changes made by the functions above, atomically. */
bool hf_config_write(const struct hf_config *c, const char *path, struct err *e);

/* Whether the family has a vision tower; the width of a row of the tower's input, and of its
 * features (both only with a tower). */
bool hf_has_vision(const struct hf_config *c);
int64_t hf_input_width(const struct hf_config *c);
int64_t hf_feature_width(const struct hf_config *c);

#endif
