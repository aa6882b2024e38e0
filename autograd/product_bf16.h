/* product_bf16.h - matrix products by AVX-512's instructions for bf16, from packed operands. */
#ifndef AUTOGRAD_PRODUCT_BF16_H
#define AUTOGRAD_PRODUCT_BF16_H

#include "autograd/pack.h"

/* Rows of A that are multiplied at a time; fewer keep the CPU less busy. */
enum { PRODUCT_ROWS = 6 };

/* Whether this CPU has the instructions. */
bool product_bf16_has(void);

/* C[M,N] = alpha A[M,K] B[K,N] + (add ? C : 0) in fp32 on the calling thread, from pack_left's A and
 * pack_right's B. The order of the sums depends on K alone. */
void product_bf16(int64_t M, int64_t N, int64_t K, float alpha, struct words a, struct panels b,
                  bool add, float *c, int64_t ldc);

#endif
