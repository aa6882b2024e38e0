/* world.c - the grid's words, the choice of questions, and the files of a set. */
#include "datasets/world.h"
#include "base/mem.h"
#include "base/plural.h"
#include "datasets/aside.h"
#include "datasets/tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const world_places[CELLS] = {"top left", "top right", "bottom left", "bottom right"};
const char *const world_numbers[CELLS + 1] = {"zero", "one", "two", "three", "four"};
static const char *const ordinals[CONVO_PICTURES] = {"First", "Second", "Third", "Fourth"};

int world_pick(struct rng *r, int n)
{
    return (int)rng_below(r, (uint64_t)n);
}

const char *world_side(int cell, int other)
{
    if (cell >> 1 == other >> 1) return other > cell ? "to the right of" : "to the left of";
    return other > cell ? "below" : "above";
}

void world_describe(const char *const thing[CELLS], struct turn *t)
{
    char text[sizeof t->answer] = "";
    int things = 0, said = 0;

    for (int i = 0; i < CELLS; i++)
        things += thing[i] != NULL;
    for (int i = 0; i < CELLS; i++) {
        size_t len = strlen(text);
        if (!thing[i]) continue;
        const char *join = said == 0 ? "" : said == things - 1 ? " and " : ", ";
        snprintf(text + len, sizeof text - len, "%s%s at the %s", join, thing[i], world_places[i]);
        said++;
    }
    turn_answer(t, "%s", text);
}

static const struct world_kind *pick_kind(const struct world_kind *kinds, int count, struct rng *r)
{
    int all = 0, at;

    for (int i = 0; i < count; i++)
        all += kinds[i].share;
    at = world_pick(r, all);
    for (;; kinds++) {
        at -= kinds->share;
        if (at < 0) return kinds;
    }
}

/* A question about one of the scenes. */
static bool ask_one(const struct world_kind *kind, const struct world_view *v, struct rng *r,
                    struct turn *t)
{
    int which = v->scenes > 1 ? world_pick(r, v->scenes) : 0;
    char ask[sizeof t->ask];

    if (!kind->ask(v->scene[which], r, t)) return false;
    if (v->scenes == 1) return true;
    memcpy(ask, t->ask, sizeof ask);
    turn_ask(t, "%s picture: %s", ordinals[which], ask);
    return true;
}

void world_ask(struct convo *c, int turns, const struct world_kind *kinds, int count,
               const struct world_view *v, struct rng *r)
{
    c->turns = 0;
    for (int i = 0; c->turns < turns && i < WORLD_TRIES; i++) {
        const struct world_kind *kind = pick_kind(kinds, count, r);
        struct turn *t = &c->turn[c->turns];
        bool again = false;
        t->kind = kind->name;
        for (int k = 0; k < c->turns; k++)
            again = again || c->turn[k].kind == t->kind;
        if (!again && ask_one(kind, v, r, t)) c->turns++;
    }
}

/* The pictures of sample i of a part, named after it. */
static bool write_pictures(const struct world_part *p, int64_t i, const struct image *im,
                           const struct aside *a, struct convo *c, struct err *e)
{
    for (c->images = 0; c->images < CONVO_PICTURES && im[c->images].px; c->images++) {
        char *to = c->image[c->images], *path, more[16] = "";
        bool ok;
        if (c->images) snprintf(more, sizeof more, "-%d", c->images + 1);
        snprintf(to, sizeof c->image[0], "images/%s-%06" PRId64 "%s.png", p->name, i, more);
        path = aside_picture(a, strchr(to, '/') + 1, e);
        ok = path && image_write_png(&im[c->images], path, e);
        free(path);
        if (!ok) return false;
    }
    return true;
}

/* Sample i of a part: its pictures, if it has any, then its line in the list. */
static bool write_sample(const struct world_set *s, int part, int64_t i, const struct aside *a,
                         struct convo_list *list, struct err *e)
{
    const struct world_part *p = &s->part[part];
    struct convo c = {.turns = 0};
    struct image im[CONVO_PICTURES] = {{0}};
    struct rng r;
    bool ok;

    rng_seed(&r, s->seed, ((uint64_t)part << 32) + (uint64_t)i);
    ok = s->fill(p, &r, &c, im, e);
    if (ok && c.turns == 0) ok = err_set(e, "%s: no question fits sample %" PRId64, p->name, i);
    ok = ok && write_pictures(p, i, im, a, &c, e);
    snprintf(c.id, sizeof c.id, "%s-%06" PRId64 "%s%s", p->name, i, p->test ? "#" : "",
             ok && p->test ? c.turn[0].kind : "");
    ok = ok && convo_list_add(list, &c, e);
    for (int k = 0; k < CONVO_PICTURES; k++)
        image_free(&im[k]);
    return ok;
}

static bool open_list(const struct world_set *s, int part, struct aside *a, struct convo_list *list,
                      struct err *e)
{
    char *name = mem_printf(e, "%s.json", s->part[part].name);
    bool ok = name && aside_list(a, name, e) && convo_list_open(list, s->dir, name, e);

    free(name);
    return ok;
}

static bool write_part(const struct world_set *s, int part, const struct aside *a,
                       struct convo_list *list, struct err *e)
{
    const struct world_part *p = &s->part[part];
    bool ok = true;

    for (int64_t i = 0; ok && i < p->samples; i++)
        ok = write_sample(s, part, i, a, list, e);
    return ok;
}

bool world_write(const struct world_set *s, struct err *e)
{
    struct convo_list list[WORLD_PARTS] = {{{0}, 0, 0}};
    struct file_out *outs[WORLD_PARTS];
    struct aside a = {0};
    bool ok;

    CHECK(s->parts <= WORLD_PARTS);
    ok = aside_open(&a, s->dir, e);
    for (int i = 0; ok && i < s->parts; i++)
        ok = open_list(s, i, &a, &list[i], e);
    for (int i = 0; ok && i < s->parts; i++)
        ok = write_part(s, i, &a, &list[i], e);
    for (int i = 0; ok && i < s->parts; i++) {
        convo_list_end(&list[i]);
        outs[i] = &list[i].out;
    }
    ok = ok && aside_publish(&a, outs, s->parts, e);
    for (int i = 0; i < s->parts; i++) {
        convo_list_abort(&list[i]);
        if (ok)
            tool_say("%s/%s.json: %" PRId64 " sample%s, %" PRId64 " question%s", s->dir,
                     s->part[i].name, list[i].samples, plural(list[i].samples), list[i].turns,
                     plural(list[i].turns));
    }
    aside_close(&a);
    return ok;
}
