/* product_bf16.c - see product_bf16.h. Six rows of A and a panel of B, 64 columns, give 24 sums of 16
 * that stay in registers while K is walked: a line of the panel is 4 vectors, which are multiplied by
 * a word of each row. K is cut into pieces, so that a panel's piece (32 KiB) stays in the first cache
 * for all rows. */
#include "autograd/product_bf16.h"
#include "base/err.h"

#ifdef __x86_64__
#include <immintrin.h>

enum { VECTORS = PACK_COLS / 16, PIECE = 256 };

bool product_bf16_has(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512bf16");
}

#define TARGET __attribute__((target("avx512f,avx512bw,avx512bf16")))

/* Of 16 columns, the first n. */
TARGET static inline __mmask16 first(int n)
{
    return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

struct target {
    float alpha;
    bool add;
    float *c;
    int64_t ld;
    int cols; /* of the panel, those that are kept */
};

/* `rows` rows of A against `lines` lines of a panel. */
TARGET static inline __attribute__((always_inline)) void
tile(int rows, int64_t lines, struct words a, const uint32_t *b, const struct target *to, float *c)
{
    const __m512 alpha = _mm512_set1_ps(to->alpha);
    __m512 sum[PRODUCT_ROWS][VECTORS];

#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            sum[i][v] = _mm512_setzero_ps();
    for (int64_t k = 0; k < lines; k++, b += PACK_COLS) {
        __m512bh line[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            line[v] = (__m512bh)_mm512_loadu_si512(b + 16 * v);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            __m512bh word = (__m512bh)_mm512_set1_epi32((int)a.data[i * a.row + k * a.pair]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                sum[i][v] = _mm512_dpbf16_ps(sum[i][v], word, line[v]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            float *at = c + i * to->ld + 16 * v;
            __mmask16 keep = first(to->cols - 16 * v);
            __m512 old = to->add ? _mm512_maskz_loadu_ps(keep, at) : _mm512_setzero_ps();
            _mm512_mask_storeu_ps(at, keep, _mm512_fmadd_ps(alpha, sum[i][v], old));
        }
}

/* A panel's piece against all rows, the last ones by a tile of fewer. */
TARGET static void piece(int64_t M, int64_t lines, struct words a, const uint32_t *b,
                         const struct target *to)
{
    float *c = to->c;

    for (; M >= PRODUCT_ROWS;
         M -= PRODUCT_ROWS, a.data += PRODUCT_ROWS * a.row, c += PRODUCT_ROWS * to->ld)
        tile(PRODUCT_ROWS, lines, a, b, to, c);
    switch (M) {
    case 5:
        tile(5, lines, a, b, to, c);
        break;
    case 4:
        tile(4, lines, a, b, to, c);
        break;
    case 3:
        tile(3, lines, a, b, to, c);
        break;
    case 2:
        tile(2, lines, a, b, to, c);
        break;
    case 1:
        tile(1, lines, a, b, to, c);
        break;
    }
}

void product_bf16(int64_t M, int64_t N, int64_t K, float alpha, struct words a, struct panels b,
                  bool add, float *c, int64_t ldc)
{
    int64_t pairs = (K + 1) / 2;

    for (int64_t n = 0; n < N; n += PACK_COLS, b.data += b.step)
        for (int64_t k = 0; k < pairs; k += PIECE / 2) {
            struct words from = {a.data + k * a.pair, a.row, a.pair};
            struct target to = {alpha, add || k > 0, c + n, ldc,
                                (int)(N - n < PACK_COLS ? N - n : PACK_COLS)};
            piece(M, pairs - k < PIECE / 2 ? pairs - k : PIECE / 2, from,
                  (const uint32_t *)(const void *)b.data + k * PACK_COLS, &to);
        }
}
#else
bool product_bf16_has(void)
{
    return false;
}

void product_bf16(int64_t M, int64_t N, int64_t K, float alpha, struct words a, struct panels b,
                  bool add, float *c, int64_t ldc)
{
    CHECK(false);
}
#endif
