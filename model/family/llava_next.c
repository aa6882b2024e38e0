/* llava_next.c - LLaVA-NeXT (LLaVA-1.6): a picture is a square of the whole and tiles of it at a
 * larger size, each run through CLIP's tower. The tiles' features form one map, of which only the
 * part that shows the picture is kept (the rest is padding). A picture of shape s becomes
 *
 *     rows = [projector(features of the whole square)                      [n*n, d]
 *             for each of the map's kept_h rows:
 *                 [projector(its features); image_newline]                 [kept_w + 1, d]]
 *                                                         in all [s.tokens, d]
 *
 * where n = image_size / patch_size, and s.rows = n*n + kept_h*kept_w features are cached. Sizes
 * are computed in double and in the order of transformers' Python code (5.24). */
#include "model/family/llava.h"
#include "base/mem.h"
#include "model/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- settings: transformers' LlavaNextConfig ---- */

/* Whether they are multiples of the tower's squares is seen when the processor
 * is: check_processor. */
static bool read_pinpoints(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    static const char key[] = "image_grid_pinpoints";
    static const int64_t usual[][2] = {
        {336, 672}, {672, 336}, {672, 672}, {1008, 336}, {336, 1008}};
    const cJSON *v = hf_get(r, obj, key), *item;

    c->grids = 0;
    for (size_t i = 0; !v && i < sizeof usual / sizeof *usual; i++, c->grids++)
        memcpy(c->grid[i], usual[i], sizeof usual[i]);
    cJSON_ArrayForEach(item, v)
    {
        const cJSON *w = item->child ? item->child->next : NULL;
        if (c->grids == HF_MAX_GRIDS || !hf_is_int(item->child, 1, HF_MAX_COUNT) ||
            !hf_is_int(w, 1, HF_MAX_COUNT) || w->next)
            break;
        c->grid[c->grids][0] = (int64_t)item->child->valuedouble;
        c->grid[c->grids++][1] = (int64_t)w->valuedouble;
    }
    if ((v && !cJSON_IsArray(v)) || c->grids == 0 || (v && c->grids < cJSON_GetArraySize(v)))
        return hf_refuse(r, key, v, "a list of 1 to %d sizes, [height, width] each", HF_MAX_GRIDS);
    return true;
}

static bool read(const struct hf_reader *r, const cJSON *obj, struct hf_config *c)
{
    hf_get(r, obj, "use_image_newline_parameter"); /* ignored, as in transformers */
    if (!llava_read(r, obj, c) || !read_pinpoints(r, obj, c)) return false;
    return !c->vision_feature_full ||
           hf_refuse(r, "vision_feature_select_strategy",
                     hf_get(r, obj, "vision_feature_select_strategy"),
                     "default: a class token has no place in the map of a picture");
}

/* ---- a new model ---- */

/* Chooses among the same sizes as the published models, in squares of image_size. */
static char *fresh_json(const struct fresh_shape *s, int64_t vocab, const int32_t id[FRESH_TOKENS],
                        struct err *e)
{
    const long long one = s->image_size, two = 2 * one, three = 3 * one;
    char *more = mem_printf(e,
                            "\"image_grid_pinpoints\":[[%lld,%lld],[%lld,%lld],[%lld,%lld],"
                            "[%lld,%lld],[%lld,%lld]],",
                            one, two, two, one, two, two, three, one, one, three);
    char *json = more ? llava_json(&family_llava_next, more, s, vocab, id, e) : NULL;

    free(more);
    return json;
}

static const struct fresh fresh = {LLAVA_TOKENS, fresh_json};

/* ---- parameters ---- */

static bool declare(struct model *m, struct err *e)
{
    struct llava *l;

    if (!llava_declare(m, e)) return false;
    l = m->tower;
    l->newline =
        param_vector(m, PARAM_PROJECTOR, m->cfg.text.hidden_size, "%s", m->layout->newline);
    return true;
}

/* ---- pictures ---- */

static void new_processor(const struct hf_config *c, struct processor *p)
{
    processor_default_of(p, "anyres");
    p->size_h = p->size_w = p->crop_h = p->crop_w = c->vision.image_size;
    p->grids = c->grids;
    memcpy(p->grid, c->grid, sizeof c->grid);
}

static bool check_processor(const struct hf_config *c, const struct processor *p, struct err *e)
{
    if (!processor_is(p, "anyres", e) || !clip_check_processor(c, p, e)) return false;
    return (p->grids == c->grids &&
            memcmp(p->grid, c->grid, (size_t)c->grids * sizeof *c->grid) == 0) ||
           err_set(e,
                   "image_grid_pinpoints is another list than in %s: both must be of the same "
                   "model",
                   c->file);
}

/* Python's int(round(v, 7)) for positive v. */
static int64_t rounded(double v)
{
    const double floored = floor(v);

    return (int64_t)(floored + 1 - v <= 5e-8 ? floored + 1 : floored);
}

/* Rows (columns) to cut at each end of a map with `map` of them, `shown` of which show the
 * picture. */
static int64_t cut(int64_t map, double shown)
{
    return (map - rounded(shown)) / 2;
}

static void shape(const struct hf_config *c, struct picture_shape *s)
{
    const int64_t n = c->vision.image_size / c->vision.patch_size;
    const double h = (double)s->height, w = (double)s->width;
    const double rows = (double)(s->grid_h * n), cols = (double)(s->grid_w * n);

    s->kept_h = s->grid_h * n;
    s->kept_w = s->grid_w * n;
    if (w / h > cols / rows)
        s->kept_h -= 2 * cut(s->kept_h, h * (cols / w));
    else
        s->kept_w -= 2 * cut(s->kept_w, w * (rows / h));
    s->rows = n * n + s->kept_h * s->kept_w;
    s->tokens = s->rows + s->kept_h;
}

/* ---- the graph ---- */

/* Appends to index the feature rows of one picture that are kept: those of its whole square, row
 * `first` on, then those of its tiles, [n*n] each, that show it. */
static int32_t *keep_rows(int32_t *index, const struct picture_shape *s, int64_t n, int64_t first)
{
    const int64_t top = (s->grid_h * n - s->kept_h) / 2, left = (s->grid_w * n - s->kept_w) / 2;

    for (int64_t i = 0; i < n * n; i++)
        *index++ = (int32_t)(first + i);
    for (int64_t i = 0; i < s->kept_h * s->kept_w; i++) {
        const int64_t y = top + i / s->kept_w, x = left + i % s->kept_w;
        const int64_t tile = 1 + y / n * s->grid_w + x / n;
        *index++ = (int32_t)(first + tile * n * n + y % n * n + x % n);
    }
    return index;
}

static struct tensor *features(struct model *m, struct tape *t, struct tensor *pixels,
                               const struct picture_shape *shapes, int64_t n)
{
    const struct llava *l = m->tower;
    const int64_t side = m->cfg.vision.image_size / m->cfg.vision.patch_size;
    struct tensor *all = clip_features(m, t, &l->clip, pixels); /* [tiles*n*n, feature width] */
    int64_t rows = 0, tiles = 0;
    int32_t *index, *at;

    for (int64_t i = 0; i < n; i++)
        rows += shapes[i].rows;
    at = index = tape_new_array(t, int32_t, rows);
    for (int64_t i = 0; i < n; tiles += shapes[i++].inputs)
        at = keep_rows(at, &shapes[i], side, tiles * side * side);
    CHECK(at == index + rows && tiles == pixels->rows);
    return op_select_rows(t, all, NULL, index, rows); /* [sum of s.rows, feature width] */
}

static struct tensor *project(struct model *m, struct tape *t, const struct forward *f)
{
    const struct llava *l = m->tower;
    const struct batch *b = f->batch;
    int32_t *index = tape_new_array(t, int32_t, b->image_tokens);
    int64_t at = 0, row = 0;

    for (int64_t i = 0; i < b->images; i++) {
        const struct picture_shape *s = &b->shapes[i];
        const int64_t whole = s->rows - s->kept_h * s->kept_w;
        for (int64_t k = 0; k < whole; k++)
            index[at++] = (int32_t)row++;
        for (int64_t y = 0; y < s->kept_h; y++) {
            for (int64_t x = 0; x < s->kept_w; x++)
                index[at++] = (int32_t)row++;
            index[at++] = -1;
        }
    }
    CHECK(at == b->image_tokens && row == f->features->rows);
    /* [sum of s.rows, d], then with the line breaks [sum of s.tokens, d] */
    return op_select_rows(t, llava_project(m, t, f), param_tensor(l->newline), index, at);
}

const struct family family_llava_next = {.model_type = "llava_next",
                                         .architecture = "LlavaNextForConditionalGeneration",
                                         .layouts = llava_layouts,
                                         .read = read,
                                         .place = "<image>",
                                         .marker = "embeddings.class_embedding",
                                         .processor_class = "LlavaNextProcessor",
                                         .declare = declare,
                                         .check = llava_check,
                                         .hash = clip_hash,
                                         .new_processor = new_processor,
                                         .check_processor = check_processor,
                                         .shape = shape,
                                         .rows = clip_rows,
                                         .input_width = clip_input_width,
                                         .feature_width = clip_feature_width,
                                         .features = features,
                                         .project = project,
                                         .fresh = &fresh};
