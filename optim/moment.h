/* moment.h - storage of AdamW's two moments of a parameter: fp32, bf16, or 8 bits per value, where
 * blocks of 256 values share an fp32 scale (Dettmers et al. 2022, arXiv 2110.02861). The latter two
 * round stochastically: a moment changes by a small fraction per step, which rounding to nearest
 * would lose. Moments are processed in fp32, a block at a time:
 *
 *     float buf[MOMENT_BLOCK], *x = moment_load(m, block, buf);
 *     ... change x[0 .. moment_values(m, block)) ...
 *     moment_store(m, block, x, key);
 *
 * Blocks are independent, so that any number of threads gives the same bits. */
#ifndef OPTIM_MOMENT_H
#define OPTIM_MOMENT_H

#include "autograd/tensor.h"
#include "base/err.h"

#include <stdint.h>

enum moment_type { MOMENT_F32, MOMENT_BF16, MOMENT_8BIT, MOMENT_TYPES };
#define MOMENT_NAMES "f32", "bf16", "8bit" /* of the settings, in order */

enum { MOMENT_BLOCK = 256 };

/* The values of the 256 8-bit codes, ascending, in (-1, 1] or, without signs, in [0, 1]: "dynamic
 * tree" quantisation, in which each decade nearer to 1 has twice as many codes. */
struct moment_code {
    bool has_sign;
    float value[257]; /* the last belongs to no code: it ends the search */
};

/* has_sign: for the first moment. Without signs, nothing above 0 is coded as 0: a second moment
 * that vanished would make a step as large as 1 / eps. */
void moment_code_make(struct moment_code *c, bool has_sign);

struct moment {
    enum moment_type type;
    int64_t n;
    int64_t
        first;  /* of the parameter's values, the first that is here: a multiple of MOMENT_BLOCK */
    void *data; /* [n]: float, bits of a bf16, or uint8_t code */
    float *scale; /* 8bit, [moment_blocks(n)]: a value is scale * its code's value. The
                   * scale is the block's value of largest magnitude, with its sign: that
                   * one is stored exactly */
    const struct moment_code *code; /* 8bit; borrowed */
};

/* How a parameter's moments are stored if the setting is `want`: vectors (norms, biases) and
 * matrices under 4,096 values stay in fp32, because they are few and affect everything. */
enum moment_type moment_type_of(enum moment_type want, const struct tensor *param);

/* n zeros, from the parameter's first value on. `code` must outlive it. On failure *m needs no
 * moment_free. */
bool moment_init(struct moment *m, enum moment_type type, int64_t n, const struct moment_code *code,
                 struct err *e);
void moment_free(struct moment *m); /* fine on a zeroed struct */

/* Bytes of one moment of n values. */
double moment_bytes(enum moment_type type, int64_t n);

static inline int64_t moment_blocks(int64_t n)
{
    return (n + MOMENT_BLOCK - 1) / MOMENT_BLOCK;
}

/* Values of a block: MOMENT_BLOCK, or in the last one the remainder. */
static inline int64_t moment_values(const struct moment *m, int64_t block)
{
    int64_t left = m->n - block * MOMENT_BLOCK;

    return left < MOMENT_BLOCK ? left : MOMENT_BLOCK;
}

/* A block in fp32: in buf, or in place if stored as fp32. */
float *moment_load(const struct moment *m, int64_t block, float buf[MOMENT_BLOCK]);

/* Stores what moment_load returned and the caller changed; all values must be finite. In bf16
 * and 8bit a value is rounded to one of its two neighbours at random, so that its expected
 * value is the value itself (except in 8bit for values without two neighbours: below -0.993
 * times the scale, and, without signs, below 3e-7 times it). The randomness depends only on
 * `key` and the value's index in the parameter. */
void moment_store(struct moment *m, int64_t block, const float *x, uint64_t key);

#endif
