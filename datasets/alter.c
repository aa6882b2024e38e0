/* alter.c - the steps of an alteration, in order: the picture is rotated, scaled and placed on a
 * canvas; outlines are drawn where colour or alpha jump; colours are shifted; sometimes the
 * canvas is blurred or coarsened; and a background is put under it. A canvas is [height, width, 4]
 * floats, 0..1, with colours premultiplied by alpha, so that hidden colours of transparent
 * pixels never show. */
#include "datasets/alter.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct canvas {
    int64_t width, height;
    float (*px)[4];
};

static double between(struct rng *r, double lo, double hi)
{
    return lo + (hi - lo) * rng_uniform(r);
}

static bool chance(struct rng *r, double percent)
{
    return rng_uniform(r) * 100 < percent;
}

static bool canvas_new(struct canvas *c, int64_t width, int64_t height, struct err *e)
{
    c->width = width;
    c->height = height;
    c->px = mem_new((size_t)(width * height), sizeof *c->px, "a canvas", e);
    return c->px != NULL;
}

/* Adds `weight` times pixel (x, y) to *to; outside the picture everything is 0. */
static void add_pixel(const struct image *im, int64_t x, int64_t y, double weight, double to[4])
{
    if (x < 0 || y < 0 || x >= im->width || y >= im->height) return;
    const uint8_t *p = im->px + (y * im->width + x) * im->channels;
    double alpha = im->channels == 4 ? weight * p[3] / 255 : weight;
    for (int k = 0; k < 3; k++)
        to[k] += alpha * p[k] / 255;
    to[3] += alpha;
}

/* The picture between pixel centres, bilinear. */
static void add_point(const struct image *im, double x, double y, double weight, double to[4])
{
    double fx = floor(x - 0.5), fy = floor(y - 0.5), u = x - 0.5 - fx, v = y - 0.5 - fy;
    int64_t ix, iy;

    if (fx < -1 || fy < -1 || fx > (double)im->width || fy > (double)im->height) return;
    ix = (int64_t)fx;
    iy = (int64_t)fy;
    add_pixel(im, ix, iy, weight * (1 - u) * (1 - v), to);
    add_pixel(im, ix + 1, iy, weight * u * (1 - v), to);
    add_pixel(im, ix, iy + 1, weight * (1 - u) * v, to);
    add_pixel(im, ix + 1, iy + 1, weight * u * v, to);
}

/* Maps canvas to picture: source = m (canvas - middle - shift) + the picture's middle. */
struct map {
    double m[2][2], shift[2];
};

/* Each canvas pixel is the mean of enough points to skip none of the picture. */
static void place(struct canvas *c, const struct image *im, const struct map *t)
{
    double step = fmax(hypot(t->m[0][0], t->m[1][0]), hypot(t->m[0][1], t->m[1][1]));
    int n = (int)fmin(fmax(ceil(step), 1), 16);
    double weight = 1.0 / (n * n);

    for (int64_t i = 0; i < c->width * c->height; i++) {
        double sum[4] = {0};
        for (int s = 0; s < n * n; s++) {
            double x =
                (double)(i % c->width) + (s % n + 0.5) / n - (double)c->width / 2 - t->shift[0];
            double y =
                (double)(i / c->width) + (s / n + 0.5) / n - (double)c->height / 2 - t->shift[1];
            add_point(im, t->m[0][0] * x + t->m[0][1] * y + (double)im->width / 2,
                      t->m[1][0] * x + t->m[1][1] * y + (double)im->height / 2, weight, sum);
        }
        for (int k = 0; k < 4; k++)
            c->px[i][k] = (float)sum[k];
    }
}

/* Source pixels per canvas pixel when the picture just fits. */
static double fit(const struct image *im, int64_t width, int64_t height)
{
    return fmax((double)im->width / (double)width, (double)im->height / (double)height);
}

static struct map draw_map(const struct image *im, const struct alter *a, struct rng *r)
{
    double by = (double)a->strength / 100, angle = between(r, -0.26, 0.26) * by; /* 15 degrees */
    double scale = fit(im, a->width, a->height) / exp(between(r, -0.35, 0.15) * by);
    double aspect = exp(between(r, -0.15, 0.15) * by), shear = between(r, -0.15, 0.15) * by;
    double sx = scale * aspect * (a->mirror ? -1 : 1), sy = scale / aspect;
    struct map t = {
        .m = {{sx * (cos(angle) + shear * sin(angle)), sx * (-sin(angle) + shear * cos(angle))},
              {sy * sin(angle), sy * cos(angle)}}};

    t.shift[0] = between(r, -0.1, 0.1) * by * (double)a->width;
    t.shift[1] = between(r, -0.1, 0.1) * by * (double)a->height;
    return t;
}

/* The jump in colour or alpha between a pixel and its neighbours, 0..1 and more. */
static float edge_at(const struct canvas *c, int64_t x, int64_t y)
{
    int64_t left = x > 0 ? x - 1 : x, right = x + 1 < c->width ? x + 1 : x;
    int64_t up = y > 0 ? y - 1 : y, down = y + 1 < c->height ? y + 1 : y;
    float most = 0;

    for (int k = 0; k < 4; k++) {
        float dx = c->px[y * c->width + right][k] - c->px[y * c->width + left][k];
        float dy = c->px[down * c->width + x][k] - c->px[up * c->width + x][k];
        most = fmaxf(most, dx * dx + dy * dy);
    }
    return sqrtf(most);
}

/* Draws dark lines along edges; `fill` is how much of the colours between them remains. */
static bool draw_outline(struct canvas *c, float from, float gain, float fill, struct err *e)
{
    size_t n = (size_t)(c->width * c->height);
    float *edge = mem_new(n, sizeof *edge, "outlines", e);

    if (!edge) return false;
    for (int64_t i = 0; i < c->width * c->height; i++)
        edge[i] = edge_at(c, i % c->width, i / c->width);
    for (size_t i = 0; i < n; i++) {
        float line = fminf(fmaxf((edge[i] - from) * gain, 0), 1), alpha = c->px[i][3];
        for (int k = 0; k < 3; k++)
            c->px[i][k] = (c->px[i][k] * fill + alpha * (1 - fill)) * (1 - line);
        c->px[i][3] = alpha + (1 - alpha) * line;
    }
    free(edge);
    return true;
}

/* A 3 x 3 mean; the border is extended outwards. */
static bool blur(struct canvas *c, struct err *e)
{
    struct canvas to;

    if (!canvas_new(&to, c->width, c->height, e)) return false;
    for (int64_t i = 0; i < c->width * c->height; i++) {
        for (int s = 0; s < 9; s++) {
            int64_t x = i % c->width + s % 3 - 1, y = i / c->width + s / 3 - 1;
            x = x < 0 ? 0 : x < c->width ? x : c->width - 1;
            y = y < 0 ? 0 : y < c->height ? y : c->height - 1;
            for (int k = 0; k < 4; k++)
                to.px[i][k] += c->px[y * c->width + x][k] / 9;
        }
    }
    free(c->px);
    *c = to;
    return true;
}

/* Changes to a picture's colours, drawn once. */
struct colours {
    double turn, saturation, light, contrast; /* turn: of the hue, in radians */
    int levels;                               /* 0: unlimited */
};

static struct colours draw_colours(const struct alter *a, struct rng *r)
{
    double by = (double)a->strength / 100;
    struct colours s = {.turn = between(r, -0.25, 0.25) * by,
                        .saturation = exp(between(r, -0.5, 0.4) * by),
                        .light = between(r, -0.12, 0.12) * by,
                        .contrast = exp(between(r, -0.3, 0.3) * by)};

    if (chance(r, 8)) s.turn = between(r, -3.1, 3.1) * by;
    if (chance(r, 10)) s.saturation = 0;
    if (chance(r, 15)) s.levels = 3 + (int)rng_below(r, 4);
    return s;
}

/* The hue is rotated in YIQ's colour plane (NTSC 1953), which preserves brightness. */
static void recolour(float p[4], const struct colours *s)
{
    double alpha = p[3], rgb[3];

    if (alpha < 1e-4) return;
    for (int k = 0; k < 3; k++)
        rgb[k] = p[k] / alpha;
    double y = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    double i = 0.596 * rgb[0] - 0.274 * rgb[1] - 0.322 * rgb[2];
    double q = 0.211 * rgb[0] - 0.523 * rgb[1] + 0.312 * rgb[2];
    double ti = s->saturation * s->contrast * (i * cos(s->turn) - q * sin(s->turn));
    double tq = s->saturation * s->contrast * (i * sin(s->turn) + q * cos(s->turn));
    y = (y - 0.5) * s->contrast + 0.5 + s->light;
    rgb[0] = y + 0.956 * ti + 0.621 * tq;
    rgb[1] = y - 0.272 * ti - 0.647 * tq;
    rgb[2] = y - 1.106 * ti + 1.703 * tq;
    for (int k = 0; k < 3; k++) {
        double v = fmin(fmax(rgb[k], 0), 1);
        if (s->levels) v = round(v * (s->levels - 1)) / (s->levels - 1);
        p[k] = (float)(v * alpha);
    }
}

/* Mostly white, the usual background of transparent pictures. */
static void draw_ground_tone(float tone[3], struct rng *r)
{
    bool white = chance(r, 70);

    for (int k = 0; k < 3; k++)
        tone[k] = white ? 1 : (float)between(r, 0.7, 1);
}

static bool flatten(const struct canvas *c, const float tone[3], struct image *out, struct err *e)
{
    if (!image_new(out, c->width, c->height, 3, e)) return false;
    for (int64_t i = 0; i < c->width * c->height; i++) {
        for (int k = 0; k < 3; k++) {
            float v = c->px[i][k] + tone[k] * (1 - c->px[i][3]);
            out->px[i * 3 + k] = (uint8_t)lrintf(255 * fminf(fmaxf(v, 0), 1));
        }
    }
    return true;
}

/* Outlines of varying thickness; one in four of them leaves the colours pale or out. */
static bool restyle(struct canvas *c, const struct alter *a, struct rng *r, struct err *e)
{
    float from = (float)between(r, 0.2, 0.5), gain = (float)between(r, 1.5, 4);
    float fill = chance(r, 25) ? (float)between(r, 0, 0.7) : 1;

    if (chance(r, 12) && !blur(c, e)) return false;
    return !chance(r, (double)a->outline) || draw_outline(c, from, gain, fill, e);
}

bool alter_picture(const struct image *im, const struct alter *a, struct rng *r, struct image *out,
                   struct err *e)
{
    struct map t = draw_map(im, a, r);
    struct colours s = draw_colours(a, r);
    struct canvas c;
    float tone[3];
    bool ok;

    memset(out, 0, sizeof *out);
    draw_ground_tone(tone, r);
    if (!canvas_new(&c, a->width, a->height, e)) return false;
    place(&c, im, &t);
    for (int64_t i = 0; i < c.width * c.height; i++)
        recolour(c.px[i], &s);
    ok = restyle(&c, a, r, e) && flatten(&c, tone, out, e);
    free(c.px);
    return ok;
}

bool alter_nothing(const struct image *im, int64_t width, int64_t height, struct image *out,
                   struct err *e)
{
    static const float white[3] = {1, 1, 1};
    double scale = fit(im, width, height);
    struct map t = {.m = {{scale, 0}, {0, scale}}};
    struct canvas c;
    bool ok;

    memset(out, 0, sizeof *out);
    if (!canvas_new(&c, width, height, e)) return false;
    place(&c, im, &t);
    ok = flatten(&c, white, out, e);
    free(c.px);
    return ok;
}
