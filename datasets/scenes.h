/* scenes.h - the composited world: a 2 x 2 grid of cells, each empty or with one cut-out
 * picture. */
#ifndef DATASETS_SCENES_H
#define DATASETS_SCENES_H

#include "datasets/stamps.h"
#include "datasets/world.h"

/* The pictures used by one part of the set, sorted by name: those of name n are stamp[start[n]] to
 * stamp[start[n + 1] - 1]. */
struct scene_pool {
    const struct stamp **stamp;
    int *start;
    int stamps, names;
    uint32_t groups;       /* union of the groups of all pictures */
    int64_t size, longest; /* shortest and longest side of a picture, in pixels */
    int pictures;          /* in a sample, at most */
    bool unknown;          /* their names are not trained on: ask only about groups */
};

struct scene {
    const struct scene_pool *pool;
    const struct stamp *cell[CELLS]; /* NULL: empty */
};

/* Questions about groups come first: the first SCENE_GROUP_KINDS need no name. */
enum { SCENE_GROUP_KINDS = 4, SCENE_KINDS = 9 };
extern const struct world_kind scene_kinds[SCENE_KINDS]; /* scene: a struct scene */

#endif
