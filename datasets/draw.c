/* draw.c - rasterises figures by point-in-figure tests on a grid of samples. */
#include "datasets/draw.h"
#include "base/err.h"

enum { SAMPLES = 8 }; /* per side: 64 per pixel */

static int between(struct rng *r, int lo, int hi)
{
    return lo + (int)rng_below(r, (uint64_t)(hi - lo + 1));
}

static uint8_t byte_clamp(int v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

struct rgb draw_vary(struct rgb c, int by, struct rng *r)
{
    int dr = between(r, -by, by), dg = between(r, -by, by), db = between(r, -by, by);

    return (struct rgb){byte_clamp(c.r + dr), byte_clamp(c.g + dg), byte_clamp(c.b + db)};
}

void draw_ground(struct image *im, struct rgb tone, struct rng *r)
{
    struct rgb c = draw_vary(tone, 10, r);
    int slope_x = between(r, -14, 14), slope_y = between(r, -14, 14);

    CHECK(im->channels == 3);
    for (int64_t y = 0; y < im->height; y++) {
        for (int64_t x = 0; x < im->width; x++) {
            uint8_t *p = im->px + (y * im->width + x) * 3;
            int light = (int)(slope_x * (2 * x - im->width) / im->width +
                              slope_y * (2 * y - im->height) / im->height);
            light += between(r, -4, 4);
            p[0] = byte_clamp(c.r + light);
            p[1] = byte_clamp(c.g + light);
            p[2] = byte_clamp(c.b + light);
        }
    }
}

/* Even-odd rule. The point is scaled by 1000 and the corners by r, to avoid division. */
static bool in_polygon(const struct figure *f, int64_t x, int64_t y, int64_t r)
{
    bool in = false;

    for (int i = 0, j = f->n - 1; i < f->n; j = i++) {
        int64_t xi = f->at[i][0] * r, yi = f->at[i][1] * r;
        int64_t xj = f->at[j][0] * r, yj = f->at[j][1] * r;
        if ((yi > y) == (yj > y)) continue;
        int64_t side = (xj - xi) * (y - yi) - (x - xi) * (yj - yi);
        if (yj > yi ? side > 0 : side < 0) in = !in;
    }
    return in;
}

static bool in_figure(const struct figure *f, int64_t x, int64_t y, int64_t r)
{
    int64_t d = x * x + y * y, hole = f->hole * r / 1000;

    if (f->n) return in_polygon(f, x * 1000, y * 1000, r);
    return d <= r * r && d >= hole * hole;
}

/* Number of covered samples, 0..64, of the pixel with corner (x, y), relative to the figure's
 * centre. */
static int coverage(const struct figure *f, int64_t x, int64_t y, int64_t r)
{
    int step = DRAW_UNIT / SAMPLES, n = 0;

    for (int sy = 0; sy < SAMPLES; sy++)
        for (int sx = 0; sx < SAMPLES; sx++)
            n += in_figure(f, x + sx * step + step / 2, y + sy * step + step / 2, r);
    return n;
}

static uint8_t mix(uint8_t under, uint8_t over, int covered)
{
    int all = SAMPLES * SAMPLES;

    return (uint8_t)((under * (all - covered) + over * covered + all / 2) / all);
}

void draw_figure(struct image *im, const struct figure *f, int64_t x, int64_t y, int64_t r,
                 struct rgb colour)
{
    int64_t x0 = (x - r) / DRAW_UNIT, x1 = (x + r) / DRAW_UNIT + 1;
    int64_t y0 = (y - r) / DRAW_UNIT, y1 = (y + r) / DRAW_UNIT + 1;

    CHECK(im->channels == 3);
    for (int64_t py = y0 < 0 ? 0 : y0; py < y1 && py < im->height; py++) {
        for (int64_t px = x0 < 0 ? 0 : x0; px < x1 && px < im->width; px++) {
            uint8_t *p = im->px + (py * im->width + px) * 3;
            int n = coverage(f, px * DRAW_UNIT - x, py * DRAW_UNIT - y, r);
            p[0] = mix(p[0], colour.r, n);
            p[1] = mix(p[1], colour.g, n);
            p[2] = mix(p[2], colour.b, n);
        }
    }
}
