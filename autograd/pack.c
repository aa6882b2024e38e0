/* pack.c - see pack.h. A block of 32 rows and 64 columns of B is 16 lines of 64 words: a line
 * multiplies two rows, with one instruction per 16 columns. Where B is stored by columns, memory holds
 * the words already, and the block is their transpose. */
#include "autograd/pack.h"
#include "base/bf16.h"
#include "base/err.h"

#include <string.h>

enum { LINES = PACK_ROWS / 2, BLOCK = PACK_ROWS * PACK_COLS };
enum { AHEAD = 4 * PACK_ROWS }; /* of a column, fetched early: more columns than a CPU follows */

size_t words_bytes(int64_t M, int64_t K)
{
    return (size_t)(M * ((K + 1) / 2)) * sizeof(uint32_t);
}

struct panels panels_of(const void *data, int64_t K)
{
    return (struct panels){data, (K + PACK_ROWS - 1) / PACK_ROWS * BLOCK};
}

size_t pack_bytes(int64_t K, int64_t N)
{
    return (size_t)((N + PACK_COLS - 1) / PACK_COLS * panels_of(NULL, K).step) * sizeof(uint16_t);
}

static void to_bf16(const float *from, int64_t n, uint16_t *to)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = bf16_from_f32(from[i]);
}

const uint16_t *pack_values(const struct mat *b, int64_t at, int64_t n, uint16_t *room)
{
    const float *f32 = b->data;
    const uint16_t *f16 = b->data;

    if (b->dtype == DT_BF16) return f16 + at;
    if (b->dtype == DT_F16)
        for (int64_t i = 0; i < n; i++)
            room[i] = bf16_from_f32(f16_to_f32(f16[at + i]));
    else
        to_bf16(f32 + at, n, room);
    return room;
}

/* Words of two rows: low[j] and high[j] side by side. */
static void pair_rows(const uint16_t *low, const uint16_t *high, int64_t n, uint32_t *to)
{
    for (int64_t j = 0; j < n; j++)
        to[j] = low[j] | (uint32_t)high[j] << 16;
}

/* Line i of a left operand that is stored by columns, so by lines of M values of one k. */
static void left_pair(const struct mat *a, int64_t M, int64_t K, int64_t i, uint32_t *to)
{
    enum { PIECE = 256 };
    uint16_t low[PIECE], high[PIECE] = {0};
    const float *from = (const float *)a->data + 2 * i * a->ld;

    for (int64_t m = 0; m < M; m += PIECE) {
        int64_t n = M - m < PIECE ? M - m : PIECE;
        to_bf16(from + m, n, low);
        if (2 * i + 1 < K) to_bf16(from + a->ld + m, n, high);
        pair_rows(low, high, n, to + m);
    }
}

struct words pack_left(struct mat a, int64_t M, int64_t K, void *to)
{
    int64_t pairs = (K + 1) / 2, lines = a.trans ? pairs : M;
    uint16_t *values = to;

    CHECK(a.dtype == DT_F32);
#pragma omp parallel for schedule(static) if (M * K > 1 << 15)
    for (int64_t i = 0; i < lines; i++)
        if (a.trans)
            left_pair(&a, M, K, i, (uint32_t *)to + i * M);
        else {
            to_bf16((const float *)a.data + i * a.ld, K, values + i * 2 * pairs);
            if (K % 2) values[i * 2 * pairs + K] = 0;
        }
    return words_of(to, M, K, a.trans);
}

/* Rows k.. k + 32 of the columns n.. n + cols, stored by rows. */
static void rows_block(const struct mat *b, int64_t k, int64_t rows, int64_t n, int64_t cols,
                       uint32_t (*to)[PACK_COLS])
{
    static const uint16_t zeros[PACK_COLS];
    uint16_t room[2][PACK_COLS];
    const size_t size = dtype_size(b->dtype);

    for (int64_t i = 0; i < rows; i++) /* the next panel of these rows */
        for (size_t line = 0; line < PACK_COLS * size; line += 64)
            __builtin_prefetch((const char *)b->data +
                               (size_t)((k + i) * b->ld + n + PACK_COLS) * size + line);
    for (int64_t i = 0; 2 * i < rows; i++) {
        int64_t at = (k + 2 * i) * b->ld + n;
        const uint16_t *low = pack_values(b, at, cols, room[0]);
        pair_rows(low, 2 * i + 1 < rows ? pack_values(b, at + b->ld, cols, room[1]) : zeros, cols,
                  to[i]);
    }
}

/* Lines of 16 words: of word j and the one `step` on, those that change places between two lines. */
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

static inline void transpose(line x[16])
{
    EXCHANGE(1)
    EXCHANGE(2)
    EXCHANGE(4)
    EXCHANGE(8)
}

/* The same, stored by columns. */
static void columns_block(const struct mat *b, int64_t k, int64_t rows, int64_t n, int64_t cols,
                          uint32_t (*to)[PACK_COLS])
{
    uint16_t room[PACK_ROWS];

    for (int64_t j0 = 0; j0 < cols; j0 += LINES) {
        int64_t most = cols - j0 < LINES ? cols - j0 : LINES;
        line x[LINES] = {0};
        for (int64_t j = 0; j < most; j++) {
            const uint16_t *from = pack_values(b, (n + j0 + j) * b->ld + k, rows, room);
            __builtin_prefetch(from + AHEAD);
            if (rows == PACK_ROWS)
                memcpy(&x[j], from, sizeof x[j]); /* one instruction */
            else
                memcpy(&x[j], from, (size_t)rows * sizeof *from);
        }
        transpose(x);
        for (int64_t i = 0; i < LINES; i++)
            memcpy(&to[i][j0], &x[i], sizeof x[i]);
    }
}

struct panels pack_right(struct mat b, int64_t K, int64_t n0, int64_t N, void *to)
{
    int64_t blocks = (K + PACK_ROWS - 1) / PACK_ROWS, panels = (N + PACK_COLS - 1) / PACK_COLS;

    CHECK(b.dtype != DT_F64);
#pragma omp parallel for schedule(static) if (K * N > 1 << 15)
    for (int64_t i = 0; i < panels * blocks; i++) { /* in the order of memory */
        int64_t panel = b.trans ? i / blocks : i % panels, at = b.trans ? i % blocks : i / panels;
        int64_t n = panel * PACK_COLS, cols = N - n < PACK_COLS ? N - n : PACK_COLS;
        int64_t k = at * PACK_ROWS, rows = K - k < PACK_ROWS ? K - k : PACK_ROWS;
        uint32_t(*block)[PACK_COLS] = (void *)((uint16_t *)to + (panel * blocks + at) * BLOCK);
        if (rows < PACK_ROWS || cols < PACK_COLS) memset(block, 0, BLOCK * sizeof(uint16_t));
        (b.trans ? columns_block : rows_block)(&b, k, rows, n0 + n, cols, block);
    }
    return panels_of(to, K);
}
