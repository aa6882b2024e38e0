/* scenes.c - mha2mla-data scenes: real cut-out pictures composited into a 2 x 2 grid on varied
 * backgrounds, with questions about their real names and groups; squares, or each of a size of its
 * own; one or several in a sample. Parts:
 *   train          scenes of known pictures
 *   test           other scenes of the same pictures
 *   test-redrawn   held-out pictures of known names, if the list has any
 *   test-unseen    held-out pictures of names never trained on: groups, counts, yes or no */
#include "datasets/scenes.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/plural.h"
#include "datasets/draw.h"
#include "datasets/tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A part with fewer pictures than this is left out; for training it is an error. */
enum { POOL_LEAST = 8 };

struct options {
    const char *out, *pairs, *root;
    int64_t train, test, names, size, longest, pictures, seed;
};

/* One scene in eight belongs to the test, depending on which pictures are where. */
static bool scene_is_test(const struct scene *s)
{
    uint64_t h = 0;
    struct rng r; /* serves as a hash: one draw per scene */

    for (int i = 0; i < CELLS; i++) {
        uint64_t at = 0;
        for (int k = 0; s->cell[i] && k < s->pool->stamps; k++)
            if (s->pool->stamp[k] == s->cell[i]) at = (uint64_t)k + 1;
        h = h * 0x9e3779b97f4a7c15u + at;
    }
    rng_seed(&r, h, 0);
    return rng_below(&r, 8) == 0;
}

/* Draws the name first, so that names with many pictures are not more frequent. */
static const struct stamp *draw_stamp(const struct scene_pool *p, struct rng *r)
{
    int n = world_pick(r, p->names), first = p->start[n];

    return p->stamp[first + world_pick(r, p->start[n + 1] - first)];
}

/* One thing in three is of the previous one's sort, so that groups can be counted. */
static void draw_scene(struct scene *s, struct rng *r)
{
    int n = 1 + world_pick(r, CELLS);
    int64_t order[CELLS];

    memset(s->cell, 0, sizeof s->cell);
    rng_permutation(r, order, CELLS);
    for (int i = 0; i < n; i++) {
        const struct stamp *last = i ? s->cell[order[i - 1]] : NULL, *now;
        bool alike = last && world_pick(r, 3) == 0;
        do {
            now = draw_stamp(s->pool, r);
        } while (alike && now->sort != last->sort);
        s->cell[order[i]] = now;
    }
}

static uint8_t mix(uint8_t under, uint8_t over, int alpha)
{
    return (uint8_t)((under * (255 - alpha) + over * alpha + 127) / 255);
}

/* Composites with the top left corner at (x, y); must lie completely inside. */
static void paste(struct image *im, const struct image *over, int64_t x, int64_t y, bool mirrored)
{
    CHECK(x >= 0 && y >= 0 && x + over->width <= im->width && y + over->height <= im->height);
    for (int64_t oy = 0; oy < over->height; oy++) {
        for (int64_t ox = 0; ox < over->width; ox++) {
            int64_t from = mirrored ? over->width - 1 - ox : ox;
            const uint8_t *s = over->px + (oy * over->width + from) * 4;
            uint8_t *d = im->px + ((y + oy) * im->width + x + ox) * 3;
            for (int k = 0; k < 3; k++)
                d[k] = mix(d[k], s[k], s[3]);
        }
    }
}

/* Takes 0.80 to 0.96 of the cell, in the direction in which it is tight; the rest is room to
 * move. */
static bool paste_stamp(struct image *im, const struct stamp *s, int cell, struct rng *r,
                        struct err *e)
{
    const int64_t w = im->width / 2, h = im->height / 2;
    const int64_t most = s->image.width > s->image.height ? s->image.width : s->image.height;
    const int64_t wide = w * most / s->image.width, high = h * most / s->image.height;
    const int64_t longer = (wide < high ? wide : high) * (80 + world_pick(r, 17)) / 100;
    struct image small;
    bool mirrored = world_pick(r, 2);

    if (!stamp_fit(&s->image, longer, &small, e)) return false;
    int64_t x = (int64_t)rng_below(r, (uint64_t)(w - small.width + 1));
    int64_t y = (int64_t)rng_below(r, (uint64_t)(h - small.height + 1));
    paste(im, &small, x + w * (cell & 1), y + h * (cell >> 1), mirrored);
    image_free(&small);
    return true;
}

/* A side of a picture, where they differ in size. */
static int64_t draw_side(const struct scene_pool *p, struct rng *r)
{
    return p->longest > p->size ? p->size + world_pick(r, (int)(p->longest - p->size + 1))
                                : p->size;
}

static bool paint(const struct scene *s, struct rng *r, struct image *im, struct err *e)
{
    const int64_t width = draw_side(s->pool, r), height = draw_side(s->pool, r);
    struct rgb tone;

    if (!image_new(im, width, height, 3, e)) return false;
    tone.r = (uint8_t)(90 + world_pick(r, 140));
    tone.g = (uint8_t)(90 + world_pick(r, 140));
    tone.b = (uint8_t)(90 + world_pick(r, 140));
    draw_ground(im, tone, r);
    for (int i = 0; i < CELLS; i++)
        if (s->cell[i] && !paste_stamp(im, s->cell[i], i, r, e)) return false;
    return true;
}

static bool fill(const struct world_part *p, struct rng *r, struct convo *c, struct image *im,
                 struct err *e)
{
    const struct scene_pool *pool = p->pool;
    int kinds = pool->unknown ? SCENE_GROUP_KINDS : SCENE_KINDS;
    struct scene s[CONVO_PICTURES];
    struct world_view v = {.scenes = pool->pictures > 1 ? 1 + world_pick(r, pool->pictures) : 1};

    for (int i = 0; i < v.scenes; i++) {
        s[i].pool = pool;
        do {
            draw_scene(&s[i], r);
        } while (scene_is_test(&s[i]) != p->test);
        v.scene[i] = &s[i];
    }
    c->marker_last = world_pick(r, 4) == 0;
    world_ask(c, p->test ? 1 : 2 + world_pick(r, 3), scene_kinds, kinds, &v, r);
    for (int i = 0; i < v.scenes; i++)
        if (!paint(&s[i], r, &im[i], e)) return false;
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct stamp *const *x = a, *const *y = b;
    int order = strcmp((*x)->name, (*y)->name);

    return order ? order : strcmp((*x)->path, (*y)->path);
}

/* Takes the pictures with these two flags, of the allowed sorts. Call pool_free even after a
 * failure. */
static bool pool_make(struct scene_pool *p, const struct stamp_list *l, bool held_out, bool named,
                      uint32_t sorts, struct err *e)
{
    p->stamp = mem_new(l->count, sizeof *p->stamp, "pictures", e);
    p->start = p->stamp ? mem_new(l->count + 1, sizeof *p->start, "names", e) : NULL;
    if (!p->start) return false;
    for (size_t i = 0; i < l->count; i++) {
        const struct stamp *s = &l->stamp[i];
        if (s->held_out != held_out || s->named != named || !(sorts >> s->sort & 1)) continue;
        p->stamp[p->stamps++] = s;
        p->groups |= s->groups;
    }
    qsort(p->stamp, (size_t)p->stamps, sizeof *p->stamp, by_name);
    for (int i = 0; i < p->stamps; i++)
        if (i == 0 || strcmp(p->stamp[i]->name, p->stamp[i - 1]->name) != 0)
            p->start[p->names++] = i;
    p->start[p->names] = p->stamps;
    return true;
}

static void pool_free(struct scene_pool *p)
{
    free(p->stamp);
    free(p->start);
}

enum { KNOWN, REDRAWN, UNSEEN, POOLS };

static bool make_pools(struct scene_pool pool[POOLS], struct stamp_list *l, const struct options *o,
                       struct err *e)
{
    int64_t names;

    if (!stamps_read(l, o->pairs, o->root, e) ||
        !stamps_load(l, o->longest > o->size ? o->longest : o->size, e))
        return false;
    names = stamps_choose(l, o->names);
    for (int i = 0; i < POOLS; i++) {
        pool[i].size = o->size;
        pool[i].longest = o->longest;
        pool[i].pictures = (int)o->pictures;
    }
    pool[UNSEEN].unknown = true;
    if (!pool_make(&pool[KNOWN], l, false, true, UINT32_MAX, e) ||
        !pool_make(&pool[REDRAWN], l, true, true, UINT32_MAX, e) ||
        !pool_make(&pool[UNSEEN], l, true, false, pool[KNOWN].groups, e))
        return false;
    if (names < POOL_LEAST)
        return err_set(
            e, "%s: at least %d captions must be plain names of a known group, %" PRId64 " are",
            o->pairs, POOL_LEAST, names);
    tool_say("scenes: %d pictures of %d names; held out: %d of the same names, %d of %d other%s",
             pool[KNOWN].stamps, pool[KNOWN].names, pool[REDRAWN].stamps, pool[UNSEEN].stamps,
             pool[UNSEEN].names, plural(pool[UNSEEN].names));
    return true;
}

static bool make(const struct options *o, struct err *e)
{
    struct scene_pool pool[POOLS] = {{.stamp = NULL}};
    struct stamp_list list = {.stamp = NULL};
    struct world_part part[WORLD_PARTS] = {{"train", o->train, false, &pool[KNOWN]},
                                           {"test", o->test, true, &pool[KNOWN]}};
    struct world_set set = {o->out, (uint64_t)o->seed, part, 2, fill};
    bool ok = make_pools(pool, &list, o, e);

    if (ok && pool[REDRAWN].stamps >= POOL_LEAST)
        part[set.parts++] = (struct world_part){"test-redrawn", o->test, true, &pool[REDRAWN]};
    if (ok && pool[UNSEEN].stamps >= POOL_LEAST)
        part[set.parts++] = (struct world_part){"test-unseen", o->test, true, &pool[UNSEEN]};
    ok = ok && world_write(&set, e);
    for (int i = 0; i < POOLS; i++)
        pool_free(&pool[i]);
    stamps_free(&list);
    return ok;
}

/* Without --root: paths start one level above the list. */
static bool make_beside(struct options *o, struct err *e)
{
    char *dir = file_dir(o->pairs, e), *above = dir ? mem_printf(e, "%s/..", dir) : NULL;
    bool ok;

    o->root = above;
    ok = above && make(o, e);
    free(dir);
    free(above);
    return ok;
}

static bool run(int argc, char **argv, struct err *e)
{
    struct options o = {
        .train = 8000, .test = 800, .names = 40, .size = 64, .pictures = 1, .seed = 1};
    const struct tool_option options[] = {
        {"out", "DIR", "where it all goes", &o.out, NULL, 0, 0, true},
        {"pairs", "FILE", "list of pictures, see above", &o.pairs, NULL, 0, 0, true},
        {"root", "DIR", "what the list's paths start from", &o.root, NULL, 0, 0, false},
        {"train", "N", "training samples", NULL, &o.train, 1, 1000000, false},
        {"test", "N", "samples in each test part", NULL, &o.test, 1, 1000000, false},
        {"names", "N", "names to be learnt, the shortest of each group", NULL, &o.names, 8, 10000,
         false},
        {"size", "N", "pixels a side", NULL, &o.size, 32, 1024, false},
        {"longest", "N", "each side has a length of its own, from --size to this; 0: squares", NULL,
         &o.longest, 0, 1024, false},
        {"pictures", "N", "pictures in a sample, at most", NULL, &o.pictures, 1, CONVO_PICTURES,
         false},
        {"seed", "N", "another set for another seed", NULL, &o.seed, 0, INT64_MAX, false},
        {.name = NULL},
    };
    bool help;
    int rest;

    if (!tool_options(
            options, "scenes --out DIR --pairs FILE [OPTION ...]",
            "Pastes one to four real cut-out pictures into a 2 x 2 grid and asks about"
            " them:\nDIR/images/*.png, DIR/train.json, DIR/test.json, DIR/test-unseen.json"
            " (pictures never trained on)\nand, where the list has other pictures of the"
            " same names, DIR/test-redrawn.json.\nFILE is DEST/pairs/tuxpaint.tsv or"
            " DEST/pairs/emoji.tsv of data/fetch-real-data.sh;\n--root is DEST if not"
            " given.",
            argc, argv, &rest, &help, e))
        return false;
    if (help) return true;
    if (rest < argc) return err_set(e, "scenes: unexpected argument '%s'", argv[rest]);
    if (o.longest && o.longest < o.size)
        return err_set(e, "scenes: --longest is %" PRId64 ", less than --size, %" PRId64, o.longest,
                       o.size);
    return o.root ? make(&o, e) : make_beside(&o, e);
}

const struct tool_command tool_scenes = {"scenes", "real pictures pasted into scenes", run};
