/* processor_config.c - preprocessor_config.json in and out. Every setting that changes pixels is
 * either understood or refused. */
#include "data/processor.h"
#include "base/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#define MAX_CONFIG ((size_t)1 << 20) /* bytes */

/* The numbers that Pillow and Hugging Face use for the filters. */
static const int resample_numbers[] = {
    [RESIZE_LANCZOS] = 1,
    [RESIZE_BILINEAR] = 2,
    [RESIZE_BICUBIC] = 3,
};
#define RESAMPLES ((int)(sizeof resample_numbers / sizeof resample_numbers[0]))

/* Classes that do what this file does. */
static const char *const classes[] = {
    "CLIPImageProcessor",     "CLIPImageProcessorFast", "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",   "LlavaImageProcessor",    "LlavaImageProcessorFast",
    "LlavaImageProcessorPil",
};

/* Readers of one setting. The message says what was found and what is allowed; the caller puts the
 * file and the key before it. */

static bool take_bool(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    (void)p;
    if (!cJSON_IsBool(v)) return err_set(e, "true or false is needed");
    *field = cJSON_IsTrue(v);
    return true;
}

static bool take_side(const cJSON *v, const char *what, int64_t *out, struct err *e)
{
    if (!cJSON_IsNumber(v)) return err_set(e, "%s: a number of pixels is needed", what);
    if (!(v->valuedouble >= 1 && v->valuedouble <= PROCESSOR_MAX_SIDE) ||
        v->valuedouble != floor(v->valuedouble))
        return err_set(e, "%s: %g, a whole number from 1 to %d is needed", what, v->valuedouble,
                       PROCESSOR_MAX_SIDE);
    *out = (int64_t)v->valuedouble;
    return true;
}

/* {"height": H, "width": W} and nothing else. */
static bool take_pair(const cJSON *v, int64_t *h, int64_t *w, struct err *e)
{
    if (cJSON_GetArraySize(v) != 2)
        return err_set(e, "only \"height\" and \"width\" are supported together");
    return take_side(cJSON_GetObjectItemCaseSensitive(v, "height"), "height", h, e) &&
           take_side(cJSON_GetObjectItemCaseSensitive(v, "width"), "width", w, e);
}

/* A plain number is the shortest edge, as in files of before 2023. */
static bool read_size(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    const cJSON *edge =
        cJSON_IsObject(v) ? cJSON_GetObjectItemCaseSensitive(v, "shortest_edge") : v;

    (void)field;
    p->shortest_edge = edge != NULL;
    if (!edge) return take_pair(v, &p->size_h, &p->size_w, e);
    if (edge != v && cJSON_GetArraySize(v) != 1)
        return err_set(e, "\"shortest_edge\" is supported alone only");
    if (!take_side(edge, "shortest edge", &p->size_h, e)) return false;
    p->size_w = p->size_h;
    return true;
}

static bool read_crop_size(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    (void)field;
    if (cJSON_IsObject(v)) return take_pair(v, &p->crop_h, &p->crop_w, e);
    if (!take_side(v, "side", &p->crop_h, e)) return false;
    p->crop_w = p->crop_h;
    return true;
}

static bool read_resample(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    static const char *const others[] = {[0] = "nearest", [4] = "box", [5] = "hamming"};
    const char *found = "this";

    (void)field;
    for (int i = 0; i < RESAMPLES && cJSON_IsNumber(v); i++) {
        if (v->valuedouble != resample_numbers[i]) continue;
        p->resample = (enum resize_filter)i;
        return true;
    }
    for (int i = 0; i < (int)(sizeof others / sizeof others[0]) && cJSON_IsNumber(v); i++)
        if (v->valuedouble == i && others[i]) found = others[i];
    return err_set(e, "%s is not supported, 1 (lanczos), 2 (bilinear) and 3 (bicubic) are", found);
}

static bool read_factor(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    (void)field;
    if (!cJSON_IsNumber(v)) return err_set(e, "a number is needed");
    p->rescale_factor = v->valuedouble;
    return true;
}

static bool take_triple(const cJSON *v, double out[3], struct err *e)
{
    if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 3)
        return err_set(e, "a list of three numbers is needed");
    for (int c = 0; c < 3; c++) {
        const cJSON *x = cJSON_GetArrayItem(v, c);

        if (!cJSON_IsNumber(x)) return err_set(e, "a list of three numbers is needed");
        out[c] = x->valuedouble;
    }
    return true;
}

static bool read_mean(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    (void)field;
    return take_triple(v, p->mean, e);
}

static bool read_std(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    (void)field;
    return take_triple(v, p->std, e);
}

static bool read_class(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    (void)p;
    (void)field;
    for (size_t i = 0; i < sizeof classes / sizeof classes[0] && cJSON_IsString(v); i++)
        if (strcmp(v->valuestring, classes[i]) == 0) return true;
    return err_set(e, "%s is not supported, CLIPImageProcessor and LlavaImageProcessor are",
                   cJSON_IsString(v) ? v->valuestring : "this");
}

static bool read_layout(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    (void)p;
    (void)field;
    if (cJSON_IsString(v) && strcmp(v->valuestring, "channels_first") == 0) return true;
    return err_set(e, "only \"channels_first\" is supported");
}

static bool read_ignored(struct processor *p, bool *field, const cJSON *v, struct err *e)
{
    (void)p;
    (void)field;
    (void)v;
    (void)e;
    return true;
}

/* One row per setting. `flag` is the offset of a bool that take_bool fills. */
static const struct setting {
    const char *key;
    bool (*read)(struct processor *p, bool *field, const cJSON *v, struct err *e);
    size_t flag;
} settings[] = {
    {"do_pad", take_bool, offsetof(struct processor, do_pad)},
    {"do_resize", take_bool, offsetof(struct processor, do_resize)},
    {"size", read_size, 0},
    {"resample", read_resample, 0},
    {"do_center_crop", take_bool, offsetof(struct processor, do_center_crop)},
    {"crop_size", read_crop_size, 0},
    {"do_rescale", take_bool, offsetof(struct processor, do_rescale)},
    {"rescale_factor", read_factor, 0},
    {"do_normalize", take_bool, offsetof(struct processor, do_normalize)},
    {"image_mean", read_mean, 0},
    {"image_std", read_std, 0},
    {"do_convert_rgb", take_bool, offsetof(struct processor, do_convert_rgb)},
    {"image_processor_type", read_class, 0},
    {"feature_extractor_type", read_class, 0},
    {"data_format", read_layout, 0},
    {"processor_class", read_ignored, 0},
    {"_processor_class", read_ignored, 0},
    {"_valid_processor_keys", read_ignored, 0},
    {"transformers_version", read_ignored, 0},
};

/* Unknown settings may change pixels, so they are refused unless they are off. */
static bool read_setting(struct processor *p, const cJSON *v, struct err *e)
{
    if (cJSON_IsNull(v)) return true; /* transformers' way to say "the default" */
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        const struct setting *s = &settings[i];

        if (strcmp(v->string, s->key) == 0)
            return s->read(p, (bool *)(void *)((char *)p + s->flag), v, e);
    }
    return cJSON_IsFalse(v) || err_set(e, "this setting is not supported");
}

/* CLIP's do_pad fills up to a batch's largest picture, LLaVA's makes squares. */
static bool is_llava(const cJSON *obj)
{
    const char *name =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(obj, "image_processor_type"));

    return name && strncmp(name, "Llava", 5) == 0;
}

static bool read_settings(struct processor *p, const cJSON *obj, const char *path, struct err *e)
{
    const cJSON *v;

    if (!cJSON_IsObject(obj))
        return err_set(e, "%s: an object with the image processor's settings is needed", path);
    cJSON_ArrayForEach(v, obj)
    {
        if (!read_setting(p, v, e)) return err_context(e, "%s: %s", path, v->string);
    }
    if (p->do_pad && !is_llava(obj))
        return err_set(
            e, "%s: do_pad: is supported with image_processor_type LlavaImageProcessor only", path);
    return processor_check(p, e) || err_context(e, "%s", path);
}

static bool parse_file(const char *path, cJSON **root, struct err *e)
{
    const char *stop = NULL;
    char *text = NULL;
    size_t len;
    int line = 1;

    if (!file_read(path, MAX_CONFIG, &text, &len, e)) return false;
    *root = cJSON_ParseWithLengthOpts(text, len, &stop, false);
    for (const char *s = text; !*root && stop && s < stop; s++)
        line += *s == '\n';
    free(text);
    return *root || err_set(e, "%s:%d: not valid JSON", path, line);
}

bool processor_load(struct processor *p, const char *model_dir, struct err *e)
{
    char *own = file_join(model_dir, "preprocessor_config.json", e);
    char *shared = file_join(model_dir, "processor_config.json", e);
    cJSON *root = NULL;
    bool has_own, has_shared, ok = false;

    processor_default(p);
    if (!own || !shared || !file_there(own, &has_own, e) || !file_there(shared, &has_shared, e))
        goto out;
    if (has_own || !has_shared) {
        ok = parse_file(own, &root, e) && read_settings(p, root, own, e);
    } else if (parse_file(shared, &root, e)) {
        const cJSON *part = cJSON_GetObjectItemCaseSensitive(root, "image_processor");

        ok = part ? read_settings(p, part, shared, e)
                  : err_set(e,
                            "%s: no \"image_processor\", and no preprocessor_config.json beside it",
                            shared);
    }
out:
    cJSON_Delete(root);
    free(own);
    free(shared);
    return ok;
}

/* Every cJSON_Add returns NULL where memory is short; `ok` gathers that. */
static bool add_settings(cJSON *o, const struct processor *p)
{
    cJSON *size = cJSON_AddObjectToObject(o, "size");
    cJSON *crop = cJSON_AddObjectToObject(o, "crop_size");
    cJSON *mean = cJSON_CreateDoubleArray(p->mean, 3), *std = cJSON_CreateDoubleArray(p->std, 3);
    bool ok = size && crop;

    ok = cJSON_AddItemToObject(o, "image_mean", mean) && ok;
    ok = cJSON_AddItemToObject(o, "image_std", std) && ok;
    if (p->shortest_edge) {
        ok = cJSON_AddNumberToObject(size, "shortest_edge", (double)p->size_h) && ok;
    } else {
        ok = cJSON_AddNumberToObject(size, "height", (double)p->size_h) && ok;
        ok = cJSON_AddNumberToObject(size, "width", (double)p->size_w) && ok;
    }
    ok = cJSON_AddNumberToObject(crop, "height", (double)p->crop_h) && ok;
    ok = cJSON_AddNumberToObject(crop, "width", (double)p->crop_w) && ok;
    ok = cJSON_AddNumberToObject(o, "resample", resample_numbers[p->resample]) && ok;
    ok = cJSON_AddNumberToObject(o, "rescale_factor", p->rescale_factor) && ok;
    ok = cJSON_AddStringToObject(o, "image_processor_type",
                                 p->do_pad ? "LlavaImageProcessor" : "CLIPImageProcessor") &&
         ok;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        const bool *flag = (const bool *)(const void *)((const char *)p + settings[i].flag);

        if (settings[i].read == take_bool)
            ok = cJSON_AddBoolToObject(o, settings[i].key, *flag) && ok;
    }
    return ok;
}

bool processor_save(const struct processor *p, const char *model_dir, struct err *e)
{
    char *path = file_join(model_dir, "preprocessor_config.json", e);
    cJSON *root = cJSON_CreateObject();
    char *text = NULL;
    bool ok = false;

    if (!path) goto out;
    if (root && add_settings(root, p)) text = cJSON_Print(root);
    if (text)
        ok = file_write(path, text, strlen(text), e);
    else
        err_set(e, "%s: out of memory", path);
out:
    cJSON_free(text);
    cJSON_Delete(root);
    free(path);
    return ok;
}
