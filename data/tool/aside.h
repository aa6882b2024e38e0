/* aside.h - a set of pictures and lists that is written beside the one that is there, and takes its
 * place at the end: a run that fails leaves the set before it as it was. Pictures go to
 * DIR/images.tmp until then, lists to their .tmp.
 *     struct aside a = {0};
 *     bool ok = aside_open(&a, dir, e);
 *     ... image_write_png(&im, path of aside_picture(&a, "a.png", e), e) ...
 *     ok = ok && aside_publish(&a, lists, n, e);
 *     aside_close(&a); */
#ifndef DATA_TOOL_ASIDE_H
#define DATA_TOOL_ASIDE_H

#include "base/file.h"

struct aside {
    char *images, *tmp; /* DIR/images, DIR/images.tmp */
};

/* Makes both directories; what a run that was killed left of the second goes. */
bool aside_open(struct aside *a, const char *dir, struct err *e);

/* Where the picture DIR/images/NAME is written to for now; in new memory. */
char *aside_picture(const struct aside *a, const char *name, struct err *e);

/* Moves the pictures to DIR/images and the lists under their names. Whatever can fail for want of
 * room has been done before the first name changes. In between there is no list: one from before
 * would go with other pictures. */
bool aside_publish(struct aside *a, struct file_out *const *lists, int n, struct err *e);

/* Removes what is aside; fine on a zeroed struct. */
void aside_close(struct aside *a);

#endif
