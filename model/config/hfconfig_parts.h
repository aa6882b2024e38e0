/* hfconfig_parts.h - what the files hfconfig*.c and hfgeneration.c share, and nobody else needs. */
#ifndef MODEL_CONFIG_HFCONFIG_PARTS_H
#define MODEL_CONFIG_HFCONFIG_PARTS_H

#include "model/config/hfconfig.h"
#include "model/files/hfjson.h"

/* Limits are far above any known model; they keep products of three within 63 bits. */
enum { HF_MAX_WIDTH = 1 << 20, HF_MAX_COUNT = 1 << 14 };

#define HF_TABLE(table) table, sizeof table / sizeof *table

/* Who has a sliding window: nobody; layers that are named, where use_sliding_window is true (Qwen2);
 * all layers, unless sliding_window is null (Mistral). */
enum hf_window { HF_WINDOW_NONE, HF_WINDOW_SWITCHED, HF_WINDOW_ALWAYS };

/* Keys that change nothing, in config.json and its parts. */
extern const char *const hf_harmless[];

/* In all of these `obj` may be NULL: everything is left out. */
bool hf_read_text(const struct hf_reader *r, const cJSON *obj, struct text_config *t,
                  char **unused);

/* The same for Qwen2.5-VL's decoder, whose RoPE has three axes. */
bool hf_read_qwen_text(const struct hf_reader *r, const cJSON *obj, struct text_config *t,
                       char **unused);

/* "dtype", in older files "torch_dtype"; "" where there is neither. */
bool hf_read_dtype(const struct hf_reader *r, const cJSON *obj, const char **out);

/* Fills t->rope_theta, which holds the default, t->rope_scaling and t->mrope_section from the text
 * settings `obj`. Needs t's sizes and axes. Adds to
 * *unused what RoPE's object says for nobody. */
bool hf_read_rope(const struct hf_reader *r, const cJSON *obj, struct text_config *t,
                  char **unused);

/* Appends the value of eos_token_id (null, a token id below vocab_size, -1 for none, or a list of
 * such) to ids, of which there are *count, at most HF_MAX_EOS. */
bool hf_read_eos(const struct hf_reader *r, const cJSON *v, int64_t vocab_size, int64_t *ids,
                 int *count);

/* Fills t->window from the text settings `obj`; refuses layers that have one where none can. */
bool hf_read_window(const struct hf_reader *r, const cJSON *obj, enum hf_window who,
                    struct text_config *t);

/* Refuses what changes the meaning of the weights as a whole: quantization and the like. */
bool hf_refuse_whole(const struct hf_reader *r, const cJSON *obj);

/* Activations by the names of transformers' ACT2FN. */
extern const struct hf_choice hf_acts[];

bool hf_read_mha2mla(const struct hf_reader *whole, const cJSON *section,
                     const struct text_config *t, bool vision, struct mha2mla_config *m);

/* Takes `json` over in place of c's and reads everything again; on failure frees it and leaves c as
 * it was. json = NULL stands for "out of memory". The lines of the file are forgotten. */
bool hf_config_adopt(struct hf_config *c, cJSON *json, struct err *e);

#endif
