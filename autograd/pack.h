/* pack.h - the operands of a bf16 product in the order in which the CPU's instructions read them: as
 * words of two values that follow each other in the sum. */
#ifndef AUTOGRAD_PACK_H
#define AUTOGRAD_PACK_H

#include "autograd/gemm.h"

/* The left operand A[M,K]: the word of row m and of the values 2 i and 2 i + 1 is at
 * data[m * row + i * pair]. If K is odd, a last 0 makes the pair. */
struct words {
    const uint32_t *data;
    int64_t row, pair;
};
size_t words_bytes(int64_t M, int64_t K);

/* Converts A, which is real; `to` has words_bytes, and words_of says how they lie. */
struct words pack_left(struct mat a, int64_t M, int64_t K, void *to);

static inline struct words words_of(const void *data, int64_t M, int64_t K, bool trans)
{
    int64_t pairs = (K + 1) / 2;

    return (struct words){data, trans ? 1 : pairs, trans ? M : 1};
}

/* n values of a matrix of any dtype but F64, from element `at` on, as bf16: in `room`, which has that
 * many, or where they are if that is their dtype. */
const uint16_t *pack_values(const struct mat *m, int64_t at, int64_t n, uint16_t *room);

/* Columns of a panel of the right operand, and rows of a block in it. */
enum { PACK_COLS = 64, PACK_ROWS = 32 };

/* Panels of the right operand, packed; a step is the values from one panel to the next. Fewer columns
 * and rows than were packed may be used. */
struct panels {
    const uint16_t *data;
    int64_t step;
};
size_t pack_bytes(int64_t K, int64_t N);

/* Columns [n0, n0 + N) of B, which has K rows and any dtype but F64: panels of 64 columns one behind
 * the other; in a panel the rows in pairs, and of each pair a word for each column. The last panel
 * and the last 32 rows are filled up with zeros.
 *
 * Both run on all threads, or on the calling one inside a parallel region. */
struct panels pack_right(struct mat b, int64_t K, int64_t n0, int64_t N, void *to);
struct panels panels_of(const void *data, int64_t K);

#endif
