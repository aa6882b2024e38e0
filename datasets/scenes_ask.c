/* scenes_ask.c - the questions of the composited world; as in the drawn one, the answer
 * (yes or no, a count) is chosen first. Groups are asked about only if the pool has them. */
#include "datasets/scenes.h"

#include <stdio.h>
#include <string.h>

static bool in_group(const struct stamp *s, int group)
{
    return s && s->groups >> group & 1;
}

static int count_group(const struct scene *s, int group)
{
    int n = 0;

    for (int i = 0; i < CELLS; i++)
        n += in_group(s->cell[i], group);
    return n;
}

static int count_name(const struct scene *s, const char *name)
{
    int n = 0;

    for (int i = 0; i < CELLS; i++)
        n += s->cell[i] && !strcmp(s->cell[i]->name, name);
    return n;
}

static int pick_cell(const struct scene *s, struct rng *r, bool occupied)
{
    for (int i = 0; i < WORLD_TRIES; i++) {
        int c = world_pick(r, CELLS);
        if ((s->cell[c] != NULL) == occupied) return c;
    }
    return -1;
}

/* A cell whose name no other cell has, or -1. */
static int pick_named(const struct scene *s, struct rng *r)
{
    for (int i = 0; i < WORLD_TRIES; i++) {
        int c = pick_cell(s, r, true);
        if (c >= 0 && count_name(s, s->cell[c]->name) == 1) return c;
    }
    return -1;
}

static int pick_group(const struct scene *s, struct rng *r)
{
    int g;

    do {
        g = world_pick(r, STAMP_GROUPS);
    } while (!(s->pool->groups >> g & 1));
    return g;
}

static void answer_thing(const struct stamp *s, struct turn *t)
{
    if (s)
        turn_answer(t, "%s %s", s->article, s->name);
    else
        turn_answer(t, "nothing");
}

static bool ask_count(const void *scene, struct rng *r, struct turn *t)
{
    const struct scene *s = scene;
    int want = world_pick(r, CELLS + 1);

    for (int i = 0; i < WORLD_TRIES; i++) {
        int g = pick_group(s, r), n = 0;
        bool all = world_pick(r, 6) == 0;
        for (int c = 0; c < CELLS; c++)
            n += s->cell[c] != NULL;
        if ((all ? n : count_group(s, g)) != want) continue;
        turn_ask(t, "How many %s are there?", all ? "things" : stamp_groups[g].many);
        turn_answer(t, "%s", world_numbers[want]);
        return true;
    }
    return false;
}

static bool ask_isgroup(const void *scene, struct rng *r, struct turn *t)
{
    const struct scene *s = scene;
    bool want = world_pick(r, 2);

    for (int i = 0; i < WORLD_TRIES; i++) {
        int g = pick_group(s, r), c = pick_cell(s, r, true);
        bool here = world_pick(r, 2);
        if (c < 0) return false;
        if ((here ? in_group(s->cell[c], g) : count_group(s, g) > 0) != want) continue;
        if (here)
            turn_ask(t, "Is %s at the %s?", stamp_groups[g].one, world_places[c]);
        else
            turn_ask(t, "Is there %s?", stamp_groups[g].one);
        turn_answer(t, want ? "yes" : "no");
        return true;
    }
    return false;
}

static bool ask_sort(const void *scene, struct rng *r, struct turn *t)
{
    const struct scene *s = scene;
    int c = pick_cell(s, r, true);

    if (c < 0) return false;
    turn_ask(t, "What sort of thing is at the %s?", world_places[c]);
    turn_answer(t, "%s", stamp_groups[s->cell[c]->sort].one);
    return true;
}

/* Where the only thing of a group is. */
static bool ask_find(const void *scene, struct rng *r, struct turn *t)
{
    const struct scene *s = scene;

    for (int i = 0; i < WORLD_TRIES; i++) {
        int c = pick_cell(s, r, true), g = pick_group(s, r);
        if (c < 0) return false;
        if (!in_group(s->cell[c], g) || count_group(s, g) != 1) continue;
        turn_ask(t, "In which corner is %s?", stamp_groups[g].one);
        turn_answer(t, "%s", world_places[c]);
        return true;
    }
    return false;
}

static bool ask_what(const void *scene, struct rng *r, struct turn *t)
{
    const struct scene *s = scene;
    int c = pick_cell(s, r, world_pick(r, 6) != 0);

    if (c < 0) return false;
    turn_ask(t, world_pick(r, 2) ? "What is at the %s?" : "What do you see at the %s?",
             world_places[c]);
    answer_thing(s->cell[c], t);
    return true;
}

static bool ask_where(const void *scene, struct rng *r, struct turn *t)
{
    const struct scene *s = scene;
    int c = pick_named(s, r);

    if (c < 0) return false;
    turn_ask(t, "Where is the %s?", s->cell[c]->name);
    turn_answer(t, "%s", world_places[c]);
    return true;
}

/* "No" may be asked with any name in the pool. */
static bool ask_isthere(const void *scene, struct rng *r, struct turn *t)
{
    const struct scene *s = scene;
    bool want = world_pick(r, 2);

    for (int i = 0; i < WORLD_TRIES; i++) {
        int c = pick_cell(s, r, true);
        const struct stamp *other = s->pool->stamp[world_pick(r, s->pool->stamps)];
        if (c < 0) return false;
        if (want) other = s->cell[c];
        if ((count_name(s, other->name) > 0) != want) continue;
        turn_ask(t, "Is there %s %s?", other->article, other->name);
        turn_answer(t, want ? "yes" : "no");
        return true;
    }
    return false;
}

/* The neighbour in the same row or column. Empty neighbours are asked about less often. */
static bool ask_beside(const void *scene, struct rng *r, struct turn *t)
{
    const struct scene *s = scene;
    bool nothing = world_pick(r, 5) == 0;

    for (int i = 0; i < WORLD_TRIES; i++) {
        int c = pick_named(s, r), other = c ^ (1 + world_pick(r, 2));
        if (c < 0) return false;
        if ((s->cell[other] == NULL) != nothing) continue;
        turn_ask(t, "What is %s the %s?", world_side(c, other), s->cell[c]->name);
        answer_thing(s->cell[other], t);
        return true;
    }
    return false;
}

static bool ask_describe(const void *scene, struct rng *r, struct turn *t)
{
    const struct scene *s = scene;
    char text[CELLS][sizeof s->cell[0]->name + sizeof s->cell[0]->article + 1];
    const char *thing[CELLS] = {NULL};

    for (int i = 0; i < CELLS; i++) {
        if (!s->cell[i]) continue;
        snprintf(text[i], sizeof text[i], "%s %s", s->cell[i]->article, s->cell[i]->name);
        thing[i] = text[i];
    }
    turn_ask(t, world_pick(r, 2) ? "Describe the picture." : "What does the picture show?");
    world_describe(thing, t);
    return true;
}

const struct world_kind scene_kinds[SCENE_KINDS] = {
    {"count", 3, ask_count},     {"isgroup", 3, ask_isgroup}, {"sort", 2, ask_sort},
    {"find", 2, ask_find},       {"what", 6, ask_what},       {"where", 3, ask_where},
    {"isthere", 3, ask_isthere}, {"beside", 2, ask_beside},   {"describe", 8, ask_describe},
};
