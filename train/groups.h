/* groups.h - sets whose metric counts samples together: whether their groups are whole. */
#ifndef TRAIN_GROUPS_H
#define TRAIN_GROUPS_H

#include "data/dataset.h"

/* Refuses a set of which "limit" or what is missing leaves a group that cannot be counted, and
 * says what else is not whole. A set of another metric, or that is not asked, is fine. */
bool groups_check(const struct dataset *d, const char *name, struct err *e);

#endif
