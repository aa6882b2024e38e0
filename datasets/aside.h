/* aside.h - a set of pictures and lists that is written next to the existing one and replaces it at
 * the end: a run that fails leaves the earlier set as it was. Until then, pictures go to
 * DIR/images.tmp, and lists to their .tmp.
 *     struct aside a = {0};
 *     bool ok = aside_open(&a, dir, e);
 *     ... image_write_png(&im, path of aside_picture(&a, "a.png", e), e) ...
 *     ok = ok && aside_publish(&a, lists, n, e);
 *     aside_close(&a); */
#ifndef DATASETS_ASIDE_H
#define DATASETS_ASIDE_H

#include "base/file.h"

struct aside {
    char *images, *tmp; /* DIR/images, DIR/images.tmp */
};

/* Creates both directories; removes what a killed run left in the second. */
bool aside_open(struct aside *a, const char *dir, struct err *e);

/* The path to which the picture DIR/images/NAME is written for now, in newly allocated memory. */
char *aside_picture(const struct aside *a, const char *name, struct err *e);

/* Moves the pictures to DIR/images and gives the lists their names. Everything that can fail for
 * lack of space is done before the first name changes. In between there is no list: an earlier one
 * would belong to other pictures. */
bool aside_publish(struct aside *a, struct file_out *const *lists, int n, struct err *e);

/* Removes what was written aside; fine on a zeroed struct. */
void aside_close(struct aside *a);

#endif
