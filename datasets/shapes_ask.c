/* shapes_ask.c - the questions of the drawn world. Where possible each kind chooses its answer
 * first (yes or no, the count) and then looks for a question that has it, so that no kind can be
 * answered well without looking at the picture. */
#include "datasets/shapes.h"

#include <stdio.h>
#include <string.h>

enum { ANY = -1 }; /* ANY: any shape, or any colour */

static int count(const struct layout *l, int shape, int colour)
{
    int n = 0;

    for (int i = 0; i < CELLS; i++)
        n += l->cell[i].shape >= 0 && (shape == ANY || l->cell[i].shape == shape) &&
             (colour == ANY || l->cell[i].colour == colour);
    return n;
}

static int pick_cell(const struct layout *l, struct rng *r, bool occupied)
{
    for (int i = 0; i < WORLD_TRIES; i++) {
        int c = world_pick(r, CELLS);
        if ((l->cell[c].shape >= 0) == occupied) return c;
    }
    return -1;
}

/* "red circle", "circle" or "red shape", after the article given */
struct label {
    char text[32];
};
static struct label label(const char *article, int shape, int colour)
{
    struct label s;

    snprintf(s.text, sizeof s.text, "%s%s%s%s", article, colour == ANY ? "" : colours[colour].name,
             colour == ANY ? "" : " ", shape == ANY ? "shape" : shapes[shape].name);
    return s;
}

/* A cell with a name that fits no other cell: shape and colour, or just one of them if that is
 * enough. -1 if the attempts found none. */
static int pick_named(const struct layout *l, struct rng *r, struct label *name)
{
    for (int i = 0; i < WORLD_TRIES; i++) {
        int c = pick_cell(l, r, true), form = world_pick(r, 4);
        if (c < 0) return -1;
        int shape = form == 3 ? ANY : l->cell[c].shape,
            colour = form == 2 ? ANY : l->cell[c].colour;
        if (count(l, shape, colour) != 1) continue;
        *name = label("", shape, colour);
        return c;
    }
    return -1;
}

static void answer_thing(const struct layout *l, int c, struct turn *t)
{
    if (l->cell[c].shape < 0)
        turn_answer(t, "nothing");
    else
        turn_answer(t, "%s", label("a ", l->cell[c].shape, l->cell[c].colour).text);
}

static bool ask_what(const void *scene, struct rng *r, struct turn *t)
{
    const struct layout *l = scene;
    int c = pick_cell(l, r, world_pick(r, 6) != 0);

    if (c < 0) return false;
    turn_ask(t, world_pick(r, 2) ? "What is at the %s?" : "What do you see at the %s?",
             world_places[c]);
    answer_thing(l, c, t);
    return true;
}

static bool ask_shape(const void *scene, struct rng *r, struct turn *t)
{
    const struct layout *l = scene;
    int c = pick_cell(l, r, true), form = world_pick(r, 3);

    if (c < 0) return false;
    int colour = l->cell[c].colour;
    if (form == 2 && count(l, ANY, colour) == 1)
        turn_ask(t, "Which shape is %s?", colours[colour].name);
    else
        turn_ask(t, form ? "Which shape is at the %s?" : "What shape is at the %s?",
                 world_places[c]);
    turn_answer(t, "%s", shapes[l->cell[c].shape].name);
    return true;
}

static bool ask_colour(const void *scene, struct rng *r, struct turn *t)
{
    const struct layout *l = scene;
    int c = pick_cell(l, r, true), form = world_pick(r, 2);

    if (c < 0) return false;
    int shape = l->cell[c].shape;
    if (form && count(l, shape, ANY) == 1)
        turn_ask(t, "What colour is the %s?", shapes[shape].name);
    else
        turn_ask(t, "What colour is the shape at the %s?", world_places[c]);
    turn_answer(t, "%s", colours[l->cell[c].colour].name);
    return true;
}

static bool ask_where(const void *scene, struct rng *r, struct turn *t)
{
    const struct layout *l = scene;
    struct label name;
    int c = pick_named(l, r, &name);

    if (c < 0) return false;
    turn_ask(t, world_pick(r, 2) ? "Where is the %s?" : "In which corner is the %s?", name.text);
    turn_answer(t, "%s", world_places[c]);
    return true;
}

/* Counts all shapes, those of one colour, or those of one shape; the answer is chosen first. */
static bool ask_count(const void *scene, struct rng *r, struct turn *t)
{
    const struct layout *l = scene;
    int want = world_pick(r, CELLS + 1);

    for (int i = 0; i < WORLD_TRIES; i++) {
        int form = world_pick(r, 5), shape = form < 2 ? world_pick(r, SHAPES) : ANY;
        int colour = form >= 2 && form < 4 ? world_pick(r, COLOURS) : ANY;
        if (count(l, shape, colour) != want) continue;
        const char *how = world_pick(r, 2) ? "How many %s%s%s are there?" : "Count the %s%s%s.";
        turn_ask(t, how, colour == ANY ? "" : colours[colour].name, colour == ANY ? "" : " ",
                 shape == ANY ? "shapes" : shapes[shape].plural);
        turn_answer(t, "%s", world_numbers[want]);
        return true;
    }
    return false;
}

/* Half of the names combine what is in the picture, so that "no" is not given away by a colour or
 * shape that is missing altogether; the other half are random, so that every picture has questions
 * with the answer "no". */
static bool ask_yesno(const void *scene, struct rng *r, struct turn *t)
{
    const struct layout *l = scene;
    bool want = world_pick(r, 2);

    for (int i = 0; i < WORLD_TRIES; i++) {
        int a = pick_cell(l, r, true), b = pick_cell(l, r, true), at = pick_cell(l, r, true);
        if (a < 0) return false;
        bool near = world_pick(r, 2);
        int form = world_pick(r, 5), shape = near ? l->cell[a].shape : world_pick(r, SHAPES);
        int colour = near ? l->cell[b].colour : world_pick(r, COLOURS);
        struct thing seen = l->cell[at];
        if (form == 0 || form == 3) colour = ANY;
        if (form == 1 || form == 4) shape = ANY;
        bool there = count(l, shape, colour) > 0;
        bool here =
            (shape == ANY || seen.shape == shape) && (colour == ANY || seen.colour == colour);
        if ((form < 3 ? there : here) != want) continue;
        if (form < 3)
            turn_ask(t, "Is there a %s?", label("", shape, colour).text);
        else if (form == 3)
            turn_ask(t, "Is there a %s at the %s?", label("", shape, colour).text,
                     world_places[at]);
        else
            turn_ask(t, "Is the shape at the %s %s?", world_places[at], colours[colour].name);
        turn_answer(t, want ? "yes" : "no");
        return true;
    }
    return false;
}

/* The neighbour in the same row or column. Empty neighbours are asked about less often. */
static bool ask_beside(const void *scene, struct rng *r, struct turn *t)
{
    const struct layout *l = scene;
    bool nothing = world_pick(r, 5) == 0;

    for (int i = 0; i < WORLD_TRIES; i++) {
        struct label name;
        int c = pick_named(l, r, &name), other = c ^ (1 + world_pick(r, 2));
        if (c < 0) return false;
        if ((l->cell[other].shape < 0) != nothing) continue;
        turn_ask(t, "What is %s the %s?", world_side(c, other), name.text);
        answer_thing(l, other, t);
        return true;
    }
    return false;
}

/* Yes or no: is one thing left of, right of, above or below another. */
static bool ask_relation(const void *scene, struct rng *r, struct turn *t)
{
    const struct layout *l = scene;
    static const char *const relations[2][2] = {{"left of", "right of"}, {"above", "below"}};
    bool want = world_pick(r, 2);

    for (int i = 0; i < WORLD_TRIES; i++) {
        struct label one, two;
        int a = pick_named(l, r, &one), b = pick_named(l, r, &two);
        int axis = world_pick(r, 2), after = world_pick(r, 2);
        if (a < 0 || b < 0) return false;
        int pa = a >> axis & 1, pb = b >> axis & 1;
        if (a == b || (after ? pa > pb : pa < pb) != want) continue;
        turn_ask(t, "Is the %s %s the %s?", one.text, relations[axis][after], two.text);
        turn_answer(t, want ? "yes" : "no");
        return true;
    }
    return false;
}

static bool ask_describe(const void *scene, struct rng *r, struct turn *t)
{
    const struct layout *l = scene;
    struct label name[CELLS];
    const char *thing[CELLS] = {NULL};

    for (int i = 0; i < CELLS; i++) {
        if (l->cell[i].shape < 0) continue;
        name[i] = label("a ", l->cell[i].shape, l->cell[i].colour);
        thing[i] = name[i].text;
    }
    turn_ask(t, world_pick(r, 2) ? "Describe the picture." : "What does the picture show?");
    world_describe(thing, t);
    return true;
}

const struct world_kind shapes_kinds[SHAPES_KINDS] = {
    {"what", 3, ask_what},     {"shape", 2, ask_shape},       {"colour", 2, ask_colour},
    {"where", 3, ask_where},   {"count", 3, ask_count},       {"yesno", 3, ask_yesno},
    {"beside", 2, ask_beside}, {"relation", 2, ask_relation}, {"describe", 4, ask_describe},
};

/* Three words, one of which is of a different sort. */
void shapes_ask_words(struct rng *r, struct turn *t)
{
    bool odd_is_colour = world_pick(r, 2), asks_not = world_pick(r, 2);
    int64_t colour[COLOURS], shape[SHAPES];
    const char *word[3];
    int at = world_pick(r, 3);

    rng_permutation(r, colour, COLOURS);
    rng_permutation(r, shape, SHAPES);
    for (int i = 0; i < 3; i++)
        word[i] = (i == at) == odd_is_colour ? colours[colour[i]].name : shapes[shape[i]].name;
    t->kind = "words";
    turn_ask(t, "Which is %sa %s: %s, %s or %s?", asks_not ? "not " : "",
             odd_is_colour == asks_not ? "shape" : "colour", word[0], word[1], word[2]);
    turn_answer(t, "%s", word[at]);
}
