/* bf16.h - conversion between fp32, bf16 and fp16, in software: not every target's compiler has
 * _Float16. Conversion to bf16 rounds to nearest even or stochastically; a NaN stays a NaN. What
 * converts whole matrices has no branches, so that a loop over it is vectorised. */
#ifndef BASE_BF16_H
#define BASE_BF16_H

#include <stdint.h>
#include <string.h>

static inline float bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint16_t bf16_from_f32(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    uint32_t nan = u | 0x400000u, even = u + 0x7fffu + (u >> 16 & 1); /* a quiet NaN */
    return (uint16_t)(((u & 0x7fffffffu) > 0x7f800000u ? nan : even) >> 16);
}

/* Stochastic rounding to one of the two neighbouring bf16 values. With noise uniform in 0..65535
 * the expected value is f; a value that bf16 represents exactly is unchanged. */
static inline uint16_t bf16_stochastic(float f, uint16_t noise)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40); /* quiet NaN */
    return (uint16_t)((u + noise) >> 16); /* infinity has no low bits, so it is unchanged */
}

/* Rounds to the nearest bf16 value. */
static inline float bf16_round(float f)
{
    return bf16_to_f32(bf16_from_f32(f));
}

static inline float f16_to_f32(uint16_t h)
{
    uint32_t exp = h >> 10 & 31, u = (h & 0x7fffu) << 13, small;
    float f = (float)(h & 0x3ff) * 0x1p-24f; /* if zero or subnormal */

    memcpy(&small, &f, sizeof small);
    u += exp == 31 ? 224u << 23 : 112u << 23;
    u = (exp ? u : small) | (uint32_t)(h & 0x8000) << 16;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t f16_from_f32(float f); /* nearest even; overflows to infinity */

#endif
