/* latents.h - how wide each layer's latent is, where they differ (svd.ranks), in config.json:
 * `latents` of the object "mha2mla", a number for each layer. Without it all are as
 * wide as the first. */
#ifndef MODEL_LATENTS_H
#define MODEL_LATENTS_H

#include "model/model.h"

struct cJSON;

/* Of a model whose method and latent are those of its first layer. The tensors' shapes are checked
 * against it where they are read. */
bool model_open_latents(struct model *m, struct err *e);

struct cJSON *model_latents_json(const struct model *m); /* NULL if out of memory */

#endif
