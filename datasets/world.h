/* world.h - shared by the drawn and the composited world: a 2 x 2 grid of places, questions by
 * kind, and writing a set's parts (train, test, ...) as pictures and LLaVA JSON. */
#ifndef DATASETS_WORLD_H
#define DATASETS_WORLD_H

#include "data/picture/image.h"
#include "datasets/convo.h"

/* Cells in reading order: 0 top left, 1 top right, 2 bottom left, 3 bottom right. Bit 0 is the
 * column, bit 1 the row. */
enum { CELLS = 4 };
extern const char *const world_places[CELLS], *const world_numbers[CELLS + 1];

/* How often a question is redrawn to fit the picture and the chosen answer. */
enum { WORLD_TRIES = 64 };

int world_pick(struct rng *r, int n); /* 0..n-1 */

/* Where `other` is, seen from its neighbour `cell`: "above", "to the left of", ... */
const char *world_side(int cell, int other);

/* Sets t->answer: "a red circle at the top left and a blue ring at the top right"; thing[c] is NULL
 * for an empty cell. */
void world_describe(const char *const thing[CELLS], struct turn *t);

/* One kind of question. ask() turns a scene into a question with its one right answer; false if the
 * scene allows none (then *t is undefined). */
struct world_kind {
    const char *name;
    int share; /* frequency relative to the others */
    bool (*ask)(const void *scene, struct rng *r, struct turn *t);
};

/* What a sample's questions are about: a scene per picture. */
struct world_view {
    const void *scene[CONVO_PICTURES];
    int scenes;
};

/* Asks up to `turns` questions of different kinds; c->turns is the number asked, 0 if no kind
 * fitted. Where there are several scenes, each question says which it means. */
void world_ask(struct convo *c, int turns, const struct world_kind *kinds, int count,
               const struct world_view *v, struct rng *r);

/* One list of samples: DIR/NAME.json. A test part has one question per sample, and its kind after a
 * '#' at the end of the id. */
struct world_part {
    const char *name;
    int64_t samples;
    bool test;
    const void *pool; /* for fill() */
};

/* fill() makes one sample: c's turns, c->marker_last, and the pictures, CONVO_PICTURES at most; the
 * rest stay zeroed. */
struct world_set {
    const char *dir;
    uint64_t seed;
    const struct world_part *part;
    int parts;
    bool (*fill)(const struct world_part *p, struct rng *r, struct convo *c, struct image *im,
                 struct err *e);
};

enum { WORLD_PARTS = 4 };

/* Each sample has its own random stream, so that a smaller set is a prefix of a larger one. The
 * lists appear after all the pictures. Prints a line per part. */
bool world_write(const struct world_set *s, struct err *e);

#endif
