/* narrow.c - see narrow.h. Registers hold a tile of C while the loop runs over K:
 *     sums:  6 rows x 2 vectors of columns: 8 loads for 12 multiplications in 16 registers;
 *     heads: 4 dot products, in the lanes of vectors. */
#include "autograd/narrow.h"
#include "base/err.h"

#include <string.h>

#if defined __AVX512F__
enum { VECTOR_BYTES = 64 };
#elif defined __AVX__
enum { VECTOR_BYTES = 32 };
#else
enum { VECTOR_BYTES = 16 };
#endif
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

enum { LANES = VECTOR_BYTES / sizeof(real) };
enum { FOUR = 4 };                   /* heads at a time */
enum { TALL = 6, WIDE = 2 * LANES }; /* of a tile of sums */
enum { DEEP = 64, STRIP = 128 }; /* rows and columns of B that are used by all rows of A in turn */

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const real *p)
{
    return *(const loose *)p;
}

/* The sum of the lanes, by halves. */
INLINE real lanes_sum(vec v)
{
    real x[LANES];

    memcpy(x, &v, sizeof x);
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            x[i] += x[i + n];
    return x[0];
}

/* ---- heads ---- */

/* Heads h.. with key j. */
INLINE void some_heads(const struct narrow_heads *p, int64_t j, int64_t h, int n)
{
    const int64_t width = p->width;
    const real *q[FOUR], *k[FOUR];
    vec sum[FOUR] = {0};
    int64_t i = 0;

    for (int r = 0; r < n; r++) {
        q[r] = p->q + (h + r) * width;
        k[r] = p->k + j * p->ldk + (h + r) / p->per * width;
    }
    for (; i + LANES <= width; i += LANES)
        for (int r = 0; r < n; r++)
            sum[r] += load(q[r] + i) * load(k[r] + i);
    for (int r = 0; r < n; r++) {
        real x = lanes_sum(sum[r]), *c = p->c + j * p->heads + h + r;
        for (int64_t m = i; m < width; m++)
            x += q[r][m] * k[r][m];
        *c = p->alpha * x + (p->add ? *c : 0);
    }
}

void narrow_heads(const struct narrow_heads *p)
{
    for (int64_t j = 0; j < p->keys; j++) { /* a key's row from end to end, as memory likes it */
        int64_t h = 0;
        for (; h + FOUR <= p->heads; h += FOUR)
            some_heads(p, j, h, FOUR);
        for (; h < p->heads; h++)
            some_heads(p, j, h, 1);
    }
}

/* ---- sums ---- */

struct product {
    int64_t M, N, K, a_row, a_col, ldb, ldc; /* a's rows and columns are that far apart */
    real alpha;
    const real *a, *b;
    bool add;
    real *c;
};

/* n columns of A and rows of B, which begin ldb apart at b. */
struct run {
    const real *a, *b;
    int64_t ldb, n;
    bool add;
    const real *next; /* the rows of B behind them, to be asked for; NULL: none */
};

INLINE void sums(const struct product *p, const struct run *q, int64_t i, int64_t j, int rows,
                 int vectors)
{
    const real *a = q->a + i * p->a_row, *b = q->b;
    vec sum[TALL][2] = {0};

    for (int64_t k = 0; k < q->n; k++, b += q->ldb)
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                sum[r][v] += a[r * p->a_row + k * p->a_col] * load(b + v * LANES);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            real *c = p->c + (i + r) * p->ldc + j + v * LANES;
            vec x = p->alpha * sum[r][v];
            if (q->add) x += load(c);
            *(loose *)c = x;
        }
}

/* Less than a vector of columns. */
static void sums_rest(const struct product *p, const struct run *q, int64_t j, int64_t n)
{
    for (int64_t i = 0; i < p->M; i++)
        for (int64_t x = 0; x < n; x++) {
            real sum = 0, *c = p->c + i * p->ldc + j + x;
            for (int64_t k = 0; k < q->n; k++)
                sum += q->a[i * p->a_row + k * p->a_col] * q->b[k * q->ldb + x];
            *c = p->alpha * sum + (q->add ? *c : 0);
        }
}

INLINE void sums_rows(const struct product *p, const struct run *q, int64_t j, int vectors)
{
    int64_t i = 0;

    for (; i + TALL <= p->M; i += TALL) {
        for (int64_t r = i; q->next && r < i + TALL && r < q->n; r++)
            __builtin_prefetch(q->next + r * p->ldb);
        sums(p, q, i, j, TALL, vectors);
    }
    for (; i + 2 <= p->M; i += 2)
        sums(p, q, i, j, 2, vectors);
    if (i < p->M) sums(p, q, i, j, 1, vectors);
}

/* Columns [j, end) of C; q->b is at column j. */
static void sums_strip(const struct product *p, struct run q, int64_t j, int64_t end)
{
    for (; j + WIDE <= end; j += WIDE, q.b += WIDE) {
        sums_rows(p, &q, j, 2);
        if (q.next) q.next += WIDE;
    }
    for (; j + LANES <= end; j += LANES, q.b += LANES)
        sums_rows(p, &q, j, 1);
    if (j < end) sums_rest(p, &q, j, end - j);
}

static void all_sums(const struct product *p)
{
    _Alignas(64) real copy[DEEP * STRIP];

    for (int64_t k = 0; k < p->K; k += DEEP)
        for (int64_t j = 0; j < p->N; j += STRIP) {
            const int64_t n = p->K - k < DEEP ? p->K - k : DEEP;
            const int64_t cols = p->N - j < STRIP ? p->N - j : STRIP;
            struct run q = {
                p->a + k * p->a_col, p->b + k * p->ldb + j, p->ldb, n, p->add || k > 0, NULL};
            if (p->M > TALL) { /* rows a power of two apart would share few places in L1 */
                for (int64_t i = 0; i < n; i++)
                    memcpy(copy + i * STRIP, q.b + i * q.ldb, (size_t)cols * sizeof *copy);
                q.next = q.b + n * q.ldb;
                q.b = copy;
                q.ldb = STRIP;
            }
            sums_strip(p, q, j, j + cols);
        }
}

void narrow_sums(int64_t M, int64_t N, int64_t K, real alpha, struct mat a, struct mat b, bool add,
                 real *c, int64_t ldc)
{
    CHECK(a.dtype == DT_REAL && b.dtype == DT_REAL && !b.trans && K > 0);
    all_sums(&(struct product){.M = M,
                               .N = N,
                               .K = K,
                               .a_row = a.trans ? 1 : a.ld,
                               .a_col = a.trans ? a.ld : 1,
                               .ldb = b.ld,
                               .ldc = ldc,
                               .alpha = alpha,
                               .a = a.data,
                               .b = b.data,
                               .add = add,
                               .c = c});
}
