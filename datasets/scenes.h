/* scenes.h - the pasted world: a 2 x 2 grid of cells, each empty or with one cut-out picture. */
#ifndef DATASETS_SCENES_H
#define DATASETS_SCENES_H

#include "datasets/stamps.h"
#include "datasets/world.h"

/* The pictures that a part of the set is made of, sorted by name: those of name n are
 * stamp[start[n]] to stamp[start[n + 1] - 1]. */
struct scene_pool {
    const struct stamp **stamp;
    int *start;
    int stamps, names;
    uint32_t groups; /* all groups that any of them is in */
    int64_t size;    /* of the scene, pixels a side */
    bool unknown;    /* their names are not trained on: only their groups are asked for */
};

struct scene {
    const struct scene_pool *pool;
    const struct stamp *cell[CELLS]; /* NULL: nothing is there */
};

/* Questions about groups come first: the first SCENE_GROUP_KINDS need no name. */
enum { SCENE_GROUP_KINDS = 4, SCENE_KINDS = 9 };
extern const struct world_kind scene_kinds[SCENE_KINDS]; /* their scene: a struct scene */

#endif
