/* product_bf16.c - see product_bf16.h. Six rows of A and a panel of B, 64 columns, give 24 sums of
 * 16 that stay in registers while K is walked: a line of the panel is 4 vectors, which are
 * multiplied by a word of each row. All panels are multiplied by six rows before the next six: so
 * rows of C are written along, and the panels should fit a core's cache. */
#include "autograd/product_bf16.h"
#include "base/err.h"

enum { VECTORS = PACK_COLS / 16 };

/* Where a tile's sums go. */
struct target {
    real alpha;
    const real *row, *matrix; /* added, or NULL: a value for each column; the tile's, with C's ld */
    real *c;
    int64_t ld;
    int cols; /* of the panel, those that are kept */
};

#if defined __x86_64__ && !defined AUTOGRAD_DOUBLE
#include <immintrin.h>

bool product_bf16_has(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bf16");
}

#define TARGET __attribute__((target("avx512f,avx512bw,avx512bf16")))

/* Of 16 columns, the first n. */
TARGET static inline __mmask16 first(int n)
{
    return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

/* A row's sums; `whole`: all columns are kept. */
TARGET static inline __attribute__((always_inline)) void
store(const struct target *to, int64_t at, const __m512 sum[VECTORS], bool whole)
{
    const __m512 alpha = _mm512_set1_ps(to->alpha);

#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
        const int64_t i = at + 16 * v;
        const __mmask16 keep = whole ? 0xffff : first(to->cols - 16 * v);
        __m512 old = _mm512_setzero_ps();
        if (to->matrix) old = _mm512_maskz_loadu_ps(keep, to->matrix + i);
        if (to->row) old = _mm512_add_ps(old, _mm512_maskz_loadu_ps(keep, to->row + 16 * v));
        old = _mm512_fmadd_ps(alpha, sum[v], old);
        if (whole)
            _mm512_storeu_ps(to->c + i, old);
        else
            _mm512_mask_storeu_ps(to->c + i, keep, old);
    }
}

/* `rows` rows of A against `pairs` lines of a panel. What the sums are added
 * to is fetched early. */
TARGET static inline __attribute__((always_inline)) void tile(int rows, int64_t pairs,
                                                              const uint32_t *a, const uint32_t *b,
                                                              const struct target *to, bool whole)
{
    __m512 sum[PACK_TILE][VECTORS];

#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            sum[i][v] = _mm512_setzero_ps();
            __builtin_prefetch(to->c + i * to->ld + 16 * v, 1);
        }
    for (int64_t k = 0; k < pairs; k += PACK_PAIRS, a += PACK_TILE * PACK_PAIRS) {
        const uint32_t *word = a, *end = a + (pairs - k < PACK_PAIRS ? pairs - k : PACK_PAIRS);
        for (; word < end; word++, b += PACK_COLS) {
            __m512bh line[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++)
                line[v] = (__m512bh)_mm512_load_si512(b + 16 * v);
#pragma GCC unroll 6
            for (int i = 0; i < rows; i++) {
                __m512bh pair = (__m512bh)_mm512_set1_epi32((int)word[i * PACK_PAIRS]);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    sum[i][v] = _mm512_dpbf16_ps(sum[i][v], pair, line[v]);
            }
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
        store(to, i * to->ld, sum[i], whole);
}

/* The same for the last tile's rows, and for panels that lack columns. */
TARGET static void odd_tile(int64_t rows, int64_t pairs, const uint32_t *a, const uint32_t *b,
                            const struct target *to)
{
    switch (rows) {
#define ROWS(n)                                                                                    \
    case n:                                                                                        \
        tile(n, pairs, a, b, to, false);                                                           \
        break;
        ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#undef ROWS
    }
}

/* A tile against a panel. */
TARGET static void multiply(int64_t rows, int64_t pairs, const uint32_t *a, const uint32_t *b,
                            const struct target *to)
{
    if (rows >= PACK_TILE && to->cols >= PACK_COLS)
        tile(PACK_TILE, pairs, a, b, to, true);
    else
        odd_tile(rows < PACK_TILE ? rows : PACK_TILE, pairs, a, b, to);
}

#else
bool product_bf16_has(void)
{
    return false;
}

static void multiply(int64_t rows, int64_t pairs, const uint32_t *a, const uint32_t *b,
                     const struct target *to)
{
    CHECK(rows < 0 && pairs < 0 && !a && !b && !to); /* nobody comes here */
}
#endif

void product_bf16(int64_t M, int64_t N, int64_t K, real alpha, struct words a, struct panels b,
                  struct base base, real *c, int64_t ldc)
{
    for (int64_t m = 0; m < M; m += PACK_TILE, a.data += a.step)
        for (int64_t n = 0; n < N; n += PACK_COLS) {
            const uint16_t *panel = b.data + n / PACK_COLS * b.step;
            multiply(M - m, (K + 1) / 2, a.data, (const uint32_t *)(const void *)panel,
                     &(struct target){.alpha = alpha,
                                      .row = base.row ? base.row + n : NULL,
                                      .matrix = base.matrix ? base.matrix + m * ldc + n : NULL,
                                      .c = c + m * ldc + n,
                                      .ld = ldc,
                                      .cols = (int)(N - n < PACK_COLS ? N - n : PACK_COLS)});
        }
}
