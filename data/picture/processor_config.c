/* processor_config.c - reads and writes preprocessor_config.json. Every setting that changes pixels
 * is either understood or refused. A step whose do_... is null is off, as in transformers. */
#include "data/picture/processor_parts.h"
#include "base/file.h"
#include "base/json/jsonc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The numbers by which Pillow and Hugging Face denote the filters. */
static const int resample_numbers[] = {
    [RESIZE_LANCZOS] = 1,
    [RESIZE_BILINEAR] = 2,
    [RESIZE_BICUBIC] = 3,
};
#define RESAMPLES ((int)(sizeof resample_numbers / sizeof resample_numbers[0]))

struct reader {
    const cJSON *obj; /* the settings */
    const struct jsonc *doc;
    const char *prefix; /* precedes a setting in messages */
    struct processor *p;
    struct err *e;
};

/* Sets "FILE:LINE:COL: SETTING is VALUE; allowed: ..." and returns false. `part` is a key inside
 * the setting, or NULL. */
static bool refuse(const struct reader *r, const cJSON *setting, const char *part, const cJSON *v,
                   const char *allowed)
{
    char name[128];

    snprintf(name, sizeof name, "%s%s%s%s", r->prefix, setting->string, part ? "." : "",
             part ? part : "");
    return jsonc_refuse(r->doc, v, r->e, name, "%s", allowed);
}

/* ---- readers of one setting that is not null ---- */

static bool take_bool(const struct reader *r, bool *field, const cJSON *v)
{
    if (!cJSON_IsBool(v)) return refuse(r, v, NULL, v, "true, false, null");
    *field = cJSON_IsTrue(v);
    return true;
}

static bool take_side(const struct reader *r, const cJSON *setting, const char *part,
                      const cJSON *v, int64_t *out)
{
    char allowed[64];

    snprintf(allowed, sizeof allowed, "a whole number of pixels from 1 to %d", PROCESSOR_MAX_SIDE);
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 1 && v->valuedouble <= PROCESSOR_MAX_SIDE) ||
        v->valuedouble != floor(v->valuedouble))
        return refuse(r, setting, part, v, allowed);
    *out = (int64_t)v->valuedouble;
    return true;
}

/* {"height": H, "width": W} and nothing else. */
static bool take_pair(const struct reader *r, const cJSON *v, const char *allowed, int64_t *h,
                      int64_t *w)
{
    const cJSON *height = cJSON_GetObjectItemCaseSensitive(v, "height");
    const cJSON *width = cJSON_GetObjectItemCaseSensitive(v, "width");

    if (!height || !width || cJSON_GetArraySize(v) != 2) return refuse(r, v, NULL, v, allowed);
    return take_side(r, v, "height", height, h) && take_side(r, v, "width", width, w);
}

static bool take_pixels(const struct reader *r, const cJSON *setting, const char *part,
                        const cJSON *v, int64_t *out)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 1 && v->valuedouble <= IMAGE_MAX_PIXELS) ||
        v->valuedouble != floor(v->valuedouble))
        return refuse(r, setting, part, v, "a whole number of pixels from 1 to 178956970");
    *out = (int64_t)v->valuedouble;
    return true;
}

/* Numbers of pixels, under the names of edges. min_pixels and max_pixels next to it take
 * precedence. */
static bool read_limits(const struct reader *r, const cJSON *v)
{
    const cJSON *least = cJSON_GetObjectItemCaseSensitive(v, "shortest_edge");
    const cJSON *most = cJSON_GetObjectItemCaseSensitive(v, "longest_edge");

    if (!least || !most || cJSON_GetArraySize(v) != 2)
        return refuse(r, v, NULL, v, "shortest_edge and longest_edge, which are pixels here");
    if (!cJSON_GetObjectItemCaseSensitive(r->obj, "min_pixels") &&
        !take_pixels(r, v, "shortest_edge", least, &r->p->min_pixels))
        return false;
    return cJSON_GetObjectItemCaseSensitive(r->obj, "max_pixels") ||
           take_pixels(r, v, "longest_edge", most, &r->p->max_pixels);
}

static bool read_min_pixels(const struct reader *r, bool *field, const cJSON *v)
{
    (void)field;
    return take_pixels(r, v, NULL, v, &r->p->min_pixels);
}

static bool read_max_pixels(const struct reader *r, bool *field, const cJSON *v)
{
    (void)field;
    return take_pixels(r, v, NULL, v, &r->p->max_pixels);
}

static bool read_patch(const struct reader *r, bool *field, const cJSON *v)
{
    (void)field;
    return take_side(r, v, NULL, v, &r->p->patch_size);
}

static bool read_merge(const struct reader *r, bool *field, const cJSON *v)
{
    (void)field;
    return take_side(r, v, NULL, v, &r->p->merge_size);
}

static bool read_temporal(const struct reader *r, bool *field, const cJSON *v)
{
    (void)field;
    return take_side(r, v, NULL, v, &r->p->temporal_patch_size);
}

/* A plain number is the shortest edge, as in files of before 2023. */
static bool read_size(const struct reader *r, bool *field, const cJSON *v)
{
    static const char allowed[] = "shortest_edge only, or height and width";
    const cJSON *edge = cJSON_GetObjectItemCaseSensitive(v, "shortest_edge");
    struct processor *p = r->p;

    (void)field;
    if (p->kind == &processor_native) return read_limits(r, v);
    p->shortest_edge = edge || cJSON_IsNumber(v);
    if (!p->shortest_edge) return take_pair(r, v, allowed, &p->size_h, &p->size_w);
    if (edge && cJSON_GetArraySize(v) != 1) return refuse(r, v, NULL, v, allowed);
    if (!take_side(r, v, edge ? "shortest_edge" : NULL, edge ? edge : v, &p->size_h)) return false;
    p->size_w = p->size_h;
    return true;
}

static bool read_crop_size(const struct reader *r, bool *field, const cJSON *v)
{
    struct processor *p = r->p;

    (void)field;
    if (!cJSON_IsNumber(v))
        return take_pair(r, v, "height and width, or one side", &p->crop_h, &p->crop_w);
    if (!take_side(r, v, NULL, v, &p->crop_h)) return false;
    p->crop_w = p->crop_h;
    return true;
}

static bool read_resample(const struct reader *r, bool *field, const cJSON *v)
{
    static const char *const others[] = {[0] = "nearest", [4] = "box", [5] = "hamming"};
    char allowed[96];
    const char *found = NULL;

    (void)field;
    for (int i = 0; i < RESAMPLES && cJSON_IsNumber(v); i++) {
        if (v->valuedouble != resample_numbers[i]) continue;
        r->p->resample = (enum resize_filter)i;
        return true;
    }
    for (int i = 0; i < (int)(sizeof others / sizeof others[0]) && cJSON_IsNumber(v); i++)
        if (v->valuedouble == i) found = others[i];
    snprintf(allowed, sizeof allowed, "1 (lanczos), 2 (bilinear), 3 (bicubic)%s%s%s",
             found ? "; this is " : "", found ? found : "",
             found ? ", which is not supported" : "");
    return refuse(r, v, NULL, v, allowed);
}

static bool read_factor(const struct reader *r, bool *field, const cJSON *v)
{
    (void)field;
    if (!cJSON_IsNumber(v)) return refuse(r, v, NULL, v, "a number");
    r->p->rescale_factor = v->valuedouble;
    return true;
}

static bool take_triple(const struct reader *r, const cJSON *v, double out[3])
{
    bool ok = cJSON_IsArray(v) && cJSON_GetArraySize(v) == 3;

    for (int c = 0; ok && c < 3; c++) {
        const cJSON *x = cJSON_GetArrayItem(v, c);

        ok = cJSON_IsNumber(x);
        if (ok) out[c] = x->valuedouble;
    }
    return ok || refuse(r, v, NULL, v, "a list of three numbers");
}

static bool read_mean(const struct reader *r, bool *field, const cJSON *v)
{
    (void)field;
    return take_triple(r, v, r->p->mean);
}

static bool read_std(const struct reader *r, bool *field, const cJSON *v)
{
    (void)field;
    return take_triple(r, v, r->p->std);
}

/* Of a class; NULL where it is not known. */
static const struct processor_kind *find_kind(const cJSON *v)
{
    const char *name = cJSON_GetStringValue(v);

    for (const struct processor_kind *const *k = processor_kinds; name && *k; k++)
        for (const char *const *c = (*k)->classes; *c; c++)
            if (strcmp(*c, name) == 0) return *k;
    return NULL;
}

static bool read_class(const struct reader *r, bool *field, const cJSON *v)
{
    (void)field;
    return find_kind(v) || refuse(r, v, NULL, v,
                                  "CLIPImageProcessor, LlavaImageProcessor, "
                                  "LlavaNextImageProcessor, Qwen2VLImageProcessor");
}

static bool read_grids(const struct reader *r, bool *field, const cJSON *v)
{
    static const char allowed[] = "a list of sizes, [height, width] each";
    struct processor *p = r->p;
    const cJSON *item;

    (void)field;
    p->grids = 0;
    if (!cJSON_IsArray(v)) return refuse(r, v, NULL, v, allowed);
    cJSON_ArrayForEach(item, v)
    {
        if (p->grids == PROCESSOR_MAX_GRIDS || cJSON_GetArraySize(item) != 2)
            return refuse(r, v, NULL, v, allowed);
        int64_t *grid = p->grid[p->grids];
        if (!take_side(r, v, NULL, item->child, &grid[0]) ||
            !take_side(r, v, NULL, item->child->next, &grid[1]))
            return false;
        p->grids++;
    }
    return true;
}

static bool read_aspect(const struct reader *r, bool *field, const cJSON *v)
{
    const char *s = cJSON_GetStringValue(v);

    (void)field;
    return (s && strcmp(s, "anyres") == 0) || refuse(r, v, NULL, v, "anyres");
}

static bool read_layout(const struct reader *r, bool *field, const cJSON *v)
{
    const char *s = cJSON_GetStringValue(v);

    (void)field;
    return (s && strcmp(s, "channels_first") == 0) || refuse(r, v, NULL, v, "channels_first");
}

static bool read_ignored(const struct reader *r, bool *field, const cJSON *v)
{
    (void)r;
    (void)field;
    (void)v;
    return true;
}

/* One row per setting. `flag` is the offset of the bool that take_bool fills; for a value, that of
 * the step that needs it. */
#define FLAG(member) offsetof(struct processor, member)
static const struct setting {
    const char *key;
    bool (*read)(const struct reader *r, bool *field, const cJSON *v);
    size_t flag;
    const char *step;                  /* for a value: the step that needs it */
    const struct processor_kind *kind; /* NULL: all kinds */
} settings[] = {
    {"do_pad", take_bool, FLAG(do_pad), NULL, NULL},
    {"do_resize", take_bool, FLAG(do_resize), NULL, NULL},
    {"size", read_size, FLAG(do_resize), "do_resize", NULL},
    {"resample", read_resample, FLAG(do_resize), "do_resize", NULL},
    {"do_center_crop", take_bool, FLAG(do_center_crop), NULL, NULL},
    {"crop_size", read_crop_size, FLAG(do_center_crop), "do_center_crop", NULL},
    {"do_rescale", take_bool, FLAG(do_rescale), NULL, NULL},
    {"rescale_factor", read_factor, FLAG(do_rescale), "do_rescale", NULL},
    {"do_normalize", take_bool, FLAG(do_normalize), NULL, NULL},
    {"image_mean", read_mean, FLAG(do_normalize), "do_normalize", NULL},
    {"image_std", read_std, FLAG(do_normalize), "do_normalize", NULL},
    {"do_convert_rgb", take_bool, FLAG(do_convert_rgb), NULL, NULL},
    {"image_grid_pinpoints", read_grids, 0, NULL, &processor_anyres},
    {"aspect_ratio_setting", read_aspect, 0, NULL, &processor_anyres}, /* in old files */
    {"min_pixels", read_min_pixels, 0, NULL, &processor_native},
    {"max_pixels", read_max_pixels, 0, NULL, &processor_native},
    {"patch_size", read_patch, 0, NULL, &processor_native},
    {"merge_size", read_merge, 0, NULL, &processor_native},
    {"temporal_patch_size", read_temporal, 0, NULL, &processor_native},
    {"image_processor_type", read_class, 0, NULL, NULL},
    {"feature_extractor_type", read_class, 0, NULL, NULL},
    {"data_format", read_layout, 0, NULL, NULL},
    {"processor_class", read_ignored, 0, NULL, NULL},
    {"_processor_class", read_ignored, 0, NULL, NULL},
    {"_valid_processor_keys", read_ignored, 0, NULL, NULL},
    {"transformers_version", read_ignored, 0, NULL, NULL},
    {"use_fast", read_ignored, 0, NULL, NULL}, /* selects the torchvision path: see processor.h */
};
#undef FLAG
enum { SETTINGS = sizeof settings / sizeof settings[0] };

static bool *flag_of(struct processor *p, const struct setting *s)
{
    return (bool *)(void *)((char *)p + s->flag);
}

/* Unknown settings may change pixels, so they are refused unless they are off. */
static bool read_setting(const struct reader *r, const cJSON *v)
{
    const struct processor_kind *other = NULL;
    char allowed[96] = "to leave it out: this setting is not supported";

    for (int i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];

        if (strcmp(v->string, s->key) != 0) continue;
        if (s->kind && s->kind != r->p->kind) {
            other = s->kind;
            continue;
        }
        if (!cJSON_IsNull(v)) return s->read(r, flag_of(r->p, s), v);
        if (s->read == take_bool) *flag_of(r->p, s) = false;
        return true;
    }
    if (cJSON_IsNull(v) || cJSON_IsFalse(v)) return true;
    if (other)
        snprintf(allowed, sizeof allowed, "only with image_processor_type %s", other->classes[0]);
    return refuse(r, v, NULL, v, allowed);
}

/* A value may be null if its step is off. */
static bool check_nulls(const struct reader *r, const cJSON *obj)
{
    for (int i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, s->key);
        char allowed[80];

        if (!s->step || !cJSON_IsNull(v) || !*flag_of(r->p, s)) continue;
        snprintf(allowed, sizeof allowed, "a value, because %s is on; omit it for the default",
                 s->step);
        return refuse(r, v, NULL, v, allowed);
    }
    return true;
}

/* CLIP's do_pad pads to the batch's largest picture, which is no change, as all outputs have one
 * size; LLaVA's pads to squares, black if there is no mean. */
static void settle_pad(struct processor *p, const cJSON *obj)
{
    const char *name =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(obj, "image_processor_type"));

    p->do_pad = p->do_pad && p->kind == &processor_clip && name && strncmp(name, "Llava", 5) == 0;
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(obj, "image_mean")))
        memset(p->mean, 0, sizeof p->mean);
}

/* Selects the processor that the file names; CLIP's if it names none. */
static void choose_kind(struct processor *p, const cJSON *obj)
{
    static const char *const keys[] = {"image_processor_type", "feature_extractor_type"};
    const struct processor_kind *kind = NULL;

    for (size_t i = 0; i < 2 && !kind; i++)
        kind = find_kind(cJSON_GetObjectItemCaseSensitive(obj, keys[i]));
    if (!kind) return;
    p->kind = kind;
    if (kind->defaults) kind->defaults(p);
}

static bool read_settings(struct reader *r, const cJSON *obj)
{
    const char *key;
    const cJSON *v;
    struct err fault;

    if (!cJSON_IsObject(obj))
        return jsonc_fail(r->doc, obj, r->e,
                          "an object with the image processor's settings is "
                          "needed");
    r->obj = obj;
    choose_kind(r->p, obj);
    cJSON_ArrayForEach(v, obj)
    {
        if (!read_setting(r, v)) return false;
    }
    if (!check_nulls(r, obj)) return false;
    settle_pad(r->p, obj);
    return processor_check(r->p, &key, &fault) ||
           jsonc_fail(r->doc, cJSON_GetObjectItemCaseSensitive(obj, key), r->e, "%s%s", r->prefix,
                      fault.msg);
}

static const struct jsonc_rules rules = {.plain = true};

/* *found: whether the directory has a processor_config.json with an "image_processor". */
static bool load_shared(struct processor *p, const char *path, bool *found, struct err *e)
{
    struct reader r = {NULL, NULL, "image_processor.", p, e};
    struct jsonc doc;
    const cJSON *part;
    bool there, ok = true;

    *found = false;
    if (!file_there(path, &there, e)) return false;
    if (!there) return true;
    if (!jsonc_read_as(&doc, path, JSONC_CONFIG_BYTES, &rules, e)) return false;
    r.doc = &doc;
    part = cJSON_GetObjectItemCaseSensitive(doc.root, "image_processor");
    *found = part && !cJSON_IsNull(part);
    if (*found) ok = read_settings(&r, part);
    jsonc_close(&doc);
    return ok;
}

static bool load_own(struct processor *p, const char *path, const char *other, struct err *e)
{
    struct reader r = {NULL, NULL, "", p, e};
    struct jsonc doc;
    bool there, shared, ok;

    if (!file_there(path, &there, e) || !file_there(other, &shared, e)) return false;
    if (!there && shared)
        return err_set(e, "%s: no \"image_processor\", and no preprocessor_config.json beside it",
                       other);
    if (!jsonc_read_as(&doc, path, JSONC_CONFIG_BYTES, &rules, e)) return false;
    r.doc = &doc;
    ok = read_settings(&r, doc.root);
    jsonc_close(&doc);
    return ok;
}

bool processor_load(struct processor *p, const char *model_dir, struct err *e)
{
    static const char own_name[] = "preprocessor_config.json";
    static const char shared_name[] = "processor_config.json";
    char *own = file_join(model_dir, own_name, e);
    char *shared = file_join(model_dir, shared_name, e);
    bool found = false, ok = own && shared;

    processor_default(p);
    ok = ok && load_shared(p, shared, &found, e) && (found || load_own(p, own, shared, e));
    p->file = found ? shared_name : own_name;
    free(own);
    free(shared);
    return ok;
}

static bool add_grids(cJSON *o, const struct processor *p)
{
    cJSON *list = cJSON_AddArrayToObject(o, "image_grid_pinpoints");
    bool ok = list;

    for (int64_t i = 0; ok && i < p->grids; i++) {
        const double size[] = {(double)p->grid[i][0], (double)p->grid[i][1]};
        ok = cJSON_AddItemToArray(list, cJSON_CreateDoubleArray(size, 2));
    }
    return ok;
}

/* The sizes of clip and anyres. */
static bool add_squares(cJSON *o, const struct processor *p)
{
    cJSON *size = cJSON_AddObjectToObject(o, "size");
    cJSON *crop = cJSON_AddObjectToObject(o, "crop_size");
    bool ok = size && crop;

    if (p->shortest_edge) {
        ok = cJSON_AddNumberToObject(size, "shortest_edge", (double)p->size_h) && ok;
    } else {
        ok = cJSON_AddNumberToObject(size, "height", (double)p->size_h) && ok;
        ok = cJSON_AddNumberToObject(size, "width", (double)p->size_w) && ok;
    }
    ok = cJSON_AddNumberToObject(crop, "height", (double)p->crop_h) && ok;
    return cJSON_AddNumberToObject(crop, "width", (double)p->crop_w) && ok;
}

/* The limits in both spellings: transformers before 5 ignores `size`, 5 writes nothing else. */
static bool add_limits(cJSON *o, const struct processor *p)
{
    const struct {
        const char *key;
        int64_t value;
    } rows[] = {{"min_pixels", p->min_pixels},
                {"max_pixels", p->max_pixels},
                {"patch_size", p->patch_size},
                {"merge_size", p->merge_size},
                {"temporal_patch_size", p->temporal_patch_size}};
    cJSON *size = cJSON_AddObjectToObject(o, "size");
    bool ok = size && cJSON_AddNumberToObject(size, "shortest_edge", (double)p->min_pixels) &&
              cJSON_AddNumberToObject(size, "longest_edge", (double)p->max_pixels);

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ok = cJSON_AddNumberToObject(o, rows[i].key, (double)rows[i].value) && ok;
    return ok;
}

/* Every cJSON_Add returns NULL if out of memory; `ok` collects that. */
static bool add_settings(cJSON *o, const struct processor *p, const char *whole)
{
    cJSON *mean = cJSON_CreateDoubleArray(p->mean, 3), *std = cJSON_CreateDoubleArray(p->std, 3);
    bool ok = cJSON_AddItemToObject(o, "image_mean", mean);

    ok = cJSON_AddItemToObject(o, "image_std", std) && ok;
    ok = (p->kind == &processor_native ? add_limits : add_squares)(o, p) && ok;
    ok = cJSON_AddNumberToObject(o, "resample", resample_numbers[p->resample]) && ok;
    ok = cJSON_AddNumberToObject(o, "rescale_factor", p->rescale_factor) && ok;
    ok = cJSON_AddStringToObject(o, "image_processor_type",
                                 p->do_pad ? "LlavaImageProcessor" : p->kind->classes[0]) &&
         ok;
    ok = (!p->grids || add_grids(o, p)) && ok;
    ok = (!whole || cJSON_AddStringToObject(o, "processor_class", whole)) && ok;
    for (int i = 0; i < SETTINGS; i++) {
        const bool *flag = (const bool *)(const void *)((const char *)p + settings[i].flag);

        if (settings[i].read == take_bool)
            ok = cJSON_AddBoolToObject(o, settings[i].key, *flag) && ok;
    }
    return ok;
}

bool processor_save(const struct processor *p, const char *whole, const char *model_dir,
                    struct err *e)
{
    char *path = file_join(model_dir, "preprocessor_config.json", e);
    cJSON *root = cJSON_CreateObject();
    char *text = NULL;
    bool ok = false;

    if (!path) goto out;
    if (root && add_settings(root, p, whole))
        text = jsonc_print(root, true, e);
    else
        err_set(e, "%s: out of memory", path);
    ok = text && file_write(path, text, strlen(text), e);
out:
    free(text);
    cJSON_Delete(root);
    free(path);
    return ok;
}
