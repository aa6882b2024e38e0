/* narrow_bf16.h - the products of narrow.h by AVX-512's instructions for bf16, which multiply two
 * values at a time that follow each other in a sum: a pair is a word. Sums are fp32. Only where
 * product_bf16_has(); all by the calling thread, but for dots. */
#ifndef AUTOGRAD_NARROW_BF16_H
#define AUTOGRAD_NARROW_BF16_H

#include "autograd/narrow.h"

/* Columns of a row of words that is rounded here: n, and zeros up to whole vectors. */
enum { BF16_STEP = 32 };
static inline int64_t bf16_columns(int64_t n)
{
    return (n + BF16_STEP - 1) / BF16_STEP * BF16_STEP;
}

/* Rounds n values to nearest even. */
void bf16_row(const real *x, int64_t n, uint16_t *to);

/* narrow_dots' product of A's rows that bf16_words has rounded, in parts of BF16_DEEP columns:
 * of a part all rows, so that they don't share places in L1. */
enum { BF16_DEEP = 1024 };
static inline size_t bf16_words_count(int64_t M, int64_t K)
{
    return (size_t)(M * ((K + BF16_DEEP - 1) / BF16_DEEP * BF16_DEEP));
}
void bf16_words(const struct narrow_dots *p, uint16_t *to);
void bf16_dots(const struct narrow_dots *p, const uint16_t *words);
/* Columns [j, j + N) alone, by the calling thread. */
void bf16_dots_part(const struct narrow_dots *p, const uint16_t *words, int64_t j, int64_t N);

/* narrow_scores, with q rounded to `words` [heads, width]; rows are bf16. */
void bf16_scores(const struct narrow_heads *p, const uint16_t *words);

/* Two rows as one row of words, (n + 1) / 2 of them, bf16_columns(width) apart; a row without a
 * second has zeros there. */
void bf16_pairs(const uint16_t *rows, int64_t ld, int64_t n, int64_t width, uint32_t *to);

/* narrow_values, of bf16 rows, with the scores rounded to pairs [(keys + 1) / 2, heads]. */
void bf16_values(const struct narrow_heads *p, const uint32_t *pairs);

/* C[M,N] = alpha A B (+ C): K values of A in pairs, of which those of a row are `step` bytes apart
 * and rows `row` bytes; B by pairs of rows, ldb words apart. An element's sum has an order that
 * depends on K alone. Bytes from `next` on, which are read next, are fetched on the way. */
struct bf16_sums {
    int64_t M, N, K;
    const void *a;
    int64_t row, step;
    const uint32_t *b;
    int64_t ldb;
    real alpha;
    bool add;
    real *c;
    int64_t ldc;
    const void *next;
    int64_t next_bytes;
};
void bf16_sums(const struct bf16_sums *p);

#endif
