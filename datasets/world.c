/* world.c - the grid's words, the choice of questions, and the files of a set. */
#include "datasets/world.h"
#include "base/mem.h"
#include "base/plural.h"
#include "datasets/aside.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const world_places[CELLS] = {"top left", "top right", "bottom left", "bottom right"};
const char *const world_numbers[CELLS + 1] = {"zero", "one", "two", "three", "four"};

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

void world_ask(struct convo *c, int turns, const struct world_kind *kinds, int count,
               const void *scene, struct rng *r)
{
    c->turns = 0;
    for (int i = 0; c->turns < turns && i < WORLD_TRIES; i++) {
        const struct world_kind *kind = pick_kind(kinds, count, r);
        struct turn *t = &c->turn[c->turns];
        bool again = false;
        t->kind = kind->name;
        for (int k = 0; k < c->turns; k++)
            again = again || c->turn[k].kind == t->kind;
        if (!again && kind->ask(scene, r, t)) c->turns++;
    }
}

/* Sample i of a part: its picture, if it has one, then its line in the list. */
static bool write_sample(const struct world_set *s, int part, int64_t i, const struct aside *a,
                         struct convo_list *list, struct err *e)
{
    const struct world_part *p = &s->part[part];
    struct convo c = {.turns = 0};
    struct image im = {0};
    struct rng r;
    char *path = NULL;
    bool ok;

    rng_seed(&r, s->seed, ((uint64_t)part << 32) + (uint64_t)i);
    ok = s->fill(p, &r, &c, &im, e);
    if (ok && c.turns == 0) ok = err_set(e, "%s: no question fits sample %" PRId64, p->name, i);
    if (ok && im.px) {
        snprintf(c.image, sizeof c.image, "images/%s-%06" PRId64 ".png", p->name, i);
        path = aside_picture(a, strchr(c.image, '/') + 1, e);
        ok = path && image_write_png(&im, path, e);
    }
    snprintf(c.id, sizeof c.id, "%s-%06" PRId64 "%s%s", p->name, i, p->test ? "#" : "",
             ok && p->test ? c.turn[0].kind : "");
    ok = ok && convo_list_add(list, &c, e);
    free(path);
    image_free(&im);
    return ok;
}

/* Opens list number `part` and writes its samples. */
static bool write_part(const struct world_set *s, int part, const struct aside *a,
                       struct convo_list *list, struct err *e)
{
    const struct world_part *p = &s->part[part];
    char *name = mem_printf(e, "%s.json", p->name);
    bool ok = name && convo_list_open(list, s->dir, name, e);

    free(name);
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
        ok = write_part(s, i, &a, &list[i], e);
    for (int i = 0; ok && i < s->parts; i++) {
        convo_list_end(&list[i]);
        outs[i] = &list[i].out;
    }
    ok = ok && aside_publish(&a, outs, s->parts, e);
    for (int i = 0; i < s->parts; i++) {
        convo_list_abort(&list[i]);
        if (ok)
            printf("%s/%s.json: %" PRId64 " sample%s, %" PRId64 " question%s\n", s->dir,
                   s->part[i].name, list[i].samples, plural(list[i].samples), list[i].turns,
                   plural(list[i].turns));
    }
    aside_close(&a);
    return ok;
}
