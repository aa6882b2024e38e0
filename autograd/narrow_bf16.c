/* narrow_bf16.c - see narrow_bf16.h. Dot products take both rows' words as they lie, 32 values to a
 * vector, and add up its lanes at the end; sums over rows take a word of A for all columns of a
 * vector. */
#include "autograd/narrow_bf16.h"
#include "base/err.h"

#include <string.h>

#if defined __x86_64__ && !defined AUTOGRAD_DOUBLE
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define INLINE TARGET static inline __attribute__((always_inline))

enum { LANES = 16, STEP = BF16_STEP };

/* Of a vector's values, the first n. */
INLINE __mmask32 first32(int64_t n)
{
    return n >= STEP ? 0xffffffff : n <= 0 ? 0 : ((__mmask32)1 << n) - 1;
}

INLINE __mmask16 first16(int64_t n)
{
    return (__mmask16)first32(n);
}

INLINE __m512i load(const uint16_t *p)
{
    return _mm512_loadu_si512(p);
}

INLINE __m512i load_some(const uint16_t *p, int64_t n)
{
    return _mm512_maskz_loadu_epi16(first32(n), p);
}

INLINE __m512 dots(__m512 sum, __m512i a, __m512i b)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

/* A value too small for its exponent becomes 0, which is what products take it for. */
TARGET void bf16_row(const real *x, int64_t n, uint16_t *to)
{
    for (int64_t i = 0; i < n; i += LANES) {
        const __mmask16 some = first16(n - i);
        const __m256i v = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(some, x + i));
        _mm256_mask_storeu_epi16(to + i, some, v);
    }
}

/* The sums of the lanes of 16 vectors: by halves, as vec_sum has it, two vectors at a time. */
INLINE __m512 lane_sums(const __m512 v[LANES])
{
    /* where a vector must stand for its sum to come out in order */
    static const int at[] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};
    __m512 x[LANES];

#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        x[at[i]] = v[i];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        x[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x[i], x[i + 8], 0x44),
                             _mm512_shuffle_f32x4(x[i], x[i + 8], 0xee));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        x[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x[i], x[i + 4], 0x88),
                             _mm512_shuffle_f32x4(x[i], x[i + 4], 0xdd));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        x[i] = _mm512_add_ps(_mm512_shuffle_ps(x[i], x[i + 2], 0x44),
                             _mm512_shuffle_ps(x[i], x[i + 2], 0xee));
    return _mm512_add_ps(_mm512_shuffle_ps(x[0], x[1], 0x88), _mm512_shuffle_ps(x[0], x[1], 0xdd));
}

/* ---- dot products ---- */

enum { TALL = 4, WIDE = 4, FEW = 2, BROAD = 8 }; /* rows of A, and of B, of a tile; of few rows */
enum { DEEP = BF16_DEEP };                       /* values of K in a part */
enum { TASK = NARROW_TASK };

/* Rows of B, n values of each. */
struct strip {
    const uint16_t *a, *b; /* A's rows are DEEP apart */
    int64_t ldb, n;
    real *sum; /* of columns j.. of a tile: [row of A][columns], from NARROW_ROWS * j on */
};

/* Columns of the next tile, of those left. */
static inline int64_t tile_columns(int64_t M, int64_t left)
{
    return M <= FEW && left >= BROAD ? BROAD : left >= WIDE ? WIDE : 1;
}

/* `asked` of the rows of B that come next are fetched on the way: by all tiles of the same rows
 * together, so that memory is asked as evenly as it can answer. */
INLINE void tile(const struct strip *s, int64_t i, int64_t j, int rows, int cols, int asked)
{
    const uint16_t *next = s->b + (j + cols + i / TALL * asked) * s->ldb;
    const uint16_t *a = s->a + i * DEEP, *b = s->b + j * s->ldb;
    real *out = s->sum + NARROW_ROWS * j + i * cols;
    const __mmask16 keep = first16(rows * cols);
    __m512 sum[LANES] = {0};
    int64_t k = 0;

    for (; k + STEP <= s->n; k += STEP) {
        __m512i y[BROAD];
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++) {
            y[c] = load(b + c * s->ldb + k);
            if (c < asked) __builtin_prefetch(next + c * s->ldb + k);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const __m512i x = load(a + r * DEEP + k);
#pragma GCC unroll 8
            for (int c = 0; c < cols; c++)
                sum[r * cols + c] = dots(sum[r * cols + c], x, y[c]);
        }
    }
    if (k < s->n) {
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++) {
            const __m512i y = load_some(b + c * s->ldb + k, s->n - k);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                sum[r * cols + c] = dots(sum[r * cols + c], load(a + r * DEEP + k), y);
        }
    }
    _mm512_mask_storeu_ps(out, keep,
                          _mm512_add_ps(_mm512_maskz_loadu_ps(keep, out), lane_sums(sum)));
}

INLINE void tiles(const struct strip *s, int64_t M, int64_t j, int cols, int asked)
{
    int64_t i = 0;

    for (; i + TALL <= M; i += TALL)
        tile(s, i, j, TALL, cols, asked);
    if (M - i == 3) tile(s, i, j, 3, cols, asked);
    if (M - i == 2) tile(s, i, j, 2, cols, asked);
    if (M - i == 1) tile(s, i, j, 1, cols, asked);
}

/* The rows of A are told to the compiler. */
INLINE void known_tiles(const struct strip *s, int64_t M, int64_t j, int cols)
{
    if (M == 1)
        tiles(s, 1, j, cols, cols);
    else if (M == 2)
        tiles(s, 2, j, cols, cols);
    else if (cols == BROAD)
        return; /* not of more rows */
    else if (M <= TALL)
        tiles(s, M, j, cols, cols);
    else if (M <= 3 * TALL)
        tiles(s, M, j, cols, (cols + 1) / 2);
    else
        tiles(s, M, j, cols, 1);
}

TARGET static void strip_dots(const struct strip *s, int64_t M, int64_t N)
{
    for (int64_t j = 0, n; j < N; j += n) {
        n = tile_columns(M, N - j);
        if (n == BROAD)
            known_tiles(s, M, j, BROAD);
        else if (n == WIDE)
            known_tiles(s, M, j, WIDE);
        else
            known_tiles(s, M, j, 1);
    }
}

/* Rows [j, j + N) of B, n values from k on, as bf16. */
static void narrow_rows(const struct mat *b, int64_t j, int64_t N, int64_t k, int64_t n,
                        uint16_t *to)
{
    for (int64_t i = 0; i < N; i++, to += DEEP) {
        const uint16_t *from = mat_bf16(b, (j + i) * b->ld + k, n, to);
        if (from != to) memcpy(to, from, (size_t)n * sizeof *to);
    }
}

/* Columns [j, j + N) of C. */
static void keep_sums(const struct narrow_dots *p, int64_t j, int64_t N, const real *sum)
{
    for (int64_t c = 0, n; c < N; c += n) {
        n = tile_columns(p->M, N - c);
        for (int64_t i = 0; i < p->M * n; i++) {
            real *to = p->c + i / n * p->ldc + j + c + i % n;
            *to = sum[NARROW_ROWS * c + i] + (p->add ? *to : 0);
        }
    }
}

void bf16_dots_part(const struct narrow_dots *p, const uint16_t *words, int64_t j, int64_t N)
{
    const bool direct = p->b.dtype == DT_BF16;
    _Alignas(64) real sum[NARROW_ROWS * TASK];
    _Alignas(64) uint16_t rows[BROAD * DEEP];

    CHECK(p->M <= NARROW_ROWS && p->b.trans);
    for (int64_t end = j + N; j < end; j += TASK) {
        const int64_t n = end - j < TASK ? end - j : TASK;
        memset(sum, 0, sizeof sum);
        for (int64_t k = 0; k < p->K; k += DEEP) {
            struct strip s = {words + p->M * k, NULL, p->b.ld, p->K - k < DEEP ? p->K - k : DEEP,
                              sum};
            if (direct) {
                s.b = (const uint16_t *)p->b.data + j * p->b.ld + k;
                strip_dots(&s, p->M, n);
                continue;
            }
            for (int64_t i = 0; i < n; i += BROAD, s.sum += NARROW_ROWS * BROAD) {
                const int64_t some = n - i < BROAD ? n - i : BROAD;
                narrow_rows(&p->b, j + i, some, k, s.n, rows);
                s.b = rows;
                s.ldb = DEEP;
                strip_dots(&s, p->M, some);
            }
        }
        keep_sums(p, j, n, sum);
    }
}

/* ---- scores and values where heads do not share keys ---- */

enum { AHEAD = 16 << 10 }; /* bytes by which rows are asked for before they are read */

/* Up to 16 heads from h on with key j. */
INLINE void some_scores(const struct narrow_heads *p, const uint16_t *words, int64_t j, int64_t h,
                        int n)
{
    const int64_t width = p->width;
    const uint16_t *key = (const uint16_t *)p->rows + j * p->ld;
    __m512 sum[LANES] = {0};

#pragma GCC unroll 16
    for (int r = 0; r < n; r++) {
        const uint16_t *q = words + (h + r) * width, *k = key + (h + r) / p->per * width;
        int64_t i = 0;
        for (; i + STEP <= width; i += STEP) {
            __builtin_prefetch((const char *)(k + i) + AHEAD);
            sum[r] = dots(sum[r], load(q + i), load(k + i));
        }
        if (i < width)
            sum[r] = dots(sum[r], load_some(q + i, width - i), load_some(k + i, width - i));
    }
    real *c = p->scores + j * p->heads + h;
    const __mmask16 keep = first16(n);
    const __m512 old = p->add ? _mm512_maskz_loadu_ps(keep, c) : _mm512_setzero_ps();
    _mm512_mask_storeu_ps(c, keep, _mm512_fmadd_ps(_mm512_set1_ps(p->alpha), lane_sums(sum), old));
}

TARGET void bf16_scores(const struct narrow_heads *p, const uint16_t *words)
{
    for (int64_t j = 0; j < p->keys; j++) {
        int64_t h = 0;
        for (; h + LANES <= p->heads; h += LANES)
            some_scores(p, words, j, h, LANES);
        for (; h + 4 <= p->heads; h += 4)
            some_scores(p, words, j, h, 4);
        for (; h < p->heads; h++)
            some_scores(p, words, j, h, 1);
    }
}

/* Words of 32 columns of two rows: low[i] with high[i]. */
INLINE void interleave(__m512i low, __m512i high, __m512i to[2])
{
    const __m512i up = _mm512_set1_epi32(32 << 16);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_add_epi32(
        up, _mm512_or_si512(lane, _mm512_slli_epi32(lane, 16))); /* i, and 32 + i above it */

    to[0] = _mm512_permutex2var_epi16(low, at, high);
    to[1] = _mm512_permutex2var_epi16(
        low, _mm512_add_epi32(at, _mm512_set1_epi32(LANES << 16 | LANES)), high);
}

TARGET void bf16_pairs(const uint16_t *rows, int64_t ld, int64_t n, int64_t width, uint32_t *to)
{
    for (int64_t i = 0; i < n; i += 2, to += bf16_columns(width)) {
        const uint16_t *low = rows + i * ld, *high = low + ld;
        for (int64_t c = 0; c < width; c += STEP) {
            const int64_t left = width - c;
            __m512i w[2];
            interleave(load_some(low + c, left),
                       i + 1 < n ? load_some(high + c, left) : _mm512_setzero_si512(), w);
            _mm512_storeu_si512(to + c, w[0]);
            _mm512_storeu_si512(to + c + LANES, w[1]);
        }
    }
}

enum { KEYS = 4 };

/* Adds the values of n keys from j on, `left` columns from c on, to a head's sums. */
INLINE void some_values(const uint16_t *v, int64_t ld, int n, const __m512i w[KEYS / 2],
                        int64_t left, bool add, real *o)
{
    const __mmask16 keep[2] = {first16(left), first16(left - LANES)};
    __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};

#pragma GCC unroll 2
    for (int i = 0; add && i < 2; i++)
        sum[i] = _mm512_maskz_loadu_ps(keep[i], o + i * LANES);
#pragma GCC unroll 4
    for (int r = 0; r < n; r += 2) {
        __m512i x[2];
        interleave(load_some(v + r * ld, left),
                   r + 1 < n ? load_some(v + (r + 1) * ld, left) : _mm512_setzero_si512(), x);
        sum[0] = dots(sum[0], w[r / 2], x[0]);
        sum[1] = dots(sum[1], w[r / 2], x[1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        _mm512_mask_storeu_ps(o + i * LANES, keep[i], sum[i]);
}

INLINE void keys_values(const struct narrow_heads *p, const uint32_t *pairs, int64_t j, int n)
{
    const bool add = p->add || j > 0;

    for (int64_t h = 0; h < p->heads; h++) {
        const uint16_t *v = (const uint16_t *)p->rows + j * p->ld + h / p->per * p->width;
        const uint32_t *word = pairs + j / 2 * p->heads + h;
        real *o = p->sums + h * p->width;
        __m512i w[KEYS / 2];
        int64_t c = 0;
#pragma GCC unroll 2
        for (int r = 0; r < n; r += 2)
            w[r / 2] = _mm512_set1_epi32((int)word[r / 2 * p->heads]);
        for (; c + STEP <= p->width; c += STEP) {
#pragma GCC unroll 4
            for (int r = 0; r < n; r++)
                __builtin_prefetch((const char *)(v + r * p->ld + c) + AHEAD);
            some_values(v + c, p->ld, n, w, STEP, add, o + c);
        }
        if (c < p->width) some_values(v + c, p->ld, n, w, p->width - c, add, o + c);
    }
}

TARGET void bf16_values(const struct narrow_heads *p, const uint32_t *pairs)
{
    int64_t j = 0;

    for (; j + KEYS <= p->keys; j += KEYS)
        keys_values(p, pairs, j, KEYS);
    for (; j + 2 <= p->keys; j += 2)
        keys_values(p, pairs, j, 2);
    if (j < p->keys) keys_values(p, pairs, j, 1);
}

/* ---- sums over pairs ---- */

enum { ROWS = 12, VECTORS = 2 }; /* of a tile: 24 sums in registers */

INLINE uint32_t word_at(const char *p)
{
    uint32_t w;

    memcpy(&w, p, sizeof w);
    return w;
}

INLINE void add_pair(__m512 sum[ROWS][VECTORS], const char *a, int64_t row, bool half,
                     const uint32_t *b, int rows, int vectors)
{
    __m512i y[VECTORS];

#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
        y[v] = _mm512_loadu_si512(b + v * LANES);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        uint16_t one = 0;
        if (half) memcpy(&one, a + r * row, sizeof one);
        const __m512i x = _mm512_set1_epi32((int)(half ? one : word_at(a + r * row)));
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[r][v] = dots(sum[r][v], x, y[v]);
    }
}

/* *next: what has not been fetched yet. */
INLINE void sums_tile(const struct bf16_sums *p, int64_t i, int64_t n, int rows, int vectors,
                      const char **next)
{
    const char *a = (const char *)p->a + i * p->row, *ask = *next, *end = (const char *)p->next;
    const uint32_t *b = p->b + n;
    const int64_t left = p->N - n;
    __m512 sum[ROWS][VECTORS] = {0};

    end += p->next_bytes;
    for (int64_t k = 0; k + 2 <= p->K; k += 2, a += p->step, b += p->ldb) {
        if (ask < end) {
            __builtin_prefetch(ask, 0, 2);
            ask += 64;
        }
        add_pair(sum, a, p->row, false, b, rows, vectors);
    }
    *next = ask;
    if (p->K % 2) add_pair(sum, a, p->row, true, b, rows, vectors);
    const __m512 alpha = _mm512_set1_ps(p->alpha);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            const __mmask16 keep = first16(left - v * LANES);
            real *c = p->c + (i + r) * p->ldc + n + v * LANES;
            __m512 x = _mm512_mul_ps(alpha, sum[r][v]);
            if (p->add) x = _mm512_fmadd_ps(alpha, sum[r][v], _mm512_maskz_loadu_ps(keep, c));
            _mm512_mask_storeu_ps(c, keep, x);
        }
}

INLINE void sums_rows(const struct bf16_sums *p, int64_t i, int rows, const char **next)
{
    int64_t n = 0;

    for (; n + LANES < p->N; n += VECTORS * LANES)
        sums_tile(p, i, n, rows, VECTORS, next);
    if (n < p->N) sums_tile(p, i, n, rows, 1, next);
}

TARGET void bf16_sums(const struct bf16_sums *p)
{
    const char *next = p->next;
    int64_t i = 0;

    for (; i + ROWS <= p->M; i += ROWS)
        sums_rows(p, i, ROWS, &next);
    for (; i + 8 <= p->M; i += 8)
        sums_rows(p, i, 8, &next);
    for (; i + 4 <= p->M; i += 4)
        sums_rows(p, i, 4, &next);
    for (; i < p->M; i++)
        sums_rows(p, i, 1, &next);
}

#else
/* Nobody comes here. */
void bf16_row(const real *x, int64_t n, uint16_t *to)
{
    CHECK(!x && n < 0 && !to);
}

void bf16_dots_part(const struct narrow_dots *p, const uint16_t *words, int64_t j, int64_t N)
{
    CHECK(!p && !words && j + N < 0);
}

void bf16_scores(const struct narrow_heads *p, const uint16_t *words)
{
    CHECK(!p && !words);
}

void bf16_pairs(const uint16_t *rows, int64_t ld, int64_t n, int64_t width, uint32_t *to)
{
    CHECK(!rows && ld + n + width < 0 && !to);
}

void bf16_values(const struct narrow_heads *p, const uint32_t *pairs)
{
    CHECK(!p && !pairs);
}

void bf16_sums(const struct bf16_sums *p)
{
    CHECK(!p);
}
#endif

void bf16_words(const struct narrow_dots *p, uint16_t *to)
{
#pragma omp parallel for schedule(static) if (p->M * p->K > 1 << 15)
    for (int64_t i = 0; i < p->M; i++)
        for (int64_t k = 0; k < p->K; k += BF16_DEEP) {
            const int64_t n = p->K - k < BF16_DEEP ? p->K - k : BF16_DEEP;
            uint16_t *row = to + p->M * k + i * BF16_DEEP;
            bf16_row(p->a + i * p->lda + k, n, row);
            memset(row + n, 0, (size_t)(bf16_columns(n) - n) * sizeof *row);
        }
}

void bf16_dots(const struct narrow_dots *p, const uint16_t *words)
{
    const int64_t step = narrow_share(p->N);

#pragma omp parallel for schedule(static) if (narrow_pays(p))
    for (int64_t j = 0; j < p->N; j += step)
        bf16_dots_part(p, words, j, p->N - j < step ? p->N - j : step);
}
