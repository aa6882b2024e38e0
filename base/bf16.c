/* bf16.c - fp16 conversion in software: not every target's compiler has _Float16. */
#include "base/bf16.h"

#include <math.h>

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 0x3ff, u;
    float f;

    if (exp == 0) { /* zero or subnormal: man * 2^-24 */
        f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    u = sign | (exp == 31 ? 0x7f800000u : (exp + 112) << 23) | man << 13;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t f16_from_f32(float f)
{
    uint32_t u, sign, man;
    int exp;

    memcpy(&u, &f, sizeof u);
    sign = u >> 16 & 0x8000;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00);  /* NaN */
    if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* rounds to 2^16 or more */
    if (u < 0x38800000u) { /* below 2^-14: subnormal, counted in units of 2^-24 */
        float scaled;
        memcpy(&scaled, &u, sizeof scaled);
        return (uint16_t)(sign | (uint32_t)nearbyintf(scaled * 0x1p24f));
    }
    exp = (int)(u >> 23) - 112;
    man = u & 0x7fffff;
    u = (uint32_t)exp << 10 | man >> 13;
    u += (man & 0x1fff) > 0x1000 || ((man & 0x1fff) == 0x1000 && (u & 1)); /* may carry into exp */
    return (uint16_t)(sign | u);
}
