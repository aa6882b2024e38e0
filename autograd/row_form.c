/* row_form.c - the table of forms. The blocks, in memory:
 *
 *     q8   32 values   fp16 s | 32 int8                      x = s q       s = max |x| / 127
 *     q4   64 values   fp16 s | fp16 m | 32 bytes            x = s q + m   s = (max - min) / 15
 *     q2   32 values   fp16 s | fp16 m | 8 bytes             x = s q + m   s = (max - min) / 3
 *
 * with m = min. A byte i of `n` holds value i in its lowest bits, then those of i + n, i + 2n ...
 * So a byte of q4 has value i in its low half, and i + 32 in its high half. s and m are rounded to
 * fp16 first, and q is rounded, half to even, with the rounded ones; s = 0 makes all q 0. q8 is
 * ggml's block q8_0; q4 is the affine quantiser of optimum-quanto, by groups of 64
 * neighbours of a token.
 *
 * For comparison only: quanto2 is that quantiser with 2 bits; hqq4 and hqq2 have the s and m of HQQ
 * (Badri and Shaji 2023) for such groups, each with its own end of the rounds. kivi4k and kivi2k
 * are KIVI's keys (Liu et al. 2024): runs of 32 tokens, each channel a block; kivi4v and kivi2v its
 * values, a block for 32 channels of a token. Of both what is newest waits in bf16: keys until
 * their run is full and the next token comes, values for 32 tokens. */
#include "autograd/row_form.h"
#include "autograd/product_bf16.h"
#include "base/bf16.h"

#include <math.h>
#include <string.h>
#if defined __F16C__ || defined __AVX512F__
#include <immintrin.h>
#endif

enum { CHUNK = 64 }; /* values unpacked at a time: a multiple of every block */
#define F16_MOST 65504

static void put16(uint8_t *to, uint16_t v)
{
    memcpy(to, &v, sizeof v);
}

static float get16(const uint8_t *from)
{
    uint16_t v;

    memcpy(&v, from, sizeof v);
#if defined __F16C__
    return _cvtsh_ss(v); /* the same value, in one instruction */
#else
    return f16_to_f32(v);
#endif
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

static void pack_bf16(const struct row_form *f, uint8_t *to, const float *x, int64_t n)
{
    (void)f;
    for (int64_t i = 0; i < n; i++)
        put16(to + 2 * i, bf16_from_f32(x[i]));
}

static void unpack_bf16(const struct row_form *f, float *x, const uint8_t *from, int64_t n)
{
    (void)f;
    for (int64_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, from + 2 * i, sizeof v);
        x[i] = bf16_to_f32(v);
    }
}

enum { HEAD = 4 }; /* bytes of s and m */

#if defined __AVX512F__
enum { LANES = 16 };

static inline __m128i load_bytes(const uint8_t *from)
{
    return _mm_loadu_si128((const __m128i *)(const void *)from);
}

/* s q + m, rounded after each. */
static inline void store_codes(float *x, __m512i q, float s, float m)
{
    const __m512 product = _mm512_mul_ps(_mm512_set1_ps(s), _mm512_cvtepi32_ps(q));

    _mm512_storeu_ps(x, _mm512_add_ps(product, _mm512_set1_ps(m)));
}

static void unpack_q4(float *x, const uint8_t *from, int64_t n)
{
    const __m512i low = _mm512_set1_epi32(15);

    for (; n > 0; n--, from += HEAD + 32, x += 64) {
        const float s = get16(from), m = get16(from + 2);
        for (int i = 0; i < 32; i += LANES) {
            const __m512i byte = _mm512_cvtepu8_epi32(load_bytes(from + HEAD + i));
            store_codes(x + i, _mm512_and_si512(byte, low), s, m);
            store_codes(x + 32 + i, _mm512_srli_epi32(byte, 4), s, m);
        }
    }
}
#endif

/* ---- q8 ---- */

enum { Q8 = 32, Q8_BYTES = 2 + Q8 };

static void pack_q8(const struct row_form *f, uint8_t *to, const float *x, int64_t n)
{
    (void)f;
    for (; n > 0; n--, to += Q8_BYTES, x += Q8) {
        float most = 0;
        for (int i = 0; i < Q8; i++)
            most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        const float s = put_f16(to, most / 127);
        for (int i = 0; i < Q8; i++)
            to[2 + i] = (uint8_t)(int8_t)(s > 0 ? rounded(x[i] / s, -127, 127) : 0);
    }
}

static void unpack_q8(const struct row_form *f, float *x, const uint8_t *from, int64_t n)
{
    (void)f;
    for (; n > 0; n--, from += Q8_BYTES, x += Q8) {
        const float s = get16(from);
#if defined __AVX512F__ /* as below: compilers take three times as many instructions */
        for (int i = 0; i < Q8; i += LANES)
            _mm512_storeu_ps(
                x + i,
                _mm512_mul_ps(_mm512_set1_ps(s),
                              _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_bytes(from + 2 + i)))));
#else
        for (int i = 0; i < Q8; i++)
            x[i] = s * (float)(int8_t)from[2 + i];
#endif
    }
}

/* ---- codes of a few bits ---- */

static void fit_range(const float *x, int64_t n, float most, float *scale, float *least)
{
    float low = x[0], high = x[0];

    for (int64_t i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *scale = (high - low) / most;
    *least = low;
}

/* HQQ: the scale stays that of the range, and the zero point z = -least / scale moves for 20 rounds
 * towards the least sum of |error|^0.7, by its half-quadratic splitting with beta 10: of the errors
 * what is small is ignored, and z takes the mean of the rest. */
static void fit_hqq(const float *x, int64_t n, float most, float *scale, float *least)
{
    float per, z, best = INFINITY;

    fit_range(x, n, most, scale, least);
    per = *scale * most <= 1e-4f ? 1 : 1 / *scale;
    per = per > 2e4f ? 2e4f : per;
    z = -*least * per;
    for (int round = 0; round < 20; round++) {
        float error = 0, sum = 0;
        for (int64_t i = 0; i < n; i++) {
            const float q = rounded(x[i] * per + z, 0, most), e = x[i] - (q - z) / per;
            const float left = fabsf(e) - powf(fabsf(e), -0.3f) / 10;
            error += fabsf(e);
            sum += q - (x[i] - (left > 0 ? copysignf(left, e) : 0)) * per;
        }
        z = sum / (float)n;
        if (!(error < best)) break;
        best = error;
    }
    *scale = 1 / per;
    *least = -z / per;
}

static void pack_codes(const struct row_form *f, uint8_t *to, const float *x, int64_t n)
{
    const int64_t bytes = f->bytes - HEAD;
    const float most = (float)((1 << f->bits) - 1);
    float s = 0, m = 0;

    for (; n > 0; n--, to += f->bytes, x += f->values) {
        (f->fit ? f->fit : fit_range)(x, f->values, most, &s, &m);
        s = put_f16(to, s);
        m = put_f16(to + 2, m);
        memset(to + HEAD, 0, (size_t)bytes);
        for (int64_t i = 0; s > 0 && i < f->values; i++)
            to[HEAD + i % bytes] |=
                (uint8_t)((int)rounded((x[i] - m) / s, 0, most) << (int)(i / bytes) * f->bits);
    }
}

static inline __attribute__((always_inline)) void
unpack_blocks(int64_t values, int64_t bytes, int bits, float *x, const uint8_t *from, int64_t n)
{
    const int mask = (1 << bits) - 1;

    for (; n > 0; n--, from += HEAD + bytes, x += values) {
        const float s = get16(from), m = get16(from + 2);
        for (int64_t k = 0; k < values / bytes; k++)
            for (int64_t i = 0; i < bytes; i++)
                x[k * bytes + i] = s * (float)(from[HEAD + i] >> (int)k * bits & mask) + m;
    }
}

static bool has_q4_blocks(const struct row_form *f)
{
    return f->values == 64 && f->bits == 4;
}

/* Of the usual forms the compiler is told the numbers. */
static void unpack_codes(const struct row_form *f, float *x, const uint8_t *from, int64_t n)
{
    if (has_q4_blocks(f))
#if defined __AVX512F__
        unpack_q4(x, from, n);
#else
        unpack_blocks(64, 32, 4, x, from, n);
#endif
    else if (f->values == 32 && f->bits == 2)
        unpack_blocks(32, 8, 2, x, from, n);
    else
        unpack_blocks(f->values, f->bytes - HEAD, f->bits, x, from, n);
}

/* ---- rows ---- */

enum { RUN = 32 }; /* of KIVI's examples, for its groups and its window */

static const struct row_form forms[] = {
    {.name = "f32", .values = 1, .bytes = sizeof(real)},
    {.name = "bf16", .values = 1, .bytes = 2, .pack = pack_bf16, .unpack = unpack_bf16},
    {"q8", Q8, Q8_BYTES, F16_MOST, pack_q8, unpack_q8, 8, 0, false, NULL},
    {"q4", 64, HEAD + 32, F16_MOST, pack_codes, unpack_codes, 4, 0, false, NULL},
    {"q2", 32, HEAD + 8, F16_MOST, pack_codes, unpack_codes, 2, 0, false, NULL},
    {"quanto2", 64, HEAD + 16, F16_MOST, pack_codes, unpack_codes, 2, 0, false, NULL},
    {"hqq4", 64, HEAD + 32, F16_MOST, pack_codes, unpack_codes, 4, 0, false, fit_hqq},
    {"hqq2", 64, HEAD + 16, F16_MOST, pack_codes, unpack_codes, 2, 0, false, fit_hqq},
    {"kivi4k", RUN, HEAD + 16, F16_MOST, pack_codes, unpack_codes, 4, RUN, true, NULL},
    {"kivi2k", RUN, HEAD + 8, F16_MOST, pack_codes, unpack_codes, 2, RUN, true, NULL},
    {"kivi4v", RUN, HEAD + 16, F16_MOST, pack_codes, unpack_codes, 4, RUN, false, NULL},
    {"kivi2v", RUN, HEAD + 8, F16_MOST, pack_codes, unpack_codes, 2, RUN, false, NULL},
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
    if (f->channels) return (width * f->bytes + f->run - 1) / f->run;
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
        f->pack(f, (uint8_t *)to + at / f->values * f->bytes, part, blocks(f, n));
    }
    return good;
}

/* The columns of whole blocks can be unpacked in place. */
static int64_t unpack_whole(const struct row_form *f, real *to, const uint8_t *from, int64_t n)
{
#ifdef AUTOGRAD_DOUBLE
    (void)f, (void)to, (void)from, (void)n;
    return 0;
#else
    f->unpack(f, to, from, n / f->values);
    return n / f->values * f->values;
#endif
}

void row_unpack(const struct row_form *f, real *to, const void *row, int64_t c0, int64_t c1)
{
    float part[CHUNK];

    if (c0 % f->values == 0) {
        const int64_t n =
            unpack_whole(f, to, (const uint8_t *)row + c0 / f->values * f->bytes, c1 - c0);
        to += n;
        c0 += n;
    }
    for (int64_t at = c0 / f->values * f->values, end; c0 < c1; at = c0 = end) {
        end = at + CHUNK < c1 ? at + CHUNK : c1;
        f->unpack(f, part, (const uint8_t *)row + at / f->values * f->bytes, blocks(f, end - at));
        for (int64_t i = c0; i < end; i++)
            to[i - c0] = part[i - at];
        to += end - c0;
    }
}

/* ---- sequences ---- */

int64_t row_form_window(const struct row_form *f, int64_t width)
{
    /* the last run's rows may be more than the capacity's */
    const int64_t run = f->channels ? f->run * row_form_bytes(f, width) : 0;

    return f->run ? run + f->run * width * 2 : 0;
}

/* How many of n rows are packed. */
static int64_t packed_rows(const struct row_form *f, int64_t n)
{
    if (f->channels) return n > 0 ? (n - 1) / f->run * f->run : 0;
    return n > f->run ? n - f->run : 0;
}

int64_t row_form_held(const struct row_form *f, int64_t width, int64_t n)
{
    const int64_t packed = packed_rows(f, n);
    const int64_t bytes =
        f->channels ? packed / f->values * width * f->bytes : packed * row_form_bytes(f, width);

    return bytes + (n - packed) * width * 2;
}

struct row_sequence row_sequence_at(const struct row_form *f, void *all, int64_t sequence,
                                    int64_t capacity, int64_t width)
{
    const int64_t rows = capacity * row_form_bytes(f, width), more = row_form_window(f, width);
    uint8_t *begin = (uint8_t *)all + sequence * (rows + more);

    return (struct row_sequence){f, begin, begin + rows + more - f->run * width * 2, width};
}

static uint8_t *waiting(const struct row_sequence *s, int64_t at)
{
    return s->window + at % s->form->run * s->width * 2;
}

/* Packs the run of rows that wait, from row `first` on. */
static void pack_run(const struct row_sequence *s, int64_t first)
{
    const struct row_form *f = s->form;
    uint8_t *to = s->rows + first / f->run * s->width * f->bytes;
    float x[CHUNK];

    for (int64_t c = 0; c < s->width; c++) {
        for (int64_t i = 0; i < f->run; i++)
            unpack_bf16(NULL, x + i, waiting(s, i) + 2 * c, 1);
        f->pack(f, to + c * f->bytes, x, 1);
    }
}

/* Packs the row that has waited long enough when row `at` comes. */
static void pack_oldest(const struct row_sequence *s, int64_t at)
{
    const struct row_form *f = s->form;
    uint8_t *to = s->rows + (at - f->run) * row_form_bytes(f, s->width);
    float x[CHUNK];

    for (int64_t c = 0; c < s->width; c += f->values, to += f->bytes) {
        const int64_t n = s->width - c < f->values ? s->width - c : f->values;
        unpack_bf16(NULL, x, waiting(s, at) + 2 * c, n);
        for (int64_t i = n; i < f->values; i++)
            x[i] = x[n - 1];
        f->pack(f, to, x, 1);
    }
}

bool row_write(const struct row_sequence *s, int64_t at, const real *x)
{
    const struct row_form *f = s->form;
    const bool good = row_bad(f, x, s->width) < 0;

    if (!f->run) return row_pack(f, s->rows + at * row_form_bytes(f, s->width), x, s->width);
    if (f->channels && at > 0 && at % f->run == 0) pack_run(s, at - f->run);
    if (!f->channels && at >= f->run) pack_oldest(s, at);
    for (int64_t c = 0; c < s->width; c++)
        put16(waiting(s, at) + 2 * c, good ? bf16_from_f32((float)x[c]) : 0);
    return good;
}

/* Rows [from, end) of one packed run. */
static void read_run(const struct row_sequence *s, const struct row_part *p, real *to)
{
    const struct row_form *f = s->form;
    const uint8_t *run = s->rows + p->from / f->run * s->width * f->bytes;
    float x[CHUNK];

    for (int64_t c = p->c0; c < p->c1; c++) {
        f->unpack(f, x, run + c * f->bytes, 1);
        for (int64_t at = p->from; at < p->end; at++)
            to[(at - p->from) * p->ld + c - p->c0] = x[at % f->run];
    }
}

static void read_row(const struct row_sequence *s, int64_t at, bool waits, const struct row_part *p,
                     real *to)
{
    static const struct row_form bf16 = {.values = 1, .bytes = 2, .unpack = unpack_bf16};

    if (waits)
        row_unpack(&bf16, to, waiting(s, at), p->c0, p->c1);
    else
        row_unpack(s->form, to, s->rows + at * row_form_bytes(s->form, s->width), p->c0, p->c1);
}

const uint16_t *row_plain(const struct row_sequence *s, int64_t at)
{
    const uint8_t *row = s->rows + at * row_form_bytes(s->form, s->width);

    return s->form->unpack == unpack_bf16 ? (const uint16_t *)(const void *)row : NULL;
}

const void *row_held(const struct row_sequence *s, int64_t at)
{
    return s->rows + at * row_form_bytes(s->form, s->width);
}

#if defined __AVX512F__ && !defined AUTOGRAD_DOUBLE
/* Blocks of the usual forms straight to bf16. */
#define TARGET __attribute__((target("avx512f,avx512bw,avx512bf16")))

TARGET static inline __m512i code_values(__m512i q, __m512 s, __m512 m)
{
    return (__m512i)_mm512_add_ps(_mm512_mul_ps(s, _mm512_cvtepi32_ps(q)), m);
}

TARGET static inline void store_bf16(uint16_t *to, __m512i first, __m512i second)
{
    const __m512bh both = _mm512_cvtne2ps_pbh((__m512)second, (__m512)first);

    _mm512_storeu_si512(to, (__m512i)both);
}

TARGET static void q8_bf16(uint16_t *to, const uint8_t *from, int64_t n)
{
    for (; n > 0; n--, from += Q8_BYTES, to += Q8) {
        const __m512 s = _mm512_set1_ps(get16(from));
        const __m512i a = _mm512_cvtepi8_epi32(load_bytes(from + 2));
        const __m512i b = _mm512_cvtepi8_epi32(load_bytes(from + 2 + LANES));
        store_bf16(to, (__m512i)_mm512_mul_ps(s, _mm512_cvtepi32_ps(a)),
                   (__m512i)_mm512_mul_ps(s, _mm512_cvtepi32_ps(b)));
    }
}

TARGET static void q4_bf16(uint16_t *to, const uint8_t *from, int64_t n)
{
    const __m512i low = _mm512_set1_epi32(15);

    for (; n > 0; n--, from += HEAD + 32, to += 64) {
        const __m512 s = _mm512_set1_ps(get16(from)), m = _mm512_set1_ps(get16(from + 2));
        const __m512i a = _mm512_cvtepu8_epi32(load_bytes(from + HEAD));
        const __m512i b = _mm512_cvtepu8_epi32(load_bytes(from + HEAD + LANES));
        store_bf16(to, code_values(_mm512_and_si512(a, low), s, m),
                   code_values(_mm512_and_si512(b, low), s, m));
        store_bf16(to + 32, code_values(_mm512_srli_epi32(a, 4), s, m),
                   code_values(_mm512_srli_epi32(b, 4), s, m));
    }
}

bool row_bf16(const struct row_sequence *s, int64_t at, uint16_t *to)
{
    const struct row_form *f = s->form;
    const uint8_t *row = row_held(s, at);

    if (f->run || s->width % f->values || !product_bf16_has()) return false;
    if (f->unpack == unpack_q8)
        q8_bf16(to, row, s->width / f->values);
    else if (has_q4_blocks(f))
        q4_bf16(to, row, s->width / f->values);
    else
        return false;
    return true;
}
#else
bool row_bf16(const struct row_sequence *s, int64_t at, uint16_t *to)
{
    (void)s, (void)at, (void)to;
    return false;
}
#endif

void row_read(const struct row_sequence *s, int64_t n, const struct row_part *part, real *to)
{
    const struct row_form *f = s->form;
    const int64_t packed = f->run ? packed_rows(f, n) : n;
    struct row_part p = *part;

    for (; p.from < part->end; to += (p.end - p.from) * p.ld, p.from = p.end) {
        p.end = p.from + 1;
        if (f->channels && p.from < packed) {
            const int64_t next = (p.from / f->run + 1) * f->run;
            p.end = next < part->end ? next : part->end;
            read_run(s, &p, to);
        } else {
            read_row(s, p.from, p.from >= packed, &p, to);
        }
    }
}
