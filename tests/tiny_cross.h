/* tiny_cross.h - random cross-head bases (convert/transform.h) for tiny models. Include cmocka's
 * headers first. */
#ifndef TESTS_TINY_CROSS_H
#define TESTS_TINY_CROSS_H

#include "convert/transform.h"
#include "tests/tiny_model.h"

#include <math.h>

enum { CROSS_MOST = 16 }; /* components: kv heads times the pairs of a head */

struct basis {
    struct cross_basis b;
    int32_t pair[TINY_LAYERS * CROSS_MOST];
    double re[TINY_LAYERS * CROSS_MOST * TINY_HEADS], im[TINY_LAYERS * CROSS_MOST * TINY_HEADS];
    double scale[TINY_LAYERS * CROSS_MOST];
};

/* v[G, G]: G random orthonormal columns, one after the other. */
static inline void random_unitary(struct rng *r, int64_t G, double *re, double *im)
{
    for (int64_t c = 0; c < G; c++) {
        double *x = re + c * G, *y = im + c * G, norm = 0;
        for (int64_t g = 0; g < G; g++) {
            x[g] = rng_normal(r);
            y[g] = rng_normal(r);
        }
        for (int64_t o = 0; o < c; o++) { /* less its part along column o */
            double a = 0, b = 0;
            for (int64_t g = 0; g < G; g++) {
                a += re[o * G + g] * x[g] + im[o * G + g] * y[g];
                b += re[o * G + g] * y[g] - im[o * G + g] * x[g];
            }
            for (int64_t g = 0; g < G; g++) {
                x[g] -= a * re[o * G + g] - b * im[o * G + g];
                y[g] -= a * im[o * G + g] + b * re[o * G + g];
            }
        }
        for (int64_t g = 0; g < G; g++)
            norm += x[g] * x[g] + y[g] * y[g];
        for (int64_t g = 0; g < G; g++) {
            x[g] /= sqrt(norm);
            y[g] /= sqrt(norm);
        }
    }
}

/* All components of the pairs in the bit mask, of G kv heads with P pairs each, in a random basis
 * with random scales. */
static inline void random_basis(struct basis *b, int64_t G, int64_t P, unsigned pairs)
{
    struct rng r;

    assert_true(G <= TINY_HEADS && G * P <= CROSS_MOST);
    rng_seed(&r, 31, 0);
    *b = (struct basis){.b = {0}};
    for (int64_t i = 0; i < P; i++)
        b->b.n += pairs >> i & 1 ? G : 0;
    for (int64_t l = 0; l < TINY_LAYERS; l++) {
        int64_t at = l * b->b.n;
        for (int64_t k = 0; k < G * P; k++)
            b->scale[l * G * P + k] = exp(rng_normal(&r) / 2);
        for (int64_t i = 0; i < P; i++) {
            if (!(pairs >> i & 1)) continue;
            random_unitary(&r, G, b->re + at * G, b->im + at * G);
            for (int64_t g = 0; g < G; g++)
                b->pair[at++] = (int32_t)i;
        }
    }
    b->b = (struct cross_basis){b->b.n, b->pair, b->re, b->im, b->scale};
}

/* Leaves n random components of each layer. */
static inline void thin_basis(struct basis *b, int64_t G, int64_t n)
{
    struct rng r;

    rng_seed(&r, 12, 4);
    for (int64_t l = 0, to = 0; l < TINY_LAYERS; l++)
        for (int64_t c = 0, left = n; c < b->b.n; c++) { /* each subset is equally likely */
            const int64_t from = l * b->b.n + c;
            if (rng_below(&r, (uint64_t)(b->b.n - c)) >= (uint64_t)left) continue;
            b->pair[to] = b->pair[from];
            memmove(b->re + to * G, b->re + from * G, (size_t)G * sizeof *b->re);
            memmove(b->im + to++ * G, b->im + from * G, (size_t)G * sizeof *b->im);
            left--;
        }
    b->b.n = n;
}

/* FULL -> PARTIAL with all components of a random basis, or half of them. */
static inline void tiny_cross(struct model *m, bool all)
{
    const int64_t G = m->cfg.text.num_key_value_heads, P = m->cfg.text.head_dim / 2;
    struct basis b;
    struct err e = {0};

    random_basis(&b, G, P, (1u << P) - 1);
    if (!all) thin_basis(&b, G, (G * P + 1) / 2);
    must(model_to_cross(m, &b.b, &e), &e);
}

#endif
