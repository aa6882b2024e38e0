/* recipes.h - sweep.recipe: conversions that one run compares. A recipe is a name and some settings
 * of rank, stage1, svd, stage2 and sweep, on top of the run's own; it has all points of its sweep.
 * The base model, the data and the pictures are everybody's. A ranking and a stage 1 are made once
 * for all recipes that have the same settings for them.
 *
 * The steps read a run's settings. Those of a recipe are taken while its points are worked on:
 *     recipes_take(&r->c, p.recipe);
 *     ... r->c.svd is the recipe's ...
 *     recipes_take(&r->c, -1);
 * Without sweep.recipe there is one recipe, number 0, which is the run itself. */
#ifndef TRAIN_RECIPES_H
#define TRAIN_RECIPES_H

#include "train/config.h"

/* Makes the recipes of loaded settings. Fails for a name that makes no directory or is there twice,
 * and for settings that all recipes share. */
bool recipes_open(struct config *c, struct err *e);

/* Frees the recipes and all else of the settings, which are zeroed. Fine on a zeroed struct. */
void recipes_close(struct config *c);

int64_t recipes_count(const struct config *c); /* at least 1 */

/* From now on the settings are the recipe's, or for -1 the run's own. Returns whose they were. */
int64_t recipes_take(struct config *c, int64_t recipe);

/* Whose they are now. */
int64_t recipes_taken(const struct config *c);

/* A recipe's settings, whole; they stay where they are unless it is taken. */
const struct config *recipes_config(const struct config *c, int64_t recipe);
/* Its phase, at a place that stays. */
const struct config_phase *recipes_phase(const struct config *c, int64_t recipe, enum step step);

/* Whether the recipe itself sets this row of the table. */
bool recipes_sets(const struct config *c, int64_t recipe, const struct schema_row *row);

/* Its name, "" without sweep.recipe; and that of the first which has the same rank and stage1. */
const char *recipes_name(const struct config *c, int64_t recipe);
const char *recipes_of_stage1(const struct config *c, int64_t recipe);

/* Adds which recipe it is to *e, if the run has several. Returns false. */
bool recipes_blame(const struct config *c, int64_t recipe, struct err *e);

/* Whether it is the first that has its ranking. */
bool recipes_ranks(const struct config *c, int64_t recipe);

#endif
