/* processor_anyres.c - LLaVA-NeXT's processor as in transformers 5.24 (LlavaNextImageProcessor):
 * the whole picture squeezed into one square, followed by the tiles of the picture scaled, with its
 * aspect ratio, to the best of several larger sizes, on black. All sizes are computed in double and
 * in the order of the Python code, because other orders round differently. */
#include "data/picture/processor_parts.h"

#include <inttypes.h>
#include <math.h>

/* The index of the size that keeps the most pixels of an h x w picture and, among equals, wastes
 * the fewest; the first of equals. */
static int64_t best_grid(const struct processor *p, double h, double w)
{
    double best_shown = 0, best_waste = INFINITY;
    int64_t best = 0;

    for (int64_t i = 0; i < p->grids; i++) {
        const double H = (double)p->grid[i][0], W = (double)p->grid[i][1];
        const double scale = fmin(W / w, H / h);
        const double shown = fmin(trunc(w * scale) * trunc(h * scale), w * h);
        const double waste = W * H - shown;

        if (shown < best_shown || (shown == best_shown && waste >= best_waste)) continue;
        best_shown = shown;
        best_waste = waste;
        best = i;
    }
    return best;
}

static bool anyres_shape(const struct processor *p, struct picture_shape *s, struct err *e)
{
    const double h = (double)s->height, w = (double)s->width;
    const int64_t *size = p->grid[best_grid(p, h, w)];
    const double H = (double)size[0], W = (double)size[1];

    (void)e; /* any size is fine */
    s->to_w = size[1];
    s->to_h = size[0];
    if (W / w < H / h)
        s->to_h = (int64_t)fmin(ceil(h * (W / w)), H);
    else
        s->to_w = (int64_t)fmin(ceil(w * (H / h)), W);
    s->grid_h = size[0] / p->height;
    s->grid_w = size[1] / p->width;
    s->inputs = 1 + s->grid_h * s->grid_w;
    return true;
}

/* Resize and centre crop act on tiles that already have the final size, so they do nothing. */
static bool anyres_check(struct processor *p, const char **key, struct err *e)
{
    const bool square = p->crop_h == p->crop_w && p->size_h == p->size_w && p->size_h == p->crop_h;

    if (!square || p->crop_h < 1 || p->crop_h > PROCESSOR_MAX_SIDE)
        return processor_fault(e, key, "crop_size",
                               ": %" PRId64 "x%" PRId64 " with a size of %" PRId64 "x%" PRId64
                               "; tiles and size must be the same square",
                               p->crop_w, p->crop_h, p->size_w, p->size_h);
    if (p->grids == 0)
        return processor_fault(e, key, "image_grid_pinpoints", ": one size or more is needed");
    p->height = p->width = p->crop_h;
    p->input_width = 3 * p->height * p->width;
    for (int64_t i = 0; i < p->grids; i++)
        if (p->grid[i][0] % p->height != 0 || p->grid[i][1] % p->width != 0)
            return processor_fault(e, key, "image_grid_pinpoints",
                                   ": %" PRId64 " x %" PRId64
                                   " is not a multiple of the tiles' %" PRId64 " pixels",
                                   p->grid[i][0], p->grid[i][1], p->height);
    return true;
}

/* One row of output [3, S, S]: `box` of the resized picture, black outside of it. */
static bool square(const struct processor *p, const struct image *rgb, const struct resize_to *to,
                   const struct image_box *box, float *pixels, struct err *e)
{
    struct image out;

    if (!image_resize_box(rgb, to, box, &out, e)) return false;
    processor_values(p, &out, pixels);
    image_free(&out);
    return true;
}

static bool anyres_run(const struct processor *p, const struct image *rgb, float *pixels,
                       struct err *e)
{
    const int64_t S = p->height;
    struct picture_shape s = {.height = rgb->height, .width = rgb->width};
    const struct image_box all = {0, 0, S, S};
    bool ok = anyres_shape(p, &s, e) &&
              square(p, rgb, &(struct resize_to){S, S, p->resample}, &all, pixels, e);
    const struct resize_to tiles = {s.to_w, s.to_h, p->resample};
    const int64_t top = (s.grid_h * S - s.to_h) / 2, left = (s.grid_w * S - s.to_w) / 2;

    for (int64_t i = 0; ok && i < s.grid_h * s.grid_w; i++) {
        struct image_box box = {i % s.grid_w * S - left, i / s.grid_w * S - top, S, S};
        ok = square(p, rgb, &tiles, &box, pixels + (1 + i) * p->input_width, e);
    }
    return ok;
}

static void anyres_defaults(struct processor *p)
{
    static const int64_t grid[][2] = {{336, 672}, {672, 336}, {672, 672}, {1008, 336}, {336, 1008}};

    p->grids = sizeof grid / sizeof *grid;
    for (int64_t i = 0; i < p->grids; i++)
        for (int k = 0; k < 2; k++)
            p->grid[i][k] = grid[i][k];
}

const struct processor_kind processor_anyres = {
    .name = "anyres",
    .classes = {"LlavaNextImageProcessor", "LlavaNextImageProcessorFast",
                "LlavaNextImageProcessorPil"},
    .defaults = anyres_defaults,
    .check = anyres_check,
    .shape = anyres_shape,
    .run = anyres_run,
};
