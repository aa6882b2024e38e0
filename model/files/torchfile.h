/* torchfile.h - one [a,b,c] tensor of integers as written by torch.save (format: torch_archive.h):
 * the form of the published code's rankings. */
#ifndef MODEL_FILES_TORCHFILE_H
#define MODEL_FILES_TORCHFILE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct torch_tensor {
    int64_t dim[3];
    int64_t *values; /* the caller frees it */
};

/* Fails if the file is something else, is damaged (members have checksums), or has more than `most`
 * values; then *t is zeroed. The message does not name the file. */
bool torchfile_read(struct torch_tensor *t, const char *path, size_t most, struct err *e);

/* Writes such a file, atomically. */
bool torchfile_write(const char *path, const int16_t *values, const int64_t dim[3], struct err *e);

#endif
