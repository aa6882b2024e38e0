/* processor.h - CLIP's and LLaVA's image processor, read from a Hugging Face model directory: pad
 * to a square (LLaVA's, where do_pad asks for it), resize, centre crop, rescale, normalise. The
 * result equals transformers' CLIPImageProcessor and LlavaImageProcessor on their Pillow path
 * (backend="pil", use_fast=False) bit for bit; their torchvision path differs from it by a step or
 * two of 1/255 in 0.2 % of the values. struct processor p; if (!processor_load(&p,
 * "llava-1.5-7b-hf", e)) return false; float *px = mem_new((size_t)(3 * p.height * p.width), sizeof
 * *px, "pixels", e); processor_run(&p, &img, px, e); */
#ifndef DATA_PROCESSOR_H
#define DATA_PROCESSOR_H

#include "data/resize.h"

#include <stddef.h>

/* Longest side that a config may ask for. */
#define PROCESSOR_MAX_SIDE 8192

struct processor {
    bool do_pad; /* first to a square of the longer side, around it image_mean as a colour */
    bool do_resize, shortest_edge; /* shortest_edge: size_h is the length of the shorter side */
    int64_t size_h, size_w;        /* else the size to resize to */
    enum resize_filter resample;
    bool do_center_crop;
    int64_t crop_h, crop_w;
    bool do_rescale;
    double rescale_factor;
    bool do_normalize;
    double mean[3], std[3];
    bool do_convert_rgb;   /* kept for processor_save; processor_run takes RGB anyway */
    int64_t height, width; /* of the output, the same for every picture */
};

/* What CLIP's processor does where the file says nothing: shortest edge 224, bicubic, crop 224. */
void processor_default(struct processor *p);

/* Reads the "image_processor" part of processor_config.json; where the directory has none,
 * preprocessor_config.json. A setting that would change pixels in a way that is not supported is an
 * error that names it, with file, line and column. */
bool processor_load(struct processor *p, const char *model_dir, struct err *e);

/* Sets height and width from the other fields and refuses what cannot run: sizes out of range, a
 * zero std, an output whose size depends on the picture; *key is then the setting at fault.
 * processor_load has done it; a caller that fills a struct processor itself does. */
bool processor_check(struct processor *p, const char **key, struct err *e);

/* Writes pixels [3, p->height, p->width] of a picture of 3 channels (see image_flatten). Safe to
 * call from several threads. */
bool processor_run(const struct processor *p, const struct image *rgb, float *pixels,
                   struct err *e);

/* Bytes that reading such a picture and running this on it hold at most. */
int64_t processor_memory(const struct processor *p, const struct image_info *info);

/* Everything that the pixels depend on, as one line: equal lines, equal pixels. 512 bytes hold it;
 * a smaller buffer gets it cut. */
void processor_describe(const struct processor *p, char *buf, size_t size);

/* Writes preprocessor_config.json into an existing directory. */
bool processor_save(const struct processor *p, const char *model_dir, struct err *e);

#endif
