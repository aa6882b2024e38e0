/* hfconfig_parts.h - shared by hfconfig*.c and hfgeneration.c, and private to them. */
#ifndef MODEL_CONFIG_HFCONFIG_PARTS_H
#define MODEL_CONFIG_HFCONFIG_PARTS_H

#include "model/config/hfconfig.h"
#include "model/files/hfjson.h"

/* Limits far above any known model; they keep products of three within 63 bits. */
enum { HF_MAX_WIDTH = 1 << 20, HF_MAX_COUNT = 1 << 14 };

#define HF_TABLE(table) table, sizeof table / sizeof *table

/* Which layers may have a sliding window: none; with use_sliding_window those from
 * max_window_layers on, or named by layer_types (Qwen2); all, unless sliding_window is null
 * (Mistral). */
enum hf_window { HF_WINDOW_NONE, HF_WINDOW_SWITCHED, HF_WINDOW_ALWAYS };

/* Keys without effect, in config.json and its parts. */
extern const char *const hf_harmless[];

/* In all of these `obj` may be NULL: then every setting is missing. */
bool hf_read_text(const struct hf_reader *r, const cJSON *obj, struct text_config *t,
                  char **unused);

/* The same for a decoder whose RoPE has three axes. `names`, ended by NULL: its model_types, the
 * first of which is the one it gets. */
bool hf_read_axes_text(const struct hf_reader *r, const cJSON *obj, const char *const *names,
                       struct text_config *t, char **unused);

/* "dtype", in older files "torch_dtype"; "" if there is neither. */
bool hf_read_dtype(const struct hf_reader *r, const cJSON *obj, const char **out);

/* Fills t->rope_theta, which must hold its default, t->rope_scaling and t->mrope_section from the
 * text settings `obj`. Needs t's sizes and axes. Adds unused keys of RoPE's object to *unused. */
bool hf_read_rope(const struct hf_reader *r, const cJSON *obj, struct text_config *t,
                  char **unused);

/* Appends the value of eos_token_id (null, a token id below vocab_size, -1 for none, or a list of
 * these) to ids, which has *count entries and room for HF_MAX_EOS. */
bool hf_read_eos(const struct hf_reader *r, const cJSON *v, int64_t vocab_size, int64_t *ids,
                 int *count);

/* Fills t->window from the text settings `obj`; a window in a layer that may not have one is
 * refused. */
bool hf_read_window(const struct hf_reader *r, const cJSON *obj, enum hf_window who,
                    struct text_config *t);

/* Refuses settings that change the meaning of the weights altogether: quantization and the like. */
bool hf_refuse_whole(const struct hf_reader *r, const cJSON *obj);

/* Activations by their names in transformers' ACT2FN. */
extern const struct hf_choice hf_acts[];

bool hf_read_mha2mla(const struct hf_reader *whole, const cJSON *section,
                     const struct text_config *t, bool vision, struct mha2mla_config *m);

/* Replaces c's JSON by `json`, taking it over, and reads everything again; on failure frees it and
 * leaves c unchanged. json = NULL means "out of memory". Line numbers are lost. */
bool hf_config_adopt(struct hf_config *c, cJSON *json, struct err *e);

#endif
