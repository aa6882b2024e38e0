/* processor.c - what all kinds share, and CLIP's. Only the part of the resized picture that the
 * crop keeps is ever computed: a picture of 1 x 4000 pixels with its shorter side scaled to 336
 * would be 336 x 1,344,000. */
#include "data/picture/processor_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void processor_default(struct processor *p)
{
    *p = (struct processor){
        .kind = &processor_clip,
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
        .input_width = 3 * 224 * 224,
    };
}

const struct processor_kind *const processor_kinds[] = {&processor_clip, &processor_anyres,
                                                        &processor_native, NULL};

bool processor_fault(struct err *e, const char **key, const char *name, const char *fmt, ...)
{
    char what[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    *key = name;
    return err_set(e, "%s%s", name, what);
}

/* One number of image_mean or image_std. */
static bool check_colour(const double v[3], const char *name, bool divides, const char **key,
                         struct err *e)
{
    for (int c = 0; c < 3; c++)
        if (!isfinite(v[c]) || (divides && (float)v[c] == 0))
            return processor_fault(e, key, name, ": finite numbers%s are needed",
                                   divides ? " other than 0" : "");
    return true;
}

/* Hugging Face rescales in fp64, rounds to fp32 and normalises in fp32. */
static float pixel_value(const struct processor *p, int channel, int v)
{
    float x = p->do_rescale ? (float)(v * p->rescale_factor) : (float)v;

    return p->do_normalize ? (x - (float)p->mean[channel]) / (float)p->std[channel] : x;
}

/* White differs from black by 3.7 in CLIP's pictures and 255 in those that nothing scales. */
static bool check_values(const struct processor *p, const char **key, struct err *e)
{
    const float least = 1e-6F, most = 1e6F;

    for (int c = 0; c < 3; c++) {
        const float black = pixel_value(p, c, 0), white = pixel_value(p, c, 255);
        const float apart = fabsf(white - black);
        if (!(apart >= least && apart <= most)) /* nor NaN */
            return processor_fault(e, key, p->do_normalize ? "image_std" : "rescale_factor",
                                   ": black becomes %g and white %g, with rescale_factor%s; they "
                                   "should be from %g to %g apart",
                                   (double)black, (double)white,
                                   p->do_normalize ? " and image_mean" : "", (double)least,
                                   (double)most);
    }
    return true;
}

bool processor_check(struct processor *p, const char **key, struct err *e)
{
    if (p->do_rescale && !(isfinite(p->rescale_factor) && (float)p->rescale_factor > 0))
        return processor_fault(e, key, "rescale_factor", ": a finite number above 0 is needed");
    if (p->do_normalize && (!check_colour(p->mean, "image_mean", false, key, e) ||
                            !check_colour(p->std, "image_std", true, key, e)))
        return false;
    if (!check_values(p, key, e)) return false;
    if (p->do_resize && (p->size_h < 1 || p->size_w < 1))
        return processor_fault(e, key, "size", ": sides of 1 and more are needed");
    return p->kind->check(p, key, e);
}

static const struct processor_kind *kind_of(const char *name)
{
    const struct processor_kind *const *k = processor_kinds;

    while (*k && strcmp((*k)->name, name) != 0)
        k++;
    CHECK(*k);
    return *k;
}

void processor_default_of(struct processor *p, const char *kind)
{
    processor_default(p);
    p->kind = kind_of(kind);
    if (p->kind->defaults) p->kind->defaults(p);
}

bool processor_is(const struct processor *p, const char *kind, struct err *e)
{
    const struct processor_kind *needed = kind_of(kind);

    return p->kind == needed || err_set(e, "is %s, a model of this config.json needs %s",
                                        p->kind->classes[0], needed->classes[0]);
}

/* A square that is too large for any picture is refused without memory being taken for it. */
int64_t processor_memory(const struct processor *p, const struct image_info *info)
{
    int64_t side = info->width > info->height ? info->width : info->height;
    bool padded = p->do_pad && info->width != info->height && side <= IMAGE_MAX_PIXELS / side;

    return info->memory + (padded ? 3 * side * side : 0);
}

bool processor_has_limits(const struct processor *p)
{
    return p->kind == &processor_native;
}

bool processor_limit(struct processor *p, int64_t min_pixels, int64_t max_pixels, struct err *e)
{
    const char *key;

    if (!processor_has_limits(p))
        return err_set(e,
                       "data.%s_pixels: is not for this model, whose pictures all come out in "
                       "fixed sizes: leave it out",
                       min_pixels ? "min" : "max");
    if (min_pixels) p->min_pixels = min_pixels;
    if (max_pixels) p->max_pixels = max_pixels;
    return processor_check(p, &key, e) ||
           err_context(e, "data.min_pixels, data.max_pixels, and the model's limits");
}

bool processor_shape(const struct processor *p, struct picture_shape *s, struct err *e)
{
    return p->kind->shape(p, s, e);
}

bool processor_run(const struct processor *p, const struct image *rgb, float *pixels, struct err *e)
{
    CHECK(rgb->channels == 3);
    return p->kind->run(p, rgb, pixels, e);
}

void processor_table(const struct processor *p, float value[3][256])
{
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++)
            value[c][v] = pixel_value(p, c, v);
}

void processor_values(const struct processor *p, const struct image *out, float *pixels)
{
    const int64_t n = out->height * out->width;
    float value[3][256];

    processor_table(p, value);
    for (int c = 0; c < 3; c++)
        for (int64_t i = 0; i < n; i++)
            pixels[c * n + i] = value[c][out->px[3 * i + c]];
}

/* ---- CLIP's ---- */

static bool clip_check(struct processor *p, const char **key, struct err *e)
{
    const bool fixed = p->do_resize && !p->shortest_edge;

    if (!p->do_center_crop && !fixed)
        return processor_fault(e, key, "do_center_crop",
                               " is off and size does not give height and width: pictures would "
                               "come out in different sizes");
    for (int c = 0; c < 3 && p->do_pad; c++)
        if (!(p->mean[c] >= 0 && p->mean[c] <= 1))
            return processor_fault(e, key, "image_mean",
                                   ": %g; do_pad needs means from 0 to 1, it pads with them",
                                   p->mean[c]);
    p->height = p->do_center_crop ? p->crop_h : p->size_h;
    p->width = p->do_center_crop ? p->crop_w : p->size_w;
    p->input_width = 3 * p->height * p->width;
    return (p->height >= 1 && p->width >= 1 && p->height <= PROCESSOR_MAX_SIDE &&
            p->width <= PROCESSOR_MAX_SIDE) ||
           processor_fault(e, key, p->do_center_crop ? "crop_size" : "size",
                           ": makes %" PRId64 "x%" PRId64 " pixels, 1 to %d a side are allowed",
                           p->width, p->height, PROCESSOR_MAX_SIDE);
}

static bool clip_shape(const struct processor *p, struct picture_shape *s, struct err *e)
{
    const int64_t edge = p->size_h, square = s->width > s->height ? s->width : s->height;
    const int64_t w = p->do_pad ? square : s->width, h = p->do_pad ? square : s->height;

    (void)e; /* any size is fine */
    s->to_w = w;
    s->to_h = h;
    if (p->do_resize && p->shortest_edge) {
        /* The longer side is rounded down; exact in Python's doubles too. */
        s->to_w = w <= h ? edge : edge * w / h;
        s->to_h = w <= h ? edge * h / w : edge;
    } else if (p->do_resize) {
        s->to_w = p->size_w;
        s->to_h = p->size_h;
    }
    s->grid_h = s->grid_w = s->inputs = 1;
    return true;
}

/* (a - b) / 2 rounded down, as Python's // does. */
static int64_t half_gap(int64_t a, int64_t b)
{
    int64_t d = a - b;

    return d >= 0 ? d / 2 : -((1 - d) / 2);
}

/* Centres the picture in a square filled with the mean colour (rounded down). */
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

/* Resizes and crops to 8 bits. Crops that extend beyond the picture are filled with 0. */
static bool frame(const struct processor *p, const struct image *rgb, struct image *out,
                  struct err *e)
{
    struct picture_shape s = {.height = rgb->height, .width = rgb->width};
    struct image_box box;

    if (!clip_shape(p, &s, e)) return false;
    box = (struct image_box){half_gap(s.to_w, p->width), half_gap(s.to_h, p->height), p->width,
                             p->height};
    return image_resize_box(rgb, &(struct resize_to){s.to_w, s.to_h, p->resample}, &box, out, e);
}

static bool clip_run(const struct processor *p, const struct image *rgb, float *pixels,
                     struct err *e)
{
    struct image square = {0}, out;
    bool ok;

    if (p->do_pad && rgb->width != rgb->height) {
        if (!pad(p, rgb, &square, e)) return false;
        rgb = &square;
    }
    ok = frame(p, rgb, &out, e);
    image_free(&square);
    if (!ok) return false;
    processor_values(p, &out, pixels);
    image_free(&out);
    return true;
}

const struct processor_kind processor_clip = {
    .name = "clip",
    .classes = {"CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil",
                "CLIPFeatureExtractor", "LlavaImageProcessor", "LlavaImageProcessorFast",
                "LlavaImageProcessorPil"},
    .check = clip_check,
    .shape = clip_shape,
    .run = clip_run,
};

void processor_describe(const struct processor *p, char *buf, size_t size)
{
    char resize[80] = "none", crop[64] = "none", scale[40] = "none", norm[200] = "none";
    char padding[100] = "", grids[40 * PROCESSOR_MAX_GRIDS] = "";

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
    for (int64_t i = 0; i < p->grids; i++) {
        char one[40];
        snprintf(one, sizeof one, "%s%" PRId64 "x%" PRId64, i ? "," : " grids=", p->grid[i][0],
                 p->grid[i][1]);
        strcat(grids, one);
    }
    if (p->kind == &processor_native)
        snprintf(resize, sizeof resize, "%" PRId64 "..%" PRId64 "/%" PRId64 "/%" PRId64 ":%s",
                 p->min_pixels, p->max_pixels, p->patch_size, p->merge_size,
                 resize_filter_name(p->resample));
    snprintf(buf, size, "%s%s resize=%s crop=%s rescale=%s normalize=%s%s", p->kind->name, padding,
             resize, crop, scale, norm, grids);
}
