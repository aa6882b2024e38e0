/* torchfile.h - one [a,b,c] tensor of integers as torch.save writes it (torch_archive.h has the
 * form): the form of the published code's rankings. */
#ifndef MODEL_FILES_TORCHFILE_H
#define MODEL_FILES_TORCHFILE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct torch_tensor {
    int64_t dim[3];
    int64_t *values; /* the caller frees it */
};

/* Fails where the file is something else, is damaged (the members carry checksums), or has more
 * than `most` values; *t is zeroed then. The message does not name the file. */
bool torchfile_read(struct torch_tensor *t, const char *path, size_t most, struct err *e);

/* Writes such a file, complete or not at all. */
bool torchfile_write(const char *path, const int16_t *values, const int64_t dim[3], struct err *e);

#endif
