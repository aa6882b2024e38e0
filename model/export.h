/* export.h - what makes a converted model open in transformers, where nobody's code knows it:
 * beside the weights lies model/export/modeling_mha2mla.py, config.json says so in auto_map and
 * architectures, and the object "modeling" of its section "mha2mla" has what that file needs to
 * know and that stands nowhere else. docs/transformers.md is for users.
 *
 * Only where all tensors are: a directory that builds on another one opens here alone. */
#ifndef MODEL_EXPORT_H
#define MODEL_EXPORT_H

#include "model/model.h"

/* The bytes of modeling_mha2mla.py, compiled in by the Makefile. */
extern const unsigned char export_bytes[];
extern const size_t export_size;
#define EXPORT_MODULE "modeling_mha2mla"
#define EXPORT_FILE EXPORT_MODULE ".py"

/* Whether a directory with all tensors of m gets the file: if its attention is converted, and its
 * config has a section. */
bool export_wanted(const struct model *m);

bool export_write(const char *dir, struct err *e);

/* Sets auto_map, architectures and mha2mla.modeling in the root of m's config.json. */
bool export_announce(const struct model *m, struct cJSON *root, struct err *e);

/* Takes back what an earlier export_announce has set, for a copy that may not have the file. */
bool export_withdraw(const struct model *m, struct cJSON *root, struct err *e);

/* Whether an entry of architectures is the file's class for models of that family. */
bool export_is_class(const struct family *f, const char *name);

#endif
