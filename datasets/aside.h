/* aside.h - a set of pictures and lists that is written next to the existing one and replaces it at
 * the end: a run that fails leaves the earlier set as it was. Until then, pictures go to
 * DIR/.mha2mla-data/images, and lists to their .tmp. The directory is locked, and files in it that
 * are not this tool's are not replaced (own.h).
 *     struct aside a = {0};
 *     bool ok = aside_open(&a, dir, e) && aside_list(&a, "train.json", e);
 *     ... image_write_png(&im, path of aside_picture(&a, "a.png", e), e) ...
 *     ok = ok && aside_publish(&a, lists, n, e);
 *     aside_close(&a); */
#ifndef DATASETS_ASIDE_H
#define DATASETS_ASIDE_H

#include "base/file.h"
#include "datasets/own.h"

struct aside {
    struct own own;
    char *images, *tmp; /* DIR/images, DIR/.mha2mla-data/images */
    bool made;          /* the first was not there before */
};

/* Locks DIR and creates the second directory; removes what a killed run left in it. */
bool aside_open(struct aside *a, const char *dir, struct err *e);

/* Whether the list DIR/NAME may be written: call before the work begins. */
bool aside_list(struct aside *a, const char *name, struct err *e);

/* The path to which the picture DIR/images/NAME is written for now, in newly allocated memory. */
char *aside_picture(const struct aside *a, const char *name, struct err *e);

/* Moves the pictures to DIR/images and gives the lists their names. Everything that can fail for
 * lack of space is done before the first name changes. In between there is no list: an earlier one
 * would belong to other pictures. */
bool aside_publish(struct aside *a, struct file_out *const *lists, int n, struct err *e);

/* Removes what was written aside; fine on a zeroed struct. */
void aside_close(struct aside *a);

#endif
