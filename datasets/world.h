/* world.h - what the drawn and the pasted pictures share: a 2 x 2 grid of places, questions in
 * kinds, and the writing of a set's parts (train, test, ...) as pictures and LLaVA JSON. */
#ifndef DATASETS_WORLD_H
#define DATASETS_WORLD_H

#include "data/picture/image.h"
#include "datasets/convo.h"

/* Cells in reading order: 0 top left, 1 top right, 2 bottom left, 3 bottom right. Bit 0 is the
 * column, bit 1 the row. */
enum { CELLS = 4 };
extern const char *const world_places[CELLS], *const world_numbers[CELLS + 1];

/* How often a question is drawn again until it fits the picture and the answer wished for. */
enum { WORLD_TRIES = 64 };

int world_pick(struct rng *r, int n); /* 0..n-1 */

/* Where `other` lies seen from its neighbour `cell`: "above", "to the left of", ... */
const char *world_side(int cell, int other);

/* "a red circle at the top left and a blue ring at the top right"; thing[c] is NULL for an empty
 * cell. Makes t->answer. */
void world_describe(const char *const thing[CELLS], struct turn *t);

/* One kind of question. ask() turns a scene into a question with its one right answer; false where
 * the scene admits none (then *t is undefined). */
struct world_kind {
    const char *name;
    int share; /* how often it is drawn, relative to the others */
    bool (*ask)(const void *scene, struct rng *r, struct turn *t);
};

/* Asks up to `turns` questions of different kinds; c->turns says how many there are, 0 where no
 * kind fitted. */
void world_ask(struct convo *c, int turns, const struct world_kind *kinds, int count,
               const void *scene, struct rng *r);

/* One list of samples: DIR/NAME.json. A test part has one question a sample, and its kind after a
 * '#' at the end of the id. */
struct world_part {
    const char *name;
    int64_t samples;
    bool test;
    const void *pool; /* for fill() */
};

/* fill() makes one sample: c's turns, c->marker_last, and the picture, which stays zeroed for a
 * sample of text alone. */
struct world_set {
    const char *dir;
    uint64_t seed;
    const struct world_part *part;
    int parts;
    bool (*fill)(const struct world_part *p, struct rng *r, struct convo *c, struct image *im,
                 struct err *e);
};

enum { WORLD_PARTS = 4 };

/* Each sample has a random stream of its own, so that a smaller set is the beginning of a larger
 * one. The lists appear after all the pictures. Prints a line per part. */
bool world_write(const struct world_set *s, struct err *e);

#endif
