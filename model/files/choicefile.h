/* choicefile.h - the choice of pairs by rank.strategy "logit" on disk (convert/logit.h): which
 * pairs each kv head keeps for each number of them, and what it loses then. Sets of different
 * numbers need not contain each other. An HDF5 file of
 *     /chosen  int32    [L, G*P, P]    row g P + n - 1: 1 for the n pairs that kv head g keeps
 *     /cost    float64  [L, G, P + 1]  with 0 .. P kept */
#ifndef MODEL_FILES_CHOICEFILE_H
#define MODEL_FILES_CHOICEFILE_H

#include "model/files/rankfile.h"

struct choicefile {
    int32_t *chosen;
    double *cost;
};

bool choicefile_new(struct choicefile *c, const struct rank_dims *n, struct err *e);
void choicefile_free(struct choicefile *c); /* fine on a zeroed struct */

bool choicefile_write(const char *path, const struct rank_dims *n, const struct choicefile *c,
                      struct err *e);
/* Into arrays made for these dims. Fails, naming the file, if it is of another model or damaged. */
bool choicefile_read(const char *path, const struct rank_dims *n, struct choicefile *c,
                     struct err *e);

#endif
