/* picture_group.h - pictures that are decoded together, and the tower's features of one. */
#ifndef TRAIN_PICTURE_GROUP_H
#define TRAIN_PICTURE_GROUP_H

#include "train/run.h"

/* Pictures of one set, and their pixels, back to back. */
struct picture_group {
    int64_t n, image[PICTURE_GROUP]; /* indices into the set's images */
    struct picture_shape shape[PICTURE_GROUP];
    int64_t inputs, width;
    float *pixels; /* [inputs, width]; the caller frees it */
    size_t cap;
};

void picture_group_add(struct picture_group *g, const struct dataset *d, int64_t image);
bool picture_group_is_full(const struct picture_group *g);

/* Decodes the pictures into g->pixels and checks that they are those of their keys. Bad ones are
 * marked and leave the group. */
bool picture_group_decode(struct run *r, struct dataset *d, struct picture_group *g, struct err *e);

/* The tower's features [shape->rows, feature width] of one picture's pixels [shape->inputs, input
 * width], in the tape's memory; NULL on failure. Each goes through the tower by itself: how a
 * matrix product rounds a row may depend on the number of rows, and features must not depend on
 * which other pictures are computed with them. */
const float *picture_features(struct tape *t, struct model *m, const struct picture_shape *shape,
                              float *pixels, size_t limit, struct err *e);

/* Marks an unreadable picture as bad, and logs it. If the machine is at fault the run ends instead:
 * the training data must not depend on that. */
bool picture_leave_out(struct dataset_image *img, const struct err *why, struct err *e);

#endif
