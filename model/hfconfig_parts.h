/* hfconfig_parts.h - what hfconfig.c, hfconfig_rope.c and hfconfig_mha2mla.c share, and nobody else
 * needs. */
#ifndef MODEL_HFCONFIG_PARTS_H
#define MODEL_HFCONFIG_PARTS_H

#include "model/hfconfig.h"
#include "model/hfjson.h"

/* Fills t->rope_theta and t->rope_scaling from the text settings `obj` (NULL: all defaults). Needs
 * t's sizes. */
bool hf_read_rope(const struct hf_reader *r, const cJSON *obj, struct text_config *t);

bool hf_read_mha2mla(const char *file, const cJSON *section, const struct text_config *t,
                     struct mha2mla_config *m, struct err *e);

/* Takes `json` over in place of c's and reads everything again; on failure frees it and leaves c as
 * it was. json = NULL stands for "out of memory". */
bool hf_config_adopt(struct hf_config *c, cJSON *json, struct err *e);

#endif
