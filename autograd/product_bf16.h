/* product_bf16.h - matrix products by AVX-512's instructions for bf16, from packed operands. */
#ifndef AUTOGRAD_PRODUCT_BF16_H
#define AUTOGRAD_PRODUCT_BF16_H

#include "autograd/pack.h"

/* Whether this CPU has the instructions. The double build never does. */
bool product_bf16_has(void);

/* C[M,N] = alpha A[M,K] B[K,N] + base in fp32 on the calling thread, from pack_left's A and
 * pack_right's B; base.matrix has C's ld. The order of the sums depends on K alone. */
void product_bf16(int64_t M, int64_t N, int64_t K, real alpha, struct words a, struct panels b,
                  struct base base, real *c, int64_t ldc);

#endif
