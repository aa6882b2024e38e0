/* hfconfig_parts.h - what the files hfconfig*.c share, and nobody else
 * needs. */
#ifndef MODEL_HFCONFIG_PARTS_H
#define MODEL_HFCONFIG_PARTS_H

#include "model/hfconfig.h"
#include "model/hfjson.h"

/* Limits are far above any known model; they keep products of three within 63 bits. */
enum { HF_MAX_WIDTH = 1 << 20, HF_MAX_COUNT = 1 << 14 };

#define HF_TABLE(table) table, sizeof table / sizeof *table

/* In all of these `obj` may be NULL: everything is left out. */
bool hf_read_text(const struct hf_reader *r, const cJSON *obj, struct text_config *t);

/* "dtype", in older files "torch_dtype"; "" where there is neither. */
bool hf_read_dtype(const struct hf_reader *r, const cJSON *obj, const char **out);

/* Fills t->rope_theta and t->rope_scaling from the text settings `obj`. Needs t's sizes. */
bool hf_read_rope(const struct hf_reader *r, const cJSON *obj, struct text_config *t);

bool hf_read_mha2mla(const char *file, const cJSON *section, const struct text_config *t,
                     bool vision, struct mha2mla_config *m, struct err *e);

/* Takes `json` over in place of c's and reads everything again; on failure frees it and leaves c as
 * it was. json = NULL stands for "out of memory". */
bool hf_config_adopt(struct hf_config *c, cJSON *json, struct err *e);

#endif
