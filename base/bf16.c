/* bf16.c - the conversion that is not in the header. */
#include "base/bf16.h"

#include <math.h>

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
