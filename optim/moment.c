/* moment.c - each row of `formats` is one way to store a block of values. */
#include "optim/moment.h"
#include "base/bf16.h"
#include "base/mem.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 4096, DECADES = 7 };

enum moment_type moment_type_of(enum moment_type want, const struct tensor *param)
{
    return param->rows == 1 || tensor_count(param) < SMALL ? MOMENT_F32 : want;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

/* The interval [0.1, 1] scaled to decade i, from 1e-6 on, is cut into 2^i equal parts (2^(i+1)
 * without signs), and the middle of each is a value; 0 and 1 are the two remaining. As in
 * bitsandbytes' create_dynamic_map. */
void moment_code_make(struct moment_code *c, bool has_sign)
{
    int n = 0;

    for (int i = 0; i < DECADES; i++) {
        int parts = has_sign ? 1 << i : 2 << i;
        for (int k = 0; k < parts; k++) {
            double x = pow(10, i - DECADES + 1) * (0.1 + 0.9 * (k + 0.5) / parts);
            c->value[n++] = (float)x;
            if (has_sign) c->value[n++] = (float)-x;
        }
    }
    c->value[n++] = 0;
    c->value[n++] = 1;
    CHECK(n == 256);
    qsort(c->value, 256, sizeof *c->value, by_value);
    c->value[256] = 2;
    c->has_sign = has_sign;
}

/* Sixteen random bits for each value of a block: four values share one number. */
struct noise {
    uint64_t bits[MOMENT_BLOCK / 4];
};

static void noise_make(struct noise *n, uint64_t key, int64_t first)
{
    for (int64_t i = 0; i < MOMENT_BLOCK / 4; i++)
        n->bits[i] = rng_at(key, (uint64_t)(first / 4 + i));
}

static inline uint16_t noise_at(const struct noise *n, int64_t i)
{
    return (uint16_t)(n->bits[i / 4] >> 16 * (i % 4));
}

/* ---- f32: in place ---- */

static float *load_f32(const struct moment *m, int64_t first, int64_t n, float *buf)
{
    (void)n;
    (void)buf;
    return (float *)m->data + first;
}

static void store_f32(struct moment *m, int64_t first, int64_t n, const float *x, uint64_t key)
{
    (void)m, (void)first, (void)n, (void)x, (void)key;
}

/* ---- bf16 ---- */

static float *load_bf16(const struct moment *m, int64_t first, int64_t n, float *buf)
{
    const uint16_t *from = (const uint16_t *)m->data + first;

#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        buf[i] = bf16_to_f32(from[i]);
    return buf;
}

static void store_bf16(struct moment *m, int64_t first, int64_t n, const float *x, uint64_t key)
{
    uint16_t *to = (uint16_t *)m->data + first;
    struct noise noise;

    noise_make(&noise, key, m->first + first);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        to[i] = bf16_stochastic(x[i], noise_at(&noise, i));
}

/* ---- 8bit ---- */

static float *load_8bit(const struct moment *m, int64_t first, int64_t n, float *buf)
{
    const uint8_t *from = (const uint8_t *)m->data + first;
    float scale = m->scale[first / MOMENT_BLOCK];

#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        buf[i] = scale * m->code->value[from[i]];
    return buf;
}

/* The value of largest magnitude, with its sign. */
static float extreme(const float *x, int64_t n)
{
    float high = 0, low = 0;

#pragma omp simd reduction(max : high) reduction(min : low)
    for (int64_t i = 0; i < n; i++) {
        high = x[i] > high ? x[i] : high;
        low = x[i] < low ? x[i] : low;
    }
    return high >= -low ? high : low;
}

/* code: for each q <= 1 the code of the largest value not above it, or 0. A binary search for a
 * whole block at a time, which the compiler can vectorise. */
static void search(const struct moment_code *c, const float *q, int64_t n, int32_t *code)
{
    for (int32_t half = 128; half; half /= 2) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            code[i] += c->value[code[i] + half] <= q[i] ? half : 0;
    }
}

static void store_8bit(struct moment *m, int64_t first, int64_t n, const float *x, uint64_t key)
{
    const float *value = m->code->value;
    uint8_t *to = (uint8_t *)m->data + first;
    float scale = extreme(x, n), q[MOMENT_BLOCK];
    int32_t code[MOMENT_BLOCK] = {0}, least = m->code->has_sign ? 0 : 1;
    struct noise noise;

    noise_make(&noise, key, m->first + first);
    m->scale[first / MOMENT_BLOCK] = scale;
    if (scale == 0) scale = 1; /* all values are 0 */
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        q[i] = x[i] / scale;
    search(m->code, q, n, code);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float low = value[code[i]], share = (q[i] - low) / (value[code[i] + 1] - low);
        int32_t next = code[i] + ((float)noise_at(&noise, i) * 0x1p-16f < share);
        to[i] = (uint8_t)(next < least && q[i] > 0 ? least : next);
    }
}

static const struct format {
    size_t bytes;
    bool scaled;
    float *(*load)(const struct moment *, int64_t first, int64_t n, float *buf);
    void (*store)(struct moment *, int64_t first, int64_t n, const float *x, uint64_t key);
} formats[MOMENT_TYPES] = {
    [MOMENT_F32] = {sizeof(float), false, load_f32, store_f32},
    [MOMENT_BF16] = {sizeof(uint16_t), false, load_bf16, store_bf16},
    [MOMENT_8BIT] = {sizeof(uint8_t), true, load_8bit, store_8bit},
};

bool moment_init(struct moment *m, enum moment_type type, int64_t n, const struct moment_code *code,
                 struct err *e)
{
    const struct format *f = &formats[type];

    *m = (struct moment){.type = type, .n = n, .code = f->scaled ? code : NULL};
    m->data = mem_new((size_t)n, f->bytes, "the optimiser's state", e);
    if (m->data && f->scaled)
        m->scale = mem_new((size_t)moment_blocks(n), sizeof *m->scale, "the optimiser's state", e);
    if (m->data && (m->scale || !f->scaled))
        return true; /* with a scale of 0 the codes do not matter */
    moment_free(m);
    return false;
}

void moment_free(struct moment *m)
{
    free(m->data);
    free(m->scale);
    memset(m, 0, sizeof *m);
}

double moment_bytes(enum moment_type type, int64_t n)
{
    double scales = formats[type].scaled ? (double)moment_blocks(n) * sizeof(float) : 0;

    return (double)n * (double)formats[type].bytes + scales;
}

float *moment_load(const struct moment *m, int64_t block, float buf[MOMENT_BLOCK])
{
    return formats[m->type].load(m, block * MOMENT_BLOCK, moment_values(m, block), buf);
}

void moment_store(struct moment *m, int64_t block, const float *x, uint64_t key)
{
    formats[m->type].store(m, block * MOMENT_BLOCK, moment_values(m, block), x, key);
}
