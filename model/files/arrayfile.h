/* arrayfile.h - an HDF5 file of arrays whose names and dims both sides know: what a run measures
 * once and reads at each of its points. */
#ifndef MODEL_FILES_ARRAYFILE_H
#define MODEL_FILES_ARRAYFILE_H

#include "base/err.h"

#include <stdint.h>

struct file_array {
    const char *name;
    bool real; /* double; else int32_t */
    int rank;
    int64_t dims[3];
    void *data; /* the caller's */
};

/* Writes the n arrays, atomically. */
bool arrayfile_write(const char *path, const struct file_array *a, int n, struct err *e);

/* Fills them. Fails, naming the array, if one is missing or has other dims; the caller checks
 * values and names the file. */
bool arrayfile_read(const char *path, const struct file_array *a, int n, struct err *e);

#endif
