/* blocks_parts.h - what blocks.c and blocks_factor.c share. */
#ifndef CONVERT_BLOCKS_PARTS_H
#define CONVERT_BLOCKS_PARTS_H

#include "convert/blocks.h"

/* a[rows, m] becomes a R, or a R^T; room [rows, m]. */
void blocks_by_root(const struct blocks *b, double *a, int64_t rows, bool transposed, double *room);

#endif
