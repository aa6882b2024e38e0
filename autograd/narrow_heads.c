/* narrow_heads.c - see narrow.h. A key's row, and one of its values, is walked from end to end
 * once, as memory likes it; the queries and sums of all heads stay in a core's cache meanwhile. */
#include "autograd/narrow.h"
#include "autograd/vec.h"
#include "base/bf16.h"
#include "base/err.h"

enum { FOUR = 4, PAIR = 2 }; /* heads at a time: dot products; keys at a time: their values */

INLINE vec load(const void *p, int64_t at, bool bf16)
{
    return bf16 ? vec_widen((const uint16_t *)p + at) : vec_load((const real *)p + at);
}

/* Asks for what is read after the next 16 KiB: rows are read from end to end. */
INLINE void ask(const void *p, int64_t at, bool bf16)
{
    __builtin_prefetch((const char *)p + at * (bf16 ? 2 : (int64_t)sizeof(real)) + (16 << 10));
}

INLINE real load_one(const void *p, int64_t at, bool bf16)
{
    return bf16 ? (real)bf16_to_f32(((const uint16_t *)p)[at]) : ((const real *)p)[at];
}

/* The first n lanes, and zeros: what is less than a vector is computed as one, so that reals and
 * bf16 are rounded alike. */
INLINE vec load_some(const void *p, int64_t at, int64_t n, bool bf16)
{
    real x[LANES] = {0};

    for (int64_t i = 0; i < n; i++)
        x[i] = load_one(p, at + i, bf16);
    return vec_load(x);
}

INLINE void store_some(real *p, vec v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = v[i];
}

/* Heads h.. with key j. */
INLINE void some_scores(const struct narrow_heads *p, int64_t j, int64_t h, int n, bool bf16)
{
    const int64_t width = p->width;
    const real *q[FOUR];
    int64_t k[FOUR], i = 0;
    vec sum[FOUR] = {0};

    for (int r = 0; r < n; r++) {
        q[r] = p->q + (h + r) * width;
        k[r] = j * p->ld + (h + r) / p->per * width;
    }
    for (; i + LANES <= width; i += LANES)
        for (int r = 0; r < n; r++) {
            ask(p->rows, k[r] + i, bf16);
            sum[r] += vec_load(q[r] + i) * load(p->rows, k[r] + i, bf16);
        }
    for (int r = 0; r < n && i < width; r++)
        sum[r] +=
            load_some(q[r], i, width - i, false) * load_some(p->rows, k[r] + i, width - i, bf16);
    for (int r = 0; r < n; r++) {
        real *c = p->scores + j * p->heads + h + r;
        *c = p->alpha * vec_sum(sum[r]) + (p->add ? *c : 0);
    }
}

INLINE void scores(const struct narrow_heads *p, bool bf16)
{
    for (int64_t j = 0; j < p->keys; j++) {
        int64_t h = 0;
        for (; h + FOUR <= p->heads; h += FOUR)
            some_scores(p, j, h, FOUR, bf16);
        for (; h < p->heads; h++)
            some_scores(p, j, h, 1, bf16);
    }
}

void narrow_scores(const struct narrow_heads *p)
{
    if (p->bf16)
        scores(p, true);
    else
        scores(p, false);
}

/* Adds the values of n keys from j on to head h's sums. */
INLINE void some_values(const struct narrow_heads *p, int64_t j, int64_t h, int n, bool add,
                        bool bf16)
{
    const int64_t width = p->width, at = j * p->ld + h / p->per * width;
    const real *w = p->scores + j * p->heads + h;
    real *o = p->sums + h * width;
    int64_t i = 0;

    for (; i + LANES <= width; i += LANES) {
        vec x = add ? vec_load(o + i) : (vec){0};
        for (int r = 0; r < n; r++) {
            ask(p->rows, at + r * p->ld + i, bf16);
            x += w[r * p->heads] * load(p->rows, at + r * p->ld + i, bf16);
        }
        vec_store(o + i, x);
    }
    if (i == width) return;
    vec x = add ? load_some(o, i, width - i, false) : (vec){0};
    for (int r = 0; r < n; r++)
        x += w[r * p->heads] * load_some(p->rows, at + r * p->ld + i, width - i, bf16);
    store_some(o + i, x, width - i);
}

INLINE void values(const struct narrow_heads *p, bool bf16)
{
    int64_t j = 0;

    for (; j + PAIR <= p->keys; j += PAIR)
        for (int64_t h = 0; h < p->heads; h++)
            some_values(p, j, h, PAIR, p->add || j > 0, bf16);
    for (int64_t h = 0; j < p->keys && h < p->heads; h++)
        some_values(p, j, h, 1, p->add || j > 0, bf16);
}

void narrow_values(const struct narrow_heads *p)
{
    if (p->bf16)
        values(p, true);
    else
        values(p, false);
}
