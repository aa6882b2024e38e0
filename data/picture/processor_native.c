/* processor_native.c - Qwen2-VL's and Qwen2.5-VL's processor as in transformers 5.24: resizes a
 * picture to near its own size, with both sides a whole number of blocks of patches and the number
 * of pixels within limits, and cuts it into patches. Sizes are computed in double, as in Python. */
#include "data/picture/processor_parts.h"

#include <inttypes.h>
#include <math.h>

enum { MAX_RATIO = 200, DEFAULT_MIN = 3136, DEFAULT_MAX = 1003520 };

/* transformers' smart_resize. */
static bool native_shape(const struct processor *p, struct picture_shape *s, struct err *e)
{
    const double f = (double)(p->patch_size * p->merge_size), h = (double)s->height,
                 w = (double)s->width;
    const double least = (double)p->min_pixels, most = (double)p->max_pixels;
    double H = rint(h / f) * f, W = rint(w / f) * f; /* rounds half to even, as Python */

    if (fmax(h, w) / fmin(h, w) > MAX_RATIO)
        return err_set(e,
                       "is %" PRId64 " x %" PRId64
                       " pixels: one side is more than %d times the other, which the model does "
                       "not take",
                       s->width, s->height, MAX_RATIO);
    if (H * W > most) {
        const double shrink = sqrt(h * w / most);
        H = fmax(f, floor(h / shrink / f) * f);
        W = fmax(f, floor(w / shrink / f) * f);
    } else if (H * W < least) {
        const double stretch = sqrt(least / (h * w));
        H = ceil(h * stretch / f) * f;
        W = ceil(w * stretch / f) * f;
    }
    s->to_h = (int64_t)H;
    s->to_w = (int64_t)W;
    s->grid_h = s->to_h / p->patch_size;
    s->grid_w = s->to_w / p->patch_size;
    s->inputs = s->grid_h * s->grid_w;
    return true;
}

static bool native_check(struct processor *p, const char **key, struct err *e)
{
    const int64_t block = p->patch_size * p->merge_size;

    if (p->patch_size < 1 || p->merge_size < 1 || p->temporal_patch_size < 1 ||
        block > PROCESSOR_MAX_SIDE)
        return processor_fault(e, key, "patch_size",
                               ": 1 or more, blocks of %d at most are allowed", PROCESSOR_MAX_SIDE);
    if (p->min_pixels < 1 || p->max_pixels < p->min_pixels || p->max_pixels > IMAGE_MAX_PIXELS)
        return processor_fault(e, key, "max_pixels",
                               " is %" PRId64 " and min_pixels %" PRId64
                               "; allowed: 1 or more, max_pixels not below min_pixels",
                               p->max_pixels, p->min_pixels);
    if (p->max_pixels < block * block)
        return processor_fault(e, key, "max_pixels",
                               " is %" PRId64 "; a block of patches has %" PRId64 " pixels",
                               p->max_pixels, block * block);
    if (!p->do_resize)
        return processor_fault(e, key, "do_resize",
                               " is off; pictures are cut into patches and must fit them");
    p->height = p->width = 0;
    p->input_width = 3 * p->temporal_patch_size * p->patch_size * p->patch_size;
    return true;
}

/* One patch with its upper left corner at (y, x): [3, temporal_patch_size, size, size], with the
 * same picture as every frame. */
static void patch(const struct processor *p, const struct image *img, int64_t y, int64_t x,
                  float value[3][256], float *out)
{
    const int64_t size = p->patch_size;

    for (int c = 0; c < 3; c++)
        for (int64_t t = 0; t < p->temporal_patch_size; t++)
            for (int64_t i = 0; i < size; i++) {
                const uint8_t *px = img->px + 3 * ((y + i) * img->width + x) + c;
                for (int64_t k = 0; k < size; k++)
                    *out++ = value[c][px[3 * k]];
            }
}

static bool native_run(const struct processor *p, const struct image *rgb, float *pixels,
                       struct err *e)
{
    struct picture_shape s = {.height = rgb->height, .width = rgb->width};
    const int64_t m = p->merge_size;
    float value[3][256];
    struct image img;

    if (!native_shape(p, &s, e) || !image_resize(rgb, s.to_w, s.to_h, p->resample, &img, e))
        return false;
    processor_table(p, value);
    for (int64_t i = 0; i < s.inputs; i++) {
        const int64_t block = i / (m * m), in = i % (m * m), across = s.grid_w / m;
        const int64_t y = block / across * m + in / m, x = block % across * m + in % m;
        patch(p, &img, y * p->patch_size, x * p->patch_size, value, pixels + i * p->input_width);
    }
    image_free(&img);
    return true;
}

static void native_defaults(struct processor *p)
{
    p->min_pixels = DEFAULT_MIN;
    p->max_pixels = DEFAULT_MAX;
    p->patch_size = 14;
    p->merge_size = 2;
    p->temporal_patch_size = 2;
    p->do_center_crop = false;
}

const struct processor_kind processor_native = {
    .name = "native",
    .classes = {"Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", "Qwen2VLImageProcessorPil",
                "Qwen2_5_VLImageProcessor", "Qwen2_5_VLImageProcessorFast"},
    .defaults = native_defaults,
    .check = native_check,
    .shape = native_shape,
    .run = native_run,
};
