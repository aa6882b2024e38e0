/* processor.h - image processors, set up from a Hugging Face model directory. All resize 8-bit
 * pictures as Pillow does, rescale and normalise; the kinds differ in the other steps:
 *     clip    CLIP's and LLaVA's: pad to a square (if do_pad asks for it), resize, centre crop
 *     anyres  LLaVA-NeXT's: the whole picture as one square, and tiles of it at a larger size
 *     native  Qwen2-VL's: near the picture's own size, cut into patches
 * The result equals transformers' processors on their Pillow path (backend="pil",
 * use_fast=False) bit for bit; their torchvision path differs from it by a step or two of 1/255
 * in 0.2 % of the values.
 *
 *     struct processor p;
 *     if (!processor_load(&p, "llava-1.5-7b-hf", e)) return false;
 *     struct picture_shape s = {.height = img.height, .width = img.width};
 *     if (!processor_shape(&p, &s, e)) return false;
 *     float *px = mem_new((size_t)(s.inputs * p.input_width), sizeof *px, "pixels", e);
 *     processor_run(&p, &img, px, e); */
#ifndef DATA_PICTURE_PROCESSOR_H
#define DATA_PICTURE_PROCESSOR_H

#include "data/picture/resize.h"
#include "data/picture/shape.h"

#include <stddef.h>

/* Longest side that a config may request. */
#define PROCESSOR_MAX_SIDE 8192

/* Maximum number of sizes in image_grid_pinpoints. */
#define PROCESSOR_MAX_GRIDS 64

struct processor {
    const struct processor_kind *kind;
    bool do_pad; /* first, to a square of the longer side filled with image_mean */
    bool do_resize, shortest_edge; /* shortest_edge: size_h is the shorter side's length */
    int64_t size_h, size_w;        /* else the size to resize to */
    enum resize_filter resample;
    bool do_center_crop;
    int64_t crop_h, crop_w;
    bool do_rescale;
    double rescale_factor;
    bool do_normalize;
    double mean[3], std[3];
    bool do_convert_rgb; /* kept for processor_save; processor_run always takes RGB */
    int64_t grid[PROCESSOR_MAX_GRIDS][2]; /* anyres: the [height, width]s to choose from */
    int64_t grids;
    /* native: limits on the pixels of a picture, and its patches */
    int64_t min_pixels, max_pixels, patch_size, merge_size, temporal_patch_size;
    int64_t height, width; /* of each row of output; native: 0 */
    int64_t input_width;   /* values per row of the tower's input */
    const char *file;      /* name of the file it was read from; NULL: none */
};

/* CLIP's defaults for settings missing from the file: shortest edge 224, bicubic, crop 224. */
void processor_default(struct processor *p);
/* The same for another kind, by its name. */
void processor_default_of(struct processor *p, const char *kind);

/* Reads the "image_processor" part of processor_config.json; if the directory has none,
 * preprocessor_config.json. A setting that would change pixels in an unsupported way is an error
 * that names it, with file, line and column. */
bool processor_load(struct processor *p, const char *model_dir, struct err *e);

/* Other limits of pixels for a processor that has such; 0 leaves one as it is. */
bool processor_limit(struct processor *p, int64_t min_pixels, int64_t max_pixels, struct err *e);

/* Whether the size of what comes out depends on limits of pixels. */
bool processor_has_limits(const struct processor *p);

/* Bytes that reading such a picture and running this on it hold at most. */
int64_t processor_memory(const struct processor *p, const struct image_info *info);

/* Sets height, width and input_width from the other fields and refuses what cannot run: sizes out
 * of range, a zero std, an output size that varies with the picture; *key is then the setting at
 * fault. processor_load calls it; so must a caller that fills in a struct processor itself. */
bool processor_check(struct processor *p, const char **key, struct err *e);

/* Fills s->to_h, to_w, grid_h, grid_w and inputs from its height and width. */
bool processor_shape(const struct processor *p, struct picture_shape *s, struct err *e);

/* Writes the rows of input for a picture of 3 channels (see image_flatten), normalised fp32:
 * [inputs, 3, p->height, p->width]; native: one patch per row, [inputs, 3,
 * temporal_patch_size, patch_size, patch_size], in blocks of merge_size x merge_size patches,
 * the blocks row by row. Thread-safe. */
bool processor_run(const struct processor *p, const struct image *rgb, float *pixels,
                   struct err *e);

/* Whether p is of that kind; otherwise the message names the kind that it is of. */
bool processor_is(const struct processor *p, const char *kind, struct err *e);

/* Everything that the pixels depend on, as one line: equal lines mean equal pixels. A buffer of
 * PROCESSOR_TEXT bytes holds it, a smaller one truncates it. */
#define PROCESSOR_TEXT 3500
void processor_describe(const struct processor *p, char *buf, size_t size);

/* Writes preprocessor_config.json into an existing directory. `whole`: its processor_class, by
 * which transformers' AutoProcessor finds the processor of pictures and texts;
 * NULL: none is written. */
bool processor_save(const struct processor *p, const char *whole, const char *model_dir,
                    struct err *e);

#endif
