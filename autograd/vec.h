/* vec.h - vectors of reals as long as the CPU's, in GNU C's types: the compiler
 * chooses instructions. */
#ifndef AUTOGRAD_VEC_H
#define AUTOGRAD_VEC_H

#include "autograd/tensor.h"
#include "base/bf16.h"

#if defined __AVX2__
#include <immintrin.h>
#endif

#if defined __AVX512F__
#define VECTOR_BYTES 64
enum { VECTORS = 32 }; /* registers */
#elif defined __AVX__
#define VECTOR_BYTES 32
enum { VECTORS = 16 };
#else
#define VECTOR_BYTES 16
enum { VECTORS = 16 };
#endif
#ifdef AUTOGRAD_DOUBLE
#define VECTOR_REALS (VECTOR_BYTES / 8)
#else
#define VECTOR_REALS (VECTOR_BYTES / 4)
#endif
enum { LANES = VECTOR_REALS };

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real vec_loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef uint32_t vec_words __attribute__((vector_size(4 * LANES)));
typedef uint32_t vec_words_loose
    __attribute__((vector_size(4 * LANES), aligned(sizeof(uint16_t)), may_alias));
typedef float vec_floats __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec vec_load(const real *p)
{
    return *(const vec_loose *)p;
}

INLINE void vec_store(real *p, vec v)
{
    *(vec_loose *)p = v;
}

/* From bf16, in order. */
INLINE vec vec_widen(const uint16_t *p)
{
#if defined __AVX512F__ && !defined AUTOGRAD_DOUBLE
    const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
#elif defined __AVX2__ && !defined AUTOGRAD_DOUBLE
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16);
#else
    vec v = {0};
    for (int i = 0; i < LANES; i++)
        v[i] = (real)bf16_to_f32(p[i]);
    return v;
#endif
}

/* A word is two values of bf16: the first, and the second. */
INLINE vec vec_first(vec_words w)
{
    return __builtin_convertvector((vec_floats)(w << 16), vec);
}

INLINE vec vec_second(vec_words w)
{
    return __builtin_convertvector((vec_floats)(w & 0xffff0000), vec);
}

INLINE vec_words vec_load_words(const uint16_t *p)
{
    return *(const vec_words_loose *)p;
}

/* Lane i is lane i ^ d. */
#define LANES_2(d) 0 ^ d, 1 ^ d
#define LANES_4(d) LANES_2(d), 2 ^ d, 3 ^ d
#define LANES_8(d) LANES_4(d), 4 ^ d, 5 ^ d, 6 ^ d, 7 ^ d
#define LANES_16(d) LANES_8(d), 8 ^ d, 9 ^ d, 10 ^ d, 11 ^ d, 12 ^ d, 13 ^ d, 14 ^ d, 15 ^ d
#define VEC_SWAP(v, list) __builtin_shufflevector(v, v, list)

/* The sum of the lanes, by halves. */
INLINE real vec_sum(vec v)
{
#if VECTOR_REALS == 16
    v += VEC_SWAP(v, LANES_16(8));
    v += VEC_SWAP(v, LANES_16(4));
    v += VEC_SWAP(v, LANES_16(2));
    v += VEC_SWAP(v, LANES_16(1));
#elif VECTOR_REALS == 8
    v += VEC_SWAP(v, LANES_8(4));
    v += VEC_SWAP(v, LANES_8(2));
    v += VEC_SWAP(v, LANES_8(1));
#elif VECTOR_REALS == 4
    v += VEC_SWAP(v, LANES_4(2));
    v += VEC_SWAP(v, LANES_4(1));
#else
    v += VEC_SWAP(v, LANES_2(1));
#endif
    return v[0];
}

#endif
