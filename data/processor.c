/* processor.c - CLIP's image processor. Only the part of the resized picture that the crop keeps is
 * ever computed: a picture of 1 x 4000 pixels with its shorter side brought to 336 would be 336 x
 * 1,344,000. */
#include "data/processor.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void processor_default(struct processor *p)
{
    *p = (struct processor){
        .do_resize = true,
        .shortest_edge = true,
        .size_h = 224,
        .size_w = 224,
        .resample = RESIZE_BICUBIC,
        .do_center_crop = true,
        .crop_h = 224,
        .crop_w = 224,
        .do_rescale = true,
        .rescale_factor = 1 / 255.0,
        .do_normalize = true,
        .mean = {0.48145466, 0.4578275, 0.40821073},
        .std = {0.26862954, 0.26130258, 0.27577711},
        .do_convert_rgb = true,
        .height = 224,
        .width = 224,
    };
}

/* The setting at fault in *key, its name before the message. */
__attribute__((format(printf, 4, 5))) static bool fault(struct err *e, const char **key,
                                                        const char *name, const char *fmt, ...)
{
    char what[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    *key = name;
    return err_set(e, "%s%s", name, what);
}

/* A number of one of image_mean and image_std. */
static bool check_colour(const double v[3], const char *name, bool divides, const char **key,
                         struct err *e)
{
    for (int c = 0; c < 3; c++)
        if (!isfinite(v[c]) || (divides && (float)v[c] == 0))
            return fault(e, key, name, ": finite numbers%s are needed",
                         divides ? " other than 0" : "");
    return true;
}

bool processor_check(struct processor *p, const char **key, struct err *e)
{
    const bool fixed = p->do_resize && !p->shortest_edge;
    const bool sized = p->do_center_crop || fixed;

    if (!sized)
        return fault(e, key, "do_center_crop",
                     " is off and size does not give height and width: pictures would come out in "
                     "different sizes");
    for (int c = 0; c < 3 && p->do_pad; c++)
        if (!(p->mean[c] >= 0 && p->mean[c] <= 1))
            return fault(e, key, "image_mean",
                         ": %g; do_pad needs means from 0 to 1, it pads with them", p->mean[c]);
    if (p->do_rescale && !isfinite(p->rescale_factor))
        return fault(e, key, "rescale_factor", ": a finite number is needed");
    if (p->do_normalize && (!check_colour(p->mean, "image_mean", false, key, e) ||
                            !check_colour(p->std, "image_std", true, key, e)))
        return false;
    p->height = p->do_center_crop ? p->crop_h : p->size_h;
    p->width = p->do_center_crop ? p->crop_w : p->size_w;
    if (p->height < 1 || p->width < 1 || p->height > PROCESSOR_MAX_SIDE ||
        p->width > PROCESSOR_MAX_SIDE)
        return fault(e, key, p->do_center_crop ? "crop_size" : "size",
                     ": makes %" PRId64 "x%" PRId64 " pixels, 1 to %d a side are allowed", p->width,
                     p->height, PROCESSOR_MAX_SIDE);
    if (p->do_resize && (p->size_h < 1 || p->size_w < 1))
        return fault(e, key, "size", ": sides of 1 and more are needed");
    return true;
}

/* (a - b) / 2 rounded down, as Python's // does. */
static int64_t half_gap(int64_t a, int64_t b)
{
    int64_t d = a - b;

    return d >= 0 ? d / 2 : -((1 - d) / 2);
}

/* The picture in the middle of a square, with the mean colour (rounded down) beside it. */
static bool pad(const struct processor *p, const struct image *rgb, struct image *out,
                struct err *e)
{
    const int64_t side = rgb->width > rgb->height ? rgb->width : rgb->height;
    const int64_t left = (side - rgb->width) / 2, top = (side - rgb->height) / 2;

    if (!image_new(out, side, side, 3, e)) return err_context(e, "do_pad");
    for (int64_t i = 0; i < side * side; i++)
        for (int c = 0; c < 3; c++)
            out->px[3 * i + c] = (uint8_t)(p->mean[c] * 255);
    for (int64_t y = 0; y < rgb->height; y++)
        memcpy(out->px + 3 * ((top + y) * side + left), rgb->px + 3 * y * rgb->width,
               (size_t)(3 * rgb->width));
    return true;
}

/* Resizes and crops to 8 bits. Crops that reach outside are filled with 0. */
static bool frame(const struct processor *p, const struct image *rgb, struct image *out,
                  struct err *e)
{
    int64_t w = rgb->width, h = rgb->height;
    struct image_box box;

    if (p->do_resize && p->shortest_edge) {
        int64_t edge = p->size_h;

        /* The longer side is rounded down; exact in Python's doubles too. */
        w = rgb->width <= rgb->height ? edge : edge * rgb->width / rgb->height;
        h = rgb->width <= rgb->height ? edge * rgb->height / rgb->width : edge;
    } else if (p->do_resize) {
        w = p->size_w;
        h = p->size_h;
    }
    box = (struct image_box){half_gap(w, p->width), half_gap(h, p->height), p->width, p->height};
    return image_resize_box(rgb, w, h, p->resample, &box, out, e);
}

/* Hugging Face rescales in fp64, rounds to fp32 and normalises in fp32. */
static float pixel_value(const struct processor *p, int channel, int v)
{
    float x = p->do_rescale ? (float)(v * p->rescale_factor) : (float)v;

    return p->do_normalize ? (x - (float)p->mean[channel]) / (float)p->std[channel] : x;
}

bool processor_run(const struct processor *p, const struct image *rgb, float *pixels, struct err *e)
{
    const int64_t n = p->height * p->width;
    struct image square = {0}, out;
    float value[256];
    bool ok;

    CHECK(rgb->channels == 3);
    if (p->do_pad && rgb->width != rgb->height) {
        if (!pad(p, rgb, &square, e)) return false;
        rgb = &square;
    }
    ok = frame(p, rgb, &out, e);
    image_free(&square);
    if (!ok) return false;
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++)
            value[v] = pixel_value(p, c, v);
        for (int64_t i = 0; i < n; i++)
            pixels[c * n + i] = value[out.px[3 * i + c]];
    }
    image_free(&out);
    return true;
}

/* A square that is too large for any picture is refused without memory being taken for it. */
int64_t processor_memory(const struct processor *p, const struct image_info *info)
{
    int64_t side = info->width > info->height ? info->width : info->height;
    bool padded = p->do_pad && info->width != info->height && side <= IMAGE_MAX_PIXELS / side;

    return info->memory + (padded ? 3 * side * side : 0);
}

void processor_describe(const struct processor *p, char *buf, size_t size)
{
    char resize[80] = "none", crop[64] = "none", scale[40] = "none", norm[200] = "none";
    char padding[100] = "";

    if (p->do_resize && p->shortest_edge)
        snprintf(resize, sizeof resize, "shortest:%" PRId64 ":%s", p->size_h,
                 resize_filter_name(p->resample));
    else if (p->do_resize)
        snprintf(resize, sizeof resize, "%" PRId64 "x%" PRId64 ":%s", p->size_h, p->size_w,
                 resize_filter_name(p->resample));
    if (p->do_center_crop)
        snprintf(crop, sizeof crop, "%" PRId64 "x%" PRId64, p->crop_h, p->crop_w);
    if (p->do_rescale) snprintf(scale, sizeof scale, "%.17g", p->rescale_factor);
    if (p->do_normalize)
        snprintf(norm, sizeof norm, "%.17g,%.17g,%.17g/%.17g,%.17g,%.17g", p->mean[0], p->mean[1],
                 p->mean[2], p->std[0], p->std[1], p->std[2]);
    if (p->do_pad)
        snprintf(padding, sizeof padding, " pad=%.17g,%.17g,%.17g", p->mean[0], p->mean[1],
                 p->mean[2]);
    snprintf(buf, size, "clip%s resize=%s crop=%s rescale=%s normalize=%s", padding, resize, crop,
             scale, norm);
}
