/* pack.c - see pack.h. A block of 32 rows and 64 columns of B is 16 lines of 64 words: a line
 * multiplies two rows, with one instruction per 16 columns. Where B is stored by columns, memory
 * holds the words already, and the block is their transpose. */
#include "autograd/pack.h"
#include "base/bf16.h"
#include "base/err.h"

#include <string.h>

#if defined __x86_64__ && !defined AUTOGRAD_DOUBLE
#include <immintrin.h>
#define NATIVE
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#else
#define TARGET
#endif

enum { LINES = PACK_PAIRS, BLOCK = PACK_ROWS * PACK_COLS, WORDS = PACK_TILE * PACK_PAIRS };
enum { AHEAD = 8 * PACK_ROWS }; /* values of a column that are asked for before they are packed */

struct words words_of(const void *data, int64_t K)
{
    return (struct words){data, (K + PACK_ROWS - 1) / PACK_ROWS * WORDS};
}

size_t words_bytes(int64_t M, int64_t K)
{
    return (size_t)((M + PACK_TILE - 1) / PACK_TILE * words_of(NULL, K).step) * sizeof(uint32_t);
}

struct panels panels_of(const void *data, int64_t K)
{
    return (struct panels){data, (K + PACK_ROWS - 1) / PACK_ROWS * BLOCK};
}

size_t pack_bytes(int64_t K, int64_t N)
{
    return (size_t)((N + PACK_COLS - 1) / PACK_COLS * panels_of(NULL, K).step) * sizeof(uint16_t);
}

/* The CPU's instruction rounds as bf16_from_f32 does, but takes subnormal values for zeros, as do
 * its products. */
TARGET static inline void to_bf16(const float *from, int64_t n, uint16_t *to)
{
    int64_t i = 0;

#ifdef NATIVE
    for (; i + 16 <= n; i += 16) {
        const __m256bh x = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
        memcpy(to + i, &x, sizeof x);
    }
#endif
    for (; i < n; i++)
        to[i] = bf16_from_f32(from[i]);
}

/* As mat_bf16, which has the dtypes that are rare here. */
TARGET static inline const uint16_t *values_of(const struct mat *b, int64_t at, int64_t n,
                                               uint16_t *room)
{
    if (b->dtype == DT_BF16) return (const uint16_t *)b->data + at;
    if (b->dtype != DT_F32) return mat_bf16(b, at, n, room);
    to_bf16((const float *)b->data + at, n, room);
    return room;
}

/* Words of two rows: low[j] and high[j] side by side. */
TARGET static void pair_rows(const uint16_t *low, const uint16_t *high, int64_t n, uint32_t *to)
{
    for (int64_t j = 0; j < n; j++)
        to[j] = low[j] | (uint32_t)high[j] << 16;
}

/* Rows k.. k + 32 of the columns n.. n + cols, stored by rows. */
TARGET static inline void rows_block(const struct mat *b, int64_t k, int64_t rows, int64_t n,
                                     int64_t cols, uint32_t (*to)[PACK_COLS])
{
    static const uint16_t zeros[PACK_COLS];
    uint16_t room[2][PACK_COLS];
    const size_t size = dtype_size(b->dtype);

    for (int64_t i = 0; i < rows; i++) /* the next panel of these rows */
        for (size_t byte = 0; byte < PACK_COLS * size; byte += 64)
            __builtin_prefetch((const char *)b->data +
                               (size_t)((k + i) * b->ld + n + PACK_COLS) * size + byte);
    for (int64_t i = 0; 2 * i < rows; i++) {
        int64_t at = (k + 2 * i) * b->ld + n;
        const uint16_t *low = values_of(b, at, cols, room[0]);
        pair_rows(low, 2 * i + 1 < rows ? values_of(b, at + b->ld, cols, room[1]) : zeros, cols,
                  to[i]);
    }
}

/* Lines of 16 words: of word j and the one `step` on, those that change places
 * between two lines. */
typedef uint32_t line __attribute__((vector_size(64)));
#define LOW(step, j) ((j) & (step) ? 16 + (j) - (step) : (j))
#define HIGH(step, j) ((j) & (step) ? 16 + (j) : (j) + (step))
#define EACH(WORD, step)                                                                           \
    WORD(step, 0), WORD(step, 1), WORD(step, 2), WORD(step, 3), WORD(step, 4), WORD(step, 5),      \
        WORD(step, 6), WORD(step, 7), WORD(step, 8), WORD(step, 9), WORD(step, 10),                \
        WORD(step, 11), WORD(step, 12), WORD(step, 13), WORD(step, 14), WORD(step, 15)
#define EXCHANGE(step)                                                                             \
    for (int i = 0; i < 16; i++) {                                                                 \
        if (i & (step)) continue;                                                                  \
        line low = __builtin_shufflevector(x[i], x[i + (step)], EACH(LOW, step));                  \
        x[i + (step)] = __builtin_shufflevector(x[i], x[i + (step)], EACH(HIGH, step));            \
        x[i] = low;                                                                                \
    }

TARGET static inline void transpose(line x[16]){EXCHANGE(1) EXCHANGE(2) EXCHANGE(4) EXCHANGE(8)}

/* A block of 16 columns, stored as such: 16 words of each of its lines. Of each column the values
 * that lie `ahead` of these are asked for. */
TARGET static inline void columns_block(const struct mat *b, int64_t at, int64_t rows, int64_t cols,
                                        int64_t ahead, uint32_t (*to)[PACK_COLS])
{
    const size_t size = dtype_size(b->dtype);
    uint16_t room[PACK_ROWS];
    line x[LINES] = {0};

    for (int64_t j = 0; j < cols; j++) {
        const uint16_t *from = values_of(b, at + j * b->ld, rows, room);
        const char *soon = (const char *)b->data + (size_t)(at + j * b->ld + ahead) * size;
        for (size_t byte = 0; byte < PACK_ROWS * size; byte += 64)
            __builtin_prefetch(soon + byte);
        if (rows == PACK_ROWS)
            memcpy(&x[j], from, sizeof x[j]); /* one instruction */
        else
            memcpy(&x[j], from, (size_t)rows * sizeof *from);
    }
    transpose(x);
    for (int64_t i = 0; i < LINES; i++)
        memcpy(to[i], &x[i], sizeof x[i]);
}
/* Block k of the rows of a tile. */
TARGET static void left_rows(const struct mat *a, int64_t m, int64_t rows, int64_t k, int64_t n,
                             uint32_t (*to)[PACK_PAIRS])
{
    for (int64_t i = 0; i < rows; i++) {
        const float *from = (const float *)a->data + (m + i) * a->ld + k;
        uint16_t *values = (uint16_t *)to[i];
        if (n == PACK_ROWS)
            to_bf16(from, PACK_ROWS, values);
        else {
            to_bf16(from, n, values);
            memset(values + n, 0, (size_t)(PACK_ROWS - n) * sizeof *values);
        }
    }
}

/* Block k of up to 16 rows, of a matrix that is stored by columns: `to` is the
 * tiles' first word. */
TARGET static void left_columns(const struct mat *a, int64_t m, int64_t rows, int64_t k, int64_t n,
                                struct words w, uint32_t *to)
{
    static const float zeros[LINES];
    uint16_t low[LINES] = {0}, high[LINES] = {0};
    line x[LINES] = {0};

    for (int64_t i = 0; 2 * i < n; i++) {
        const float *from = (const float *)a->data + (k + 2 * i) * a->ld + m;
        const float *next = 2 * i + 1 < n ? from + a->ld : zeros;
        if (rows == LINES) {
            to_bf16(from, LINES, low);
            to_bf16(next, LINES, high);
        } else {
            to_bf16(from, rows, low);
            to_bf16(next, rows, high);
        }
        pair_rows(low, high, LINES, (uint32_t *)&x[i]);
    }
    transpose(x);
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + (m + i) / PACK_TILE * w.step + k / PACK_ROWS * WORDS +
                   (m + i) % PACK_TILE * PACK_PAIRS,
               &x[i], sizeof x[i]);
}

TARGET struct words pack_left(struct mat a, int64_t M, int64_t K, void *to)
{
    const struct words w = words_of(to, K);
    int64_t step = a.trans ? LINES : PACK_TILE;

    CHECK(a.dtype == DT_F32);
#pragma omp parallel for schedule(static) if (M * K > 1 << 15)
    for (int64_t m = 0; m < M; m += step) {
        int64_t rows = M - m < step ? M - m : step;
        for (int64_t k = 0; k < K; k += PACK_ROWS) {
            int64_t n = K - k < PACK_ROWS ? K - k : PACK_ROWS;
            if (a.trans)
                left_columns(&a, m, rows, k, n, w, to);
            else
                left_rows(
                    &a, m, rows, k, n,
                    (void *)((uint32_t *)to + m / PACK_TILE * w.step + k / PACK_ROWS * WORDS));
        }
    }
    return w;
}

/* Part i of B: a block of its rows for all columns, or 16 of its columns for all rows, so that
 * memory is read in a few long lines. */
TARGET static void rows_part(const struct mat *b, int64_t K, int64_t n0, int64_t N, int64_t i,
                             uint16_t *to)
{
    const int64_t step = panels_of(NULL, K).step, k = i * PACK_ROWS;
    const int64_t rows = K - k < PACK_ROWS ? K - k : PACK_ROWS;

    for (int64_t n = 0; n < N; n += PACK_COLS) {
        int64_t cols = N - n < PACK_COLS ? N - n : PACK_COLS;
        void *block = to + n / PACK_COLS * step + i * BLOCK;
        if (rows < PACK_ROWS || cols < PACK_COLS) memset(block, 0, BLOCK * sizeof *to);
        rows_block(b, k, rows, n0 + n, cols, block);
    }
}

TARGET static void columns_part(const struct mat *b, int64_t K, int64_t n0, int64_t N, int64_t i,
                                uint16_t *to)
{
    const int64_t step = panels_of(NULL, K).step, n = i * LINES;
    const int64_t cols = N - n <= 0 ? 0 : N - n < LINES ? N - n : LINES;
    uint32_t(*block)[PACK_COLS] = (void *)(to + n / PACK_COLS * step + n % PACK_COLS * 2);

    for (int64_t k = 0; k < K; k += PACK_ROWS, block += LINES) {
        const int64_t ahead = k + AHEAD < K ? AHEAD : LINES * b->ld + AHEAD - K; /* the next 16 */
        columns_block(b, (n0 + n) * b->ld + k, K - k < PACK_ROWS ? K - k : PACK_ROWS, cols, ahead,
                      block);
    }
}

TARGET struct panels pack_right(struct mat b, int64_t K, int64_t n0, int64_t N, void *to)
{
    int64_t panels = (N + PACK_COLS - 1) / PACK_COLS;
    int64_t parts = b.trans ? panels * (PACK_COLS / LINES) : (K + PACK_ROWS - 1) / PACK_ROWS;

    CHECK(b.dtype != DT_F64);
#pragma omp parallel for schedule(static) if (K * N > 1 << 15)
    for (int64_t i = 0; i < parts; i++)
        (b.trans ? columns_part : rows_part)(&b, K, n0, N, i, to);
    return panels_of(to, K);
}
