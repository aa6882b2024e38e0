/* narrow_sums.c - see narrow.h. Registers hold a tile of C while the loop runs over K: 8 rows x 2
 * vectors of columns are 10 loads for 16 multiplications in 32 registers. */
#include "autograd/narrow.h"
#include "autograd/vec.h"
#include "base/err.h"

enum { TALL = VECTORS == 32 ? 8 : 6, WIDE = 2 }; /* rows and vectors of columns of a tile of sums */
enum { DEEP = 64 };                              /* values of K in a part: of B, they stay in L1 */

/* C's columns j.., from a part of K: n columns of A and rows of B. */
struct strip {
    int64_t M, n, lda, ldb, ldc; /* A's rows are lda apart, or its columns, if it is transposed */
    const real *a, *b;
    real alpha;
    bool add;
    real *c;
};

INLINE void tile(const struct strip *s, int64_t i, int rows, int vectors, bool trans)
{
    const real *a = s->a + (trans ? i : i * s->lda), *b = s->b;
    vec sum[TALL][WIDE] = {0};

    for (int64_t k = 0; k < s->n; k++, b += s->ldb, a += trans ? s->lda : 1) {
        vec y[WIDE];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            y[v] = vec_load(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] += a[trans ? r : r * s->lda] * y[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            real *c = s->c + (i + r) * s->ldc + v * LANES;
            vec x = s->alpha * sum[r][v];
            if (s->add) x += vec_load(c);
            vec_store(c, x);
        }
}

INLINE void tiles(const struct strip *s, int vectors, bool trans)
{
    int64_t i = 0;

    for (; i + TALL <= s->M; i += TALL)
        tile(s, i, TALL, vectors, trans);
    for (; i + 2 <= s->M; i += 2)
        tile(s, i, 2, vectors, trans);
    if (i < s->M) tile(s, i, 1, vectors, trans);
}

/* Less than a vector of columns. */
static void rest(const struct strip *s, int64_t columns, bool trans)
{
    for (int64_t i = 0; i < s->M; i++)
        for (int64_t x = 0; x < columns; x++) {
            real sum = 0, *c = s->c + i * s->ldc + x;
            for (int64_t k = 0; k < s->n; k++)
                sum += s->a[trans ? i + k * s->lda : i * s->lda + k] * s->b[k * s->ldb + x];
            *c = s->alpha * sum + (s->add ? *c : 0);
        }
}

INLINE void strips(struct strip s, int64_t N, bool trans)
{
    for (; N >= WIDE * LANES; N -= WIDE * LANES, s.b += WIDE * LANES, s.c += WIDE * LANES)
        tiles(&s, WIDE, trans);
    for (; N >= LANES; N -= LANES, s.b += LANES, s.c += LANES)
        tiles(&s, 1, trans);
    if (N > 0) rest(&s, N, trans);
}

void narrow_sums(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b, bool add,
                 real *c, int64_t ldc)
{
    CHECK(a.dtype == DT_REAL && b.dtype == DT_REAL && !b.trans && K > 0);
    for (int64_t k = 0; k < K; k += DEEP) {
        const struct strip s = {.M = M,
                                .n = K - k < DEEP ? K - k : DEEP,
                                .lda = a.ld,
                                .ldb = b.ld,
                                .ldc = ldc,
                                .a = (const real *)a.data + (a.trans ? k * a.ld : k),
                                .b = (const real *)b.data + k * b.ld,
                                .alpha = alpha,
                                .add = add || k > 0,
                                .c = c};
        if (a.trans)
            strips(s, N, true);
        else
            strips(s, N, false);
    }
}
