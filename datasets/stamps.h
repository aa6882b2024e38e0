/* stamps.h - cut-out pictures (RGBA) with plain names and groups, from a list of pairs:
 *     image <tab> split <tab> style <tab> category <tab> caption <tab> keyword;keyword;...
 * as written by data/fetch-real-data.sh. */
#ifndef DATASETS_STAMPS_H
#define DATASETS_STAMPS_H

#include "data/picture/image.h"

#include <stddef.h>
#include <stdint.h>

/* A way to ask about a picture without its name. A picture is in a group if its category is the
 * group's and, if the group has a keyword, one of its keywords starts with that. */
struct stamp_group {
    const char *category, *keyword;
    const char *one, *many; /* "a fruit", "fruits" */
    bool sort;              /* answers "What sort of thing is ...?": at most one per picture */
};
enum { STAMP_GROUPS = 13 };
extern const struct stamp_group stamp_groups[STAMP_GROUPS];

struct stamp {
    char *path;
    char name[32], article[4]; /* "frog", "a" */
    uint32_t groups;           /* bit g: in stamp_groups[g] */
    int8_t sort, finest;       /* the group that gives its sort; the last group it is in */
    bool held_out;             /* not in split "train" */
    bool named;                /* one of the names trained on */
    struct image image;        /* RGBA, cropped to what is visible; zeroed until loaded */
};

struct stamp_list {
    struct stamp *stamp;
    size_t count, cap;
};

/* Reads a list of pairs and keeps the pictures that have a plain name and a sort. A plain name is a
 * caption of "A", "An" or no article and one or two lower-case words. Paths are relative to `root`.
 * The pictures are not loaded yet. */
bool stamps_read(struct stamp_list *l, const char *pairs, const char *root, struct err *e);

/* Sets `named` on the pictures of at most `names` names: the shortest ones, taken from each group
 * in turn, so that no sort outweighs the others. Returns the number of names. */
int64_t stamps_choose(struct stamp_list *l, int64_t names);

/* Loads every picture, at most `longest` pixels per side, and removes from the list those that are
 * not cut-outs: without alpha, or with nothing visible. A file that cannot be read is an error. */
bool stamps_load(struct stamp_list *l, int64_t longest, struct err *e);

/* A copy whose longer side has `longest` pixels; the caller frees it. */
bool stamp_fit(const struct image *im, int64_t longest, struct image *fit, struct err *e);

void stamps_free(struct stamp_list *l); /* fine on a zeroed list */

#endif
