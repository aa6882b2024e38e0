/* row_form.c - the table of forms. The blocks, in memory:
 *
 *     q8   32 values   fp16 s | 32 int8                         x = s q      s = max |x| / 127
 *     q4   64 values   fp16 s | fp16 m | 32 bytes: low half of  x = s q + m  s = (max - min) / 15
 *                      byte i is value i, high half i + 32                   m = min
 *     q2   32 values   fp16 s | fp16 m | 8 bytes: value i in    x = s q + m  s = (max - min) / 3
 *                      bits 2 (i / 8) of byte i mod 8                        m = min
 *
 * s and m are rounded to fp16 first, and q is rounded, half to even, with the rounded ones; s = 0
 * makes all q 0. q8 is ggml's block q8_0; q4 is the affine quantiser of optimum-quanto, by groups of
 * 64 neighbours of a token. */
#include "autograd/row_form.h"
#include "base/bf16.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 64 }; /* values unpacked at a time: a multiple of every block */
static const float f16_most = 65504;

static void put16(uint8_t *to, uint16_t v)
{
    memcpy(to, &v, sizeof v);
}

static float get16(const uint8_t *from)
{
    uint16_t v;

    memcpy(&v, from, sizeof v);
    return f16_to_f32(v);
}

/* v rounded to fp16, as it is held at `to`. */
static float put_f16(uint8_t *to, float v)
{
    put16(to, f16_from_f32(v));
    return get16(to);
}

static float rounded(float x, float low, float high)
{
    const float q = nearbyintf(x); /* half to even */

    return q < low ? low : q > high ? high : q;
}

/* ---- bf16 ---- */

static void pack_bf16(uint8_t *to, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        put16(to + 2 * i, bf16_from_f32(x[i]));
}

static void unpack_bf16(float *x, const uint8_t *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, from + 2 * i, sizeof v);
        x[i] = bf16_to_f32(v);
    }
}

/* ---- q8 ---- */

enum { Q8 = 32, Q8_BYTES = 2 + Q8 };

static void pack_q8(uint8_t *to, const float *x, int64_t n)
{
    for (; n > 0; n--, to += Q8_BYTES, x += Q8) {
        float most = 0;
        for (int i = 0; i < Q8; i++)
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        const float s = put_f16(to, most / 127);
        for (int i = 0; i < Q8; i++)
            to[2 + i] = (uint8_t)(int8_t)(s > 0 ? rounded(x[i] / s, -127, 127) : 0);
    }
}

static void unpack_q8(float *x, const uint8_t *from, int64_t n)
{
    for (; n > 0; n--, from += Q8_BYTES, x += Q8) {
        const float s = get16(from);
        for (int i = 0; i < Q8; i++)
            x[i] = s * (float)(int8_t)from[2 + i];
    }
}

/* ---- q4, q2 ---- */

/* The codes 0..most of n values, behind s and m at `to`. */
static void affine(uint8_t *to, const float *x, int n, float most, uint8_t *q)
{
    float low = x[0], high = x[0];

    for (int i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const float s = put_f16(to, (high - low) / most), m = put_f16(to + 2, low);
    for (int i = 0; i < n; i++)
        q[i] = (uint8_t)(s > 0 ? rounded((x[i] - m) / s, 0, most) : 0);
}

enum { Q4 = 64, Q4_BYTES = 4 + Q4 / 2 };

static void pack_q4(uint8_t *to, const float *x, int64_t n)
{
    uint8_t q[Q4];

    for (; n > 0; n--, to += Q4_BYTES, x += Q4) {
        affine(to, x, Q4, 15, q);
        for (int i = 0; i < Q4 / 2; i++)
            to[4 + i] = (uint8_t)(q[i] | q[i + Q4 / 2] << 4);
    }
}

static void unpack_q4(float *x, const uint8_t *from, int64_t n)
{
    for (; n > 0; n--, from += Q4_BYTES, x += Q4) {
        const float s = get16(from), m = get16(from + 2);
        for (int i = 0; i < Q4 / 2; i++) {
            x[i] = s * (float)(from[4 + i] & 15) + m;
            x[i + Q4 / 2] = s * (float)(from[4 + i] >> 4) + m;
        }
    }
}

enum { Q2 = 32, Q2_BYTES = 4 + Q2 / 4 };

static void pack_q2(uint8_t *to, const float *x, int64_t n)
{
    uint8_t q[Q2];

    for (; n > 0; n--, to += Q2_BYTES, x += Q2) {
        affine(to, x, Q2, 3, q);
        for (int i = 0; i < Q2 / 4; i++)
            to[4 + i] = (uint8_t)(q[i] | q[i + 8] << 2 | q[i + 16] << 4 | q[i + 24] << 6);
    }
}

static void unpack_q2(float *x, const uint8_t *from, int64_t n)
{
    for (; n > 0; n--, from += Q2_BYTES, x += Q2) {
        const float s = get16(from), m = get16(from + 2);
        for (int i = 0; i < Q2; i++)
            x[i] = s * (float)(from[4 + i % 8] >> 2 * (i / 8) & 3) + m;
    }
}

/* ---- rows ---- */

static const struct row_form forms[] = {
    {"f32", 1, sizeof(real), 0, NULL, NULL},
    {"bf16", 1, 2, 0, pack_bf16, unpack_bf16},
    {"q8", Q8, Q8_BYTES, f16_most, pack_q8, unpack_q8},
    {"q4", Q4, Q4_BYTES, f16_most, pack_q4, unpack_q4},
    {"q2", Q2, Q2_BYTES, f16_most, pack_q2, unpack_q2},
};

const struct row_form *row_form_at(int i)
{
    return i < (int)(sizeof forms / sizeof *forms) ? &forms[i] : NULL;
}

const struct row_form *row_form_find(const char *name, size_t n)
{
    const struct row_form *f;

    for (int i = 0; (f = row_form_at(i)) != NULL; i++)
        if (strlen(f->name) == n && memcmp(f->name, name, n) == 0) break;
    return f;
}

static int64_t blocks(const struct row_form *f, int64_t width)
{
    return (width + f->values - 1) / f->values;
}

int64_t row_form_bytes(const struct row_form *f, int64_t width)
{
    return blocks(f, width) * f->bytes;
}

int64_t row_bad(const struct row_form *f, const real *x, int64_t width)
{
    for (int64_t i = 0; f->most > 0 && i < width; i++)
        if (!(x[i] <= f->most && x[i] >= -f->most)) return i; /* nor is a NaN */
    return -1;
}

bool row_pack(const struct row_form *f, void *to, const real *x, int64_t width)
{
    const bool good = row_bad(f, x, width) < 0;
    float part[CHUNK];

    for (int64_t at = 0; at < width; at += CHUNK) {
        const int64_t n = width - at < CHUNK ? width - at : CHUNK;
        for (int64_t i = 0; i < CHUNK; i++)
            part[i] = good ? (float)x[at + (i < n ? i : n - 1)] : 0;
        f->pack((uint8_t *)to + at / f->values * f->bytes, part, blocks(f, n));
    }
    return good;
}

void row_unpack(const struct row_form *f, real *to, const void *row, int64_t c0, int64_t c1)
{
    float part[CHUNK];

    for (int64_t at = c0 / f->values * f->values, end; c0 < c1; at = c0 = end) {
        end = at + CHUNK < c1 ? at + CHUNK : c1;
        f->unpack(part, (const uint8_t *)row + at / f->values * f->bytes, blocks(f, end - at));
        for (int64_t i = c0; i < end; i++)
            to[i - c0] = part[i - at];
        to += end - c0;
    }
}
