/* mathfun.h - exp and erf that the compiler can vectorise: libm's need -ffast-math for that, which
 * we do not use. They are plain arithmetic, so a loop over them gives the same bits whether
 * vectorised or not. In the double build they are libm's. */
#ifndef AUTOGRAD_MATHFUN_H
#define AUTOGRAD_MATHFUN_H

#include "autograd/tensor.h"

#include <math.h>
#include <string.h>

#ifdef AUTOGRAD_DOUBLE

static inline real real_exp(real x)
{
    return exp(x);
}
static inline real real_erf(real x)
{
    return erf(x);
}

#else

/* exp within 2 ulp on [-86.98, 88.72]: x = n ln2 + r, |r| <= ln2/2, a degree 6 polynomial for e^r
 * (with the coefficients of Cephes' expf), times 2^n through the exponent bits. Below -86.98 it is
 * 0 (so exp(-inf) = 0), above 88.7 infinity, as e^89 is; NaN stays NaN. */
static inline real real_exp(real x)
{
    const float lo = -86.98f, hi = 89; /* 2^(n-1) is 0 below */
    float c = x < lo ? lo : x;         /* NaN passes these */
    c = c > hi ? hi : c;
    float shifted = c * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: n is in the last bits */
    float n = shifted - 12582912.0f;
    float r = c - n * 0.693359375f;
    r -= n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 126) << 23; /* 2^(n-1): n = 128 would not fit the exponent */
    float half;
    memcpy(&half, &bits, sizeof half);
    float y = p * half * 2.0f;
    return x < lo ? 0.0f : y;
}
static inline real real_erf(real x)
{
    return erff(x);
}

#endif

static inline real real_sigmoid(real x)
{
    return 1 / (1 + real_exp(-x));
}

#endif
