/* resize.c - Pillow's separable resampling (its Resample.c, 8 bits per channel). For each output
 * pixel of an axis the taps are computed in double and rounded to fixed point with 22 fractional
 * bits; sums are int32. Every expression keeps Pillow's order of operations, because the results
 * are compared bit for bit. */
#include "data/picture/resize.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BITS 22 /* 32 minus 8 for the pixel and 2 for negative lobes and overshoot */
#define HALF (1 << (BITS - 1))

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static double sinc(double x)
{
    if (x == 0) return 1;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x)
{
    return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static const struct filter {
    const char *name;
    double (*weight)(double x);
    double support; /* the weight is 0 beyond this */
} filters[] = {
    [RESIZE_BILINEAR] = {"bilinear", bilinear, 1},
    [RESIZE_BICUBIC] = {"bicubic", bicubic, 2},
    [RESIZE_LANCZOS] = {"lanczos", lanczos, 3},
};

/* One axis, resampled from `in` to `out` pixels, of which pixels lo..lo+n-1 are made; and the taps
 * of these: the same number for each, so that the loops over them have a fixed length; those beyond
 * the filter's reach are 0 and change no sum. */
struct axis {
    int64_t in, out, lo, n, taps;
    const struct filter *filter;
    int64_t *first; /* [n] first input pixel; first + taps is within the input */
    int32_t *k;     /* [n, taps] */
    double *work;   /* [taps] */
};

static void axis_free(struct axis *a)
{
    free(a->first);
    free(a->k);
    free(a->work);
    memset(a, 0, sizeof *a);
}

static int32_t to_fixed(double w)
{
    return (int32_t)((w < 0 ? -0.5 : 0.5) + w * (1 << BITS));
}

/* Input pixels per output pixel. */
static double axis_scale(const struct axis *a)
{
    return (double)a->in / (double)a->out;
}

/* Shrinking widens the filter by the scale. */
static double axis_width(const struct axis *a)
{
    double scale = axis_scale(a);

    return scale < 1 ? 1 : scale;
}

/* Where output pixel i of those made has its center in the input, and the input pixels
 * *first..return-1 within the filter's reach of it. */
static int64_t reach(const struct axis *a, int64_t i, double *center, int64_t *first)
{
    double support = a->filter->support * axis_width(a);

    *center = ((double)(a->lo + i) + 0.5) * axis_scale(a);
    int64_t end = (int64_t)(*center + support + 0.5);

    *first = (int64_t)(*center - support + 0.5);
    if (*first < 0) *first = 0;
    return end < a->in ? end : a->in;
}

static void axis_fill(struct axis *a, int64_t i)
{
    double center, sum = 0, inverse_scale = 1 / axis_width(a);
    int64_t first, end = reach(a, i, &center, &first);
    int32_t *k = a->k + i * a->taps;

    a->first[i] = first < a->in - a->taps ? first : a->in - a->taps;
    k += first - a->first[i];
    for (int64_t x = first; x < end; x++) {
        double w = a->filter->weight(((double)x - center + 0.5) * inverse_scale);

        a->work[x - first] = w;
        sum += w;
    }
    for (int64_t x = first; x < end; x++)
        k[x - first] = to_fixed(sum != 0 ? a->work[x - first] / sum : 0);
}

/* Makes the taps. On failure *a needs no axis_free. */
static bool axis_init(struct axis *a, struct err *e)
{
    double center;
    size_t taps;

    for (int64_t i = 0; i < a->n; i++) {
        int64_t first, end = reach(a, i, &center, &first);

        if (end - first > a->taps) a->taps = end - first;
    }
    if (!size_mul(&taps, (size_t)a->n, (size_t)a->taps))
        return err_set(e, "out of memory: resizing %lld to %lld", (long long)a->in,
                       (long long)a->out);
    a->first = mem_new((size_t)a->n, sizeof *a->first, "resizing", e);
    a->k = mem_new(taps, sizeof *a->k, "resizing", e);
    a->work = mem_new((size_t)a->taps, sizeof *a->work, "resizing", e);
    if (!a->first || !a->k || !a->work) {
        axis_free(a);
        return false;
    }
    for (int64_t i = 0; i < a->n; i++)
        axis_fill(a, i);
    return true;
}

static uint8_t clip8(int32_t v)
{
    v >>= BITS;
    v = v > 0 ? v : 0;
    return (uint8_t)(v < 255 ? v : 255);
}

static void clip_row(const int32_t *in, int64_t n, uint8_t *out)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = clip8(in[i]);
}

/* Four neighbouring values of a row, unaligned; compilers allow vectors to alias their elements. */
typedef int32_t four __attribute__((vector_size(16), aligned(4)));

/* A resampling under way: the first pass goes to `mid`. */
struct passes {
    const struct image *src;
    struct axis x, y;
    struct image mid, *out;
    int64_t col0;  /* columns first: the column of the first pixel in mid */
    int32_t *wide; /* [(src->width + x.n) * channels + 2]: a row of sums, and one of pixels */
};

/* out[x.n, channels], one row, from the row `in` of n pixels, whose first is pixel col0 of the
 * axis. A pixel of 3 channels is processed as 4: the fourth is the next pixel's first, or the
 * padding after the row, and is overwritten in `sum`. */
static void row_x(const struct passes *p, const uint8_t *in, int64_t n, int64_t col0, uint8_t *out)
{
    const int64_t ch = p->src->channels;
    const struct axis *ax = &p->x;
    int32_t *wide = p->wide, *sum = wide + n * ch + 1;

#pragma omp simd
    for (int64_t i = 0; i < n * ch; i++)
        wide[i] = in[i];
    wide[n * ch] = 0;
    for (int64_t i = 0; i < ax->n; i++) {
        const int32_t *at = wide + (ax->first[i] - col0) * ch, *k = ax->k + i * ax->taps;
        four s = {HALF, HALF, HALF, HALF};

        for (int64_t t = 0; t < ax->taps; t++, at += ch)
            s += *(const four *)at * k[t];
        *(four *)(sum + i * ch) = s;
    }
    clip_row(sum, ax->n * ch, out);
}

/* sum[n] += from[n] * k */
static void add_row(int32_t *sum, const uint8_t *from, int32_t k, int64_t n)
{
#pragma omp simd
    for (int64_t x = 0; x < n; x++)
        sum[x] += from[x] * k;
}

/* out[n], row i of the axis, n values starting at value x0 of the rows of *in. Row r of the axis is
 * row r % in->height, so that *in may hold only the most recent rows. */
static void row_y(const struct passes *p, int64_t i, const struct image *in, int64_t x0, int64_t n,
                  uint8_t *out)
{
    const struct axis *ay = &p->y;
    int32_t *sum = p->wide;

    for (int64_t x = 0; x < n; x++)
        sum[x] = HALF;
    for (int64_t t = 0; t < ay->taps; t++) {
        int64_t row = (ay->first[i] + t) % in->height;

        add_row(sum, in->px + row * in->width * in->channels + x0, ay->k[i * ay->taps + t], n);
    }
    clip_row(sum, n, out);
}

/* Rows first: mid [y.taps, x.n] holds the most recent rows. */
static void rows_first(struct passes *p)
{
    const struct image *src = p->src;
    const int64_t ch = src->channels, n = p->x.n * ch;
    int64_t row = p->y.first[0];

    for (int64_t i = 0; i < p->y.n; i++) {
        for (; row < p->y.first[i] + p->y.taps; row++)
            row_x(p, src->px + row * src->width * ch, src->width, 0,
                  p->mid.px + row % p->mid.height * n);
        row_y(p, i, &p->mid, 0, n, p->out->px + i * n);
    }
}

/* Columns first: mid is one row of the columns col0.. that the rows' taps reach. */
static void columns_first(struct passes *p)
{
    const int64_t ch = p->src->channels;

    for (int64_t i = 0; i < p->y.n; i++) {
        row_y(p, i, p->src, p->col0 * ch, p->mid.width * ch, p->mid.px);
        row_x(p, p->mid.px, p->mid.width, p->col0, p->out->px + i * p->x.n * ch);
    }
}

/* The part of `box` within a w x h picture; false if there is none. */
static bool box_clip(const struct image_box *box, int64_t w, int64_t h, struct image_box *part)
{
    int64_t right = box->x + box->w, bottom = box->y + box->h;

    part->x = box->x > 0 ? box->x : 0;
    part->y = box->y > 0 ? box->y : 0;
    part->w = (right < w ? right : w) - part->x;
    part->h = (bottom < h ? bottom : h) - part->y;
    return part->w > 0 && part->h > 0;
}

/* Which pass comes first changes the rounding between them. Pillow 13.0 goes down the columns first
 * if that drops more than twice as many rows as the other order drops columns; 9 and 10 always go
 * along the rows first, 11 and 12 except for pictures over 100 times as tall as wide. All agree on
 * a picture less than twice as tall as wide whose shape is kept. */
static bool goes_down_first(const struct image *src, int64_t w, int64_t h)
{
    return h < src->height && src->height - h > 2 * (src->width - w);
}

/* Allocates what p's passes need, the result too. */
static bool open_passes(struct passes *p, bool down, struct err *e)
{
    const struct axis *x = &p->x;
    const int64_t ch = p->src->channels, wide = (p->src->width + x->n) * ch + 2;
    int64_t columns;

    if (!axis_init(&p->x, e) || !axis_init(&p->y, e)) return false;
    p->col0 = x->first[0];
    columns = x->first[x->n - 1] + x->taps - p->col0;
    if (!image_new(&p->mid, down ? columns : x->n, down ? 1 : p->y.taps, (int)ch, e)) return false;
    p->wide = mem_new((size_t)wide, sizeof *p->wide, "resizing", e);
    return p->wide && image_new(p->out, x->n, p->y.n, (int)ch, e);
}

/* Resamples the pixels `part` of the result `to` into a new *out of that size. */
static bool resample(const struct image *src, const struct resize_to *to,
                     const struct image_box *part, struct image *out, struct err *e)
{
    const struct filter *f = &filters[to->filter];
    struct passes p = {
        .src = src,
        .out = out,
        .x = {.in = src->width, .out = to->w, .lo = part->x, .n = part->w, .filter = f},
        .y = {.in = src->height, .out = to->h, .lo = part->y, .n = part->h, .filter = f}};
    bool down = goes_down_first(src, to->w, to->h), ok;

    memset(out, 0, sizeof *out);
    ok = open_passes(&p, down, e);
    if (ok && down) columns_first(&p);
    if (ok && !down) rows_first(&p);
    free(p.wide);
    image_free(&p.mid);
    axis_free(&p.x);
    axis_free(&p.y);
    return ok;
}

/* Pillow's RGBA to RGBa: round(c * a / 255). */
static void premultiply(struct image *img)
{
    for (uint8_t *p = img->px, *end = p + img->width * img->height * 4; p < end; p += 4) {
        for (int c = 0; c < 3; c++) {
            unsigned t = (unsigned)p[c] * p[3] + 128;

            p[c] = (uint8_t)(((t >> 8) + t) >> 8);
        }
    }
}

/* Pillow's RGBa to RGBA: 255 * c / a rounded down, clipped at 255; colours are kept
 * if a is 0 or 255. */
static void unpremultiply(struct image *img)
{
    for (uint8_t *p = img->px, *end = p + img->width * img->height * 4; p < end; p += 4) {
        if (p[3] == 0 || p[3] == 255) continue;
        for (int c = 0; c < 3; c++) {
            unsigned v = 255u * p[c] / p[3];

            p[c] = (uint8_t)(v > 255 ? 255 : v);
        }
    }
}

const char *resize_filter_name(enum resize_filter f)
{
    return filters[f].name;
}

/* resample, with RGBA colours weighted by alpha. */
static bool resample_alpha(const struct image *src, const struct resize_to *to,
                           const struct image_box *part, struct image *out, struct err *e)
{
    const struct image_box all = {0, 0, src->width, src->height};
    struct image pre;
    bool ok;

    if (src->channels == 3) return resample(src, to, part, out, e);
    if (!image_crop(src, &all, &pre, e)) return false;
    premultiply(&pre);
    ok = resample(&pre, to, part, out, e);
    if (ok) unpremultiply(out);
    image_free(&pre);
    return ok;
}

bool image_resize_box(const struct image *src, const struct resize_to *to,
                      const struct image_box *box, struct image *dst, struct err *e)
{
    struct image_box part, shown;
    struct image got;
    bool ok;

    memset(dst, 0, sizeof *dst);
    CHECK(to->w >= 1 && to->h >= 1 && (size_t)to->filter < sizeof filters / sizeof filters[0]);
    if (src->width == to->w && src->height == to->h) return image_crop(src, box, dst, e);
    if (!box_clip(box, to->w, to->h, &part))
        return image_new(dst, box->w, box->h, src->channels, e);
    if (!resample_alpha(src, to, &part, dst, e)) return false;
    if (part.w == box->w && part.h == box->h) return true;
    got = *dst;
    shown = (struct image_box){box->x - part.x, box->y - part.y, box->w, box->h};
    ok = image_crop(&got, &shown, dst, e);
    image_free(&got);
    return ok;
}

bool image_resize(const struct image *src, int64_t w, int64_t h, enum resize_filter f,
                  struct image *dst, struct err *e)
{
    const struct image_box all = {0, 0, w, h};

    return image_resize_box(src, &(struct resize_to){w, h, f}, &all, dst, e);
}

bool image_crop(const struct image *src, const struct image_box *box, struct image *dst,
                struct err *e)
{
    struct image_box part;

    if (!image_new(dst, box->w, box->h, src->channels, e)) return false;
    if (!box_clip(box, src->width, src->height, &part)) return true;
    for (int64_t y = part.y; y < part.y + part.h; y++)
        memcpy(dst->px + ((y - box->y) * dst->width + part.x - box->x) * dst->channels,
               src->px + (y * src->width + part.x) * src->channels,
               (size_t)(part.w * src->channels));
    return true;
}
