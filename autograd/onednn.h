/* onednn.h - oneDNN's matrix products, row-major: what gemm.c uses where they are faster. */
#ifndef AUTOGRAD_ONEDNN_H
#define AUTOGRAD_ONEDNN_H

#include <stdbool.h>
#include <stdint.h>

/* Whether this CPU multiplies bf16 itself. If not, oneDNN has no bf16 product,
 * or only a slow one. */
bool onednn_has_bf16(void);

/* Whether it multiplies bf16 by tiles (AMX), several times as fast as by vectors. */
bool onednn_has_amx(void);

/* c[M,N] = alpha op(a) op(b) + (add ? c : 0), on the calling thread when inside
 * a parallel region. */
void onednn_sgemm(int64_t M, int64_t N, int64_t K, float alpha, const float *a, int64_t lda,
                  bool ta, const float *b, int64_t ldb, bool tb, bool add, float *c, int64_t ldc);

/* The same for bf16 matrices with alpha 1, summed in fp32, on all threads; call it outside parallel
 * regions and from one thread only: prepared products are cached by shape. */
void onednn_bf16_gemm(int64_t M, int64_t N, int64_t K, const uint16_t *a, int64_t lda, bool ta,
                      const uint16_t *b, int64_t ldb, bool tb, bool add, float *c, int64_t ldc);

#endif
