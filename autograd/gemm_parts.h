/* gemm_parts.h - what the files of gemm.h share. */
#ifndef AUTOGRAD_GEMM_PARTS_H
#define AUTOGRAD_GEMM_PARTS_H

#include "autograd/gemm.h"

/* The operand starting at element (row, col) of the matrix as read, i.e. after transposition. */
static inline struct mat mat_at(struct mat m, int64_t row, int64_t col)
{
    int64_t at = m.trans ? col * m.ld + row : row * m.ld + col;

    m.data = (const char *)m.data + (size_t)at * dtype_size(m.dtype);
    return m;
}

/* What is added from the element (row, col) of C on. */
static inline struct base base_at(struct base base, int64_t row, int64_t col, int64_t ldc)
{
    if (base.row) base.row += col;
    if (base.matrix) base.matrix += row * ldc + col;
    return base;
}

/* Where part i of `parts` of n begins: all but the last have whole steps. */
static inline int64_t part_begin(int64_t n, int64_t parts, int64_t i, int64_t step)
{
    int64_t at = (n * i / parts + step - 1) / step * step;

    return i == parts || at > n ? n : at;
}

static inline size_t aligned(int64_t count, size_t size)
{
    return ((size_t)count * size + 63) & ~(size_t)63;
}

/* gemm_onto for M and K of at least 1, from operands that are packed (pack.h) by the CPU's
 * instructions for bf16; the scratch is aligned to 64. */
void gemm_packed(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, struct base base,
                 real *c, int64_t ldc, void *scratch);
size_t gemm_packed_scratch(int64_t M, int64_t N, int64_t K);

#endif
