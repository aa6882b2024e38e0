/* narrow_dots.c - see narrow.h. A task is a few rows of B, of which it takes a part of K at a time:
 * a tile of 4 of these and 4 of A is 16 dot products, whose lanes stay in registers. So B is read
 * once, and by whole rows, as memory likes it.
 *
 * Rows of A are copied for a part: rows that are a power of two apart would share few places in L1.
 * Words of bf16 hold two neighbours, which are taken apart by a shift and a mask; so A's copy has,
 * for a vector of words, first all first values, then all second ones. */
#include "autograd/gemm_parts.h"
#include "autograd/narrow.h"
#include "autograd/vec.h"
#include "base/err.h"

#include <omp.h>
#include <string.h>

enum { TALL = 4, WIDE = VECTORS / 8 };   /* rows of A, and of B, of a tile */
enum { DEEP = 4096 / sizeof(real) };     /* values of K in a part */
enum { TASK = NARROW_TASK, SHARES = 4 }; /* tasks of a thread */
enum { STEP = 2 * LANES };

/* Rows of B, n values of each: reals, or bf16; n is whole steps. */
struct strip {
    const real *a; /* [row][DEEP] */
    const void *b;
    int64_t ldb, n;
    real *sum; /* [row of A][TASK] */
};

INLINE void add_products(vec sum[TALL][WIDE], const real *a, const vec y[WIDE], int rows, int cols)
{
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        const vec x = vec_load(a + r * DEEP);
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++)
            sum[r][c] += x * y[c];
    }
}

/* Asks for a line of the rows of B that come next. */
INLINE void ask(const struct strip *s, int64_t at, bool bf16)
{
    const char *line = (const char *)s->b + at * (bf16 ? 2 : (int64_t)sizeof(real));

    __builtin_prefetch(line);
    if (STEP * (bf16 ? 2 : sizeof(real)) > 64) __builtin_prefetch(line + 64);
}

/* `asked` of the rows of B that come next are fetched on the way: by all tiles of the same rows
 * together, so that memory is asked as evenly as it can answer. */
INLINE void tile(const struct strip *s, int64_t i, int64_t j, int rows, int cols, bool bf16,
                 int asked)
{
    const int64_t next = (j + cols + i / TALL * asked) * s->ldb;
    const real *a = s->a + i * DEEP;
    vec sum[TALL][WIDE] = {0}, y[WIDE];
    vec_words w[WIDE];

    for (int64_t k = 0; k < s->n; k += STEP) {
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++) {
            const int64_t at = (j + c) * s->ldb + k;
            if (c < asked) ask(s, next + c * s->ldb + k, bf16);
            if (bf16) w[c] = vec_load_words((const uint16_t *)s->b + at);
            y[c] = bf16 ? vec_first(w[c]) : vec_load((const real *)s->b + at);
        }
        add_products(sum, a + k, y, rows, cols);
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++)
            y[c] = bf16 ? vec_second(w[c])
                        : vec_load((const real *)s->b + (j + c) * s->ldb + k + LANES);
        add_products(sum, a + k + LANES, y, rows, cols);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int c = 0; c < cols; c++)
            s->sum[(i + r) * TASK + j + c] += vec_sum(sum[r][c]);
}

INLINE void some_tiles(const struct strip *s, int64_t M, int64_t j, int cols, bool bf16, int asked)
{
    int64_t i = 0;

    for (; i + TALL <= M; i += TALL)
        tile(s, i, j, TALL, cols, bf16, asked);
    if (M - i == 3) tile(s, i, j, 3, cols, bf16, asked);
    if (M - i == 2) tile(s, i, j, 2, cols, bf16, asked);
    if (M - i == 1) tile(s, i, j, 1, cols, bf16, asked);
}

INLINE void tiles(const struct strip *s, int64_t M, int64_t j, int cols, bool bf16)
{
    if (M <= TALL)
        some_tiles(s, M, j, cols, bf16, cols);
    else
        some_tiles(s, M, j, cols, bf16, M <= 3 * TALL ? (cols + 1) / 2 : 1);
}

INLINE void strip_dots(const struct strip *s, int64_t M, int64_t N, bool bf16)
{
    int64_t j = 0;

    for (; j + WIDE <= N; j += WIDE) {
        tiles(s, M, j, WIDE, bf16);
    }
    for (; j < N; j++)
        tiles(s, M, j, 1, bf16);
}

static const real *rounded_row(const real *from, int64_t n, real *to)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = bf16_round((float)from[i]);
    return to;
}

/* Rows of A, n values from k on, and zeros up to whole steps. */
static void copy_rows(const struct narrow_dots *p, int64_t k, int64_t n, bool apart, real *to)
{
    for (int64_t i = 0; i < p->M; i++, to += DEEP) {
        const real *from = p->a + i * p->lda + k;
        real row[DEEP];
        if (p->rounded) from = rounded_row(from, n, row);
        if (!apart) memcpy(to, from, (size_t)n * sizeof *to);
        for (int64_t s = 0; apart && s < n; s += STEP)
            for (int64_t c = 0; c < LANES; c++) {
                to[s + c] = from[s + 2 * c];
                to[s + LANES + c] = from[s + 2 * c + 1];
            }
        for (int64_t c = n; c % STEP; c++)
            to[c] = 0;
    }
}

/* Rows [j, j + N) of B as reals, likewise. */
static void widen(const struct narrow_dots *p, int64_t j, int64_t N, int64_t k, int64_t n, real *to)
{
    const struct tensor stored = tensor_leaf(p->b.dtype, j + N, p->b.ld, p->b.data);

    for (int64_t i = 0; i < N; i++, to += DEEP) {
        tensor_to_real(&stored, (j + i) * p->b.ld + k, n, to);
        if (p->rounded) rounded_row(to, n, to);
        for (int64_t c = n; c % STEP; c++)
            to[c] = 0;
    }
}

/* Columns [j, j + N) of C. */
static void task(const struct narrow_dots *p, int64_t j, int64_t N)
{
    const bool bf16 = p->b.dtype == DT_BF16;
    _Alignas(64) real sum[NARROW_ROWS * TASK] = {0}, a[NARROW_ROWS * DEEP], wide[WIDE * DEEP];

    for (int64_t k = 0; k < p->K; k += DEEP) {
        const int64_t n = p->K - k < DEEP ? p->K - k : DEEP;
        const bool direct = (bf16 || (p->b.dtype == DT_REAL && !p->rounded)) && n % STEP == 0;
        struct strip s = {a, mat_at(p->b, k, j).data, p->b.ld, (n + STEP - 1) / STEP * STEP, sum};
        copy_rows(p, k, n, direct && bf16, a);
        if (direct && bf16) strip_dots(&s, p->M, N, true);
        if (direct && !bf16) strip_dots(&s, p->M, N, false);
        for (int64_t i = 0; i < N && !direct; i += WIDE, s.sum += WIDE) {
            const int64_t rows = N - i < WIDE ? N - i : WIDE;
            widen(p, j + i, rows, k, n, wide);
            s.b = wide;
            s.ldb = DEEP;
            strip_dots(&s, p->M, rows, false);
        }
    }
    for (int64_t i = 0; i < p->M; i++)
        for (int64_t c = 0; c < N; c++) {
            real *to = p->c + i * p->ldc + j + c;
            *to = sum[i * TASK + c] + (p->add ? *to : 0);
        }
}

int64_t narrow_share(int64_t N)
{
    const int64_t share = N / (SHARES * omp_get_max_threads()) / WIDE * WIDE;

    return share < WIDE ? WIDE : share > TASK ? TASK : share;
}

bool narrow_pays(const struct narrow_dots *p)
{
    return (double)p->M * (double)p->N * (double)p->K >= 1 << 17;
}

void narrow_dots(const struct narrow_dots *p)
{
    const int64_t step = narrow_share(p->N);

    CHECK(p->M <= NARROW_ROWS && p->b.trans);
#pragma omp parallel for schedule(static) if (narrow_pays(p))
    for (int64_t j = 0; j < p->N; j += step)
        task(p, j, p->N - j < step ? p->N - j : step);
}
