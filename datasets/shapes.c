/* shapes.c - mha2mla-data shapes: drawn pictures with questions that have exact answers. The world
 * is small enough for a model of a few million parameters, yet every kind of question needs both
 * the picture and the text, and most need to know where in the picture something is. */
#include "datasets/shapes.h"
#include "datasets/tool.h"

const struct shape shapes[SHAPES] = {
    {"circle", "circles", {.n = 0, .hole = 0}},
    {"ring", "rings", {.n = 0, .hole = 580}},
    {"square", "squares", {.n = 4, .at = {{-850, -850}, {850, -850}, {850, 850}, {-850, 850}}}},
    {"triangle", "triangles", {.n = 3, .at = {{0, -950}, {1000, 800}, {-1000, 800}}}},
    {"star",
     "stars",
     {.n = 10,
      .at = {{0, -1000},
             {253, -348},
             {951, -309},
             {409, 133},
             {588, 809},
             {0, 430},
             {-588, 809},
             {-409, 133},
             {-951, -309},
             {-253, -348}}}},
    {"cross",
     "crosses",
     {.n = 12,
      .at = {{-300, -950},
             {300, -950},
             {300, -300},
             {950, -300},
             {950, 300},
             {300, 300},
             {300, 950},
             {-300, 950},
             {-300, 300},
             {-950, 300},
             {-950, -300},
             {-300, -300}}}},
};

/* Far apart from each other and from the backgrounds. */
const struct colour colours[COLOURS] = {
    {"red", {215, 35, 35}},     {"green", {40, 170, 60}},   {"blue", {35, 70, 220}},
    {"yellow", {245, 225, 40}}, {"purple", {160, 40, 190}}, {"white", {250, 250, 250}},
    {"black", {12, 12, 12}},
};

static const struct rgb grounds[] = {
    {128, 128, 128}, {150, 140, 125}, {120, 135, 150}, {140, 125, 135}, {105, 115, 110}};

/* Whether a layout belongs to the test: one in eight, determined by the layout, so that no test
 * layout is ever in the training part, whatever the sizes and seeds. */
static bool layout_is_test(const struct layout *l)
{
    struct rng r; /* serves as a hash: one draw per layout */
    uint64_t h = 0;

    for (int i = 0; i < CELLS; i++)
        h = h * 64 + (uint64_t)(l->cell[i].shape + 1) * COLOURS +
            (l->cell[i].shape < 0 ? 0 : (uint64_t)l->cell[i].colour);
    rng_seed(&r, h, 0);
    return rng_below(&r, 8) == 0;
}

/* One to four things, usually three. A thing sometimes takes the shape or colour of the previous
 * one, so that counts above one and ambiguous names occur. */
static void draw_layout(struct layout *l, struct rng *r)
{
    static const int8_t how_many[10] = {1, 2, 2, 2, 3, 3, 3, 4, 4, 4};
    int n = how_many[rng_below(r, 10)];
    int64_t order[CELLS];

    rng_permutation(r, order, CELLS);
    for (int i = 0; i < CELLS; i++)
        l->cell[i] = (struct thing){-1, 0};
    for (int i = 0; i < n; i++) {
        struct thing *now = &l->cell[order[i]], *last = i ? &l->cell[order[i - 1]] : NULL;
        now->shape = (int8_t)rng_below(r, SHAPES);
        now->colour = (int8_t)rng_below(r, COLOURS);
        if (last && rng_below(r, 4) == 0) now->shape = last->shape;
        if (last && rng_below(r, 4) == 0) now->colour = last->colour;
    }
}

/* A cell is half of the picture wide. The radius is 0.36 to 0.44 of that, and the centre moves by
 * at most the space left in the cell. */
static void paint(struct image *im, const struct layout *l, struct rng *r)
{
    int64_t cell = im->width * DRAW_UNIT / 2;

    draw_ground(im, grounds[rng_below(r, sizeof grounds / sizeof grounds[0])], r);
    for (int i = 0; i < CELLS; i++) {
        const struct thing *t = &l->cell[i];
        if (t->shape < 0) continue;
        int64_t radius = cell * (36 + (int64_t)rng_below(r, 9)) / 100, room = cell / 2 - radius;
        int64_t x = cell / 2 - room + (int64_t)rng_below(r, (uint64_t)(2 * room + 1));
        int64_t y = cell / 2 - room + (int64_t)rng_below(r, (uint64_t)(2 * room + 1));
        struct rgb c = draw_vary(colours[t->colour].rgb, 12, r);
        draw_figure(im, &shapes[t->shape].figure, x + cell * (i & 1), y + cell * (i >> 1), radius,
                    c);
    }
}

/* One sample in 25 is text only. */
static bool fill(const struct world_part *p, struct rng *r, struct convo *c, struct image *im,
                 struct err *e)
{
    int64_t size = *(const int64_t *)p->pool;
    struct layout l;

    if (world_pick(r, 25) == 0) {
        shapes_ask_words(r, &c->turn[0]);
        c->turns = 1;
        return true;
    }
    do {
        draw_layout(&l, r);
    } while (layout_is_test(&l) != p->test);
    c->marker_last = world_pick(r, 4) == 0;
    world_ask(c, p->test ? 1 : 1 + world_pick(r, 3), shapes_kinds, SHAPES_KINDS,
              &(struct world_view){{&l}, 1}, r);
    if (!image_new(im, size, size, 3, e)) return false;
    paint(im, &l, r);
    return true;
}

static bool run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL;
    int64_t train = 8000, test = 800, size = 32, seed = 1;
    const struct tool_option options[] = {
        {"out", "DIR", "where it all goes", &dir, NULL, 0, 0, true},
        {"train", "N", "training samples", NULL, &train, 1, 1000000, false},
        {"test", "N", "test samples, one question each", NULL, &test, 1, 1000000, false},
        {"size", "N", "pixels a side", NULL, &size, 16, 1024, false},
        {"seed", "N", "another set for another seed", NULL, &seed, 0, INT64_MAX, false},
        {.name = NULL},
    };
    int rest;
    bool help;

    if (!tool_options(options, "shapes --out DIR [OPTION ...]",
                      "Draws pictures of one to four coloured shapes in a 2 x 2 grid and asks about"
                      " them: DIR/images/*.png,\nDIR/train.json and DIR/test.json (LLaVA JSON; a"
                      " test sample's id ends with #KIND of question).",
                      argc, argv, &rest, &help, e))
        return false;
    if (help) return true;
    if (rest < argc) return err_set(e, "shapes: unexpected argument '%s'", argv[rest]);
    const struct world_part part[] = {{"train", train, false, &size}, {"test", test, true, &size}};
    const struct world_set set = {dir, (uint64_t)seed, part, 2, fill};
    return world_write(&set, e);
}

const struct tool_command tool_shapes = {"shapes", "drawn shapes with exact answers", run};
