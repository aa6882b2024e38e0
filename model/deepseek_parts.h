/* deepseek_parts.h - what deepseek.c and deepseek_tensors.c share. */
#ifndef MODEL_DEEPSEEK_PARTS_H
#define MODEL_DEEPSEEK_PARTS_H

#include "model/deepseek.h"

/* Which component of a layer's rotated key goes where in the one that all layers have. */
struct deepseek_layout {
    const struct model *m;
    int64_t places; /* R / 2: pairs of the rotated key */
    int32_t *pair;  /* [places] whose frequency each has, ascending */
    int32_t *from;  /* [L, places] which of the layer's components it has; -1: none */
};

bool deepseek_write_tensors(const struct deepseek_layout *y, const char *dir, struct err *e);

#endif
