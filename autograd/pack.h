/* pack.h - the operands of a bf16 product in the order in which the CPU's instructions read them:
 * as words of two values that follow each other in the sum. Only for a CPU that has them
 * (product_bf16_has). */
#ifndef AUTOGRAD_PACK_H
#define AUTOGRAD_PACK_H

#include "autograd/gemm.h"

/* Rows of a tile of the left operand, columns of a panel of the right one, and values of the sum in
 * a block of either. */
enum { PACK_TILE = 6, PACK_COLS = 64, PACK_ROWS = 32, PACK_PAIRS = PACK_ROWS / 2 };

/* The left operand A[M,K]: tiles of 6 rows one behind the other, a step apart; in a tile blocks of
 * 32 values; in a block 16 words of each row. The last block is filled up with zeros, rows that the
 * last tile lacks are not written. */
struct words {
    const uint32_t *data;
    int64_t step;
};
size_t words_bytes(int64_t M, int64_t K);

/* Converts A, which is real; `to` has words_bytes, aligned to 64. */
struct words pack_left(struct mat a, int64_t M, int64_t K, void *to);
struct words words_of(const void *data, int64_t K);

/* Panels of the right operand, packed; a step is the values from one panel to the next. Fewer
 * columns and rows than were packed may be used. */
struct panels {
    const uint16_t *data;
    int64_t step;
};
size_t pack_bytes(int64_t K, int64_t N);

/* Columns [n0, n0 + N) of B, which has K rows and any dtype but F64: panels of 64 columns one
 * behind the other; in a panel the rows in pairs, and of each pair a word for each column. The last
 * panel and the last 32 rows are filled up with zeros.
 *
 * Both run on all threads, or on the calling one inside a parallel region. */
struct panels pack_right(struct mat b, int64_t K, int64_t n0, int64_t N, void *to);
struct panels panels_of(const void *data, int64_t K);

#endif
