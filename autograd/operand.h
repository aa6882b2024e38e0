/* operand.h - serial matrix products that share operands, in the precision of gemm_setup. */
#ifndef AUTOGRAD_OPERAND_H
#define AUTOGRAD_OPERAND_H

#include "autograd/gemm.h"
#include "autograd/pack.h"

/* In fp32 an operand is the matrix itself. In bf16 it is a copy in `room`, which has operand_bytes
 * of the matrix' rows and columns, aligned to 64 bytes, and lasts as long; `fill` false: it is
 * there from an earlier call with the same sizes. */
struct operand {
    struct mat m;
    struct words words;   /* of the left one and */
    struct panels panels; /* of the right one, if packed */
};
size_t operand_bytes(int64_t rows, int64_t cols);
struct operand operand_left(struct mat a, int64_t M, int64_t K, void *room, bool fill);
struct operand operand_right(struct mat b, int64_t K, int64_t N, void *room, bool fill);

/* C[M,N] = alpha A B + (add ? C : 0) on the calling thread. Of both operands the first rows and
 * columns are used, so that K may be smaller than that of a right operand, and N
 * and M than theirs. */
void gemm_operands(int64_t M, int64_t N, int64_t K, real alpha, struct operand a, struct operand b,
                   bool add, real *c, int64_t ldc);

#endif
