/* torch_archive.h - files written by torch.save since PyTorch 1.6: a zip archive without
 * compression, of which these members matter here:
 *     NAME/data.pkl   a pickle: names, dtypes, shapes, strides, and which member has the values
 *     NAME/data/KEY   the values of one storage, row-major; tensors may share it
 *     NAME/byteorder  "little"; absent in older files, which are little-endian */
#ifndef MODEL_FILES_TORCH_ARCHIVE_H
#define MODEL_FILES_TORCH_ARCHIVE_H

#include "model/files/pickle.h"
#include "model/files/safetensors.h"
#include "model/files/zip.h"

struct torch_archive {
    struct zip zip;
    struct pickle pickle;
    struct bytes prefix; /* "NAME/" */
    size_t text;         /* bytes of the pickle */
};

/* Opens `file`, which must stay valid while *a is used. Messages do not name it. */
bool torch_archive_open(struct torch_archive *a, struct bytes file, struct err *e);
void torch_archive_close(struct torch_archive *a); /* fine on a zeroed struct */

/* What the pickle says about a tensor. */
struct torch_shape {
    enum st_dtype dtype;
    int ndim;
    int64_t dim[ST_MAX_DIMS];
    bool contiguous;  /* row-major without gaps */
    struct bytes key; /* of the storage */
    size_t at;        /* offset of the values in the storage, in bytes */
    size_t bytes;     /* size of the values */
};

/* Fills *t from a value of the pickle: torch.Tensor or torch.nn.Parameter. False if it is neither,
 * or if the numbers are inconsistent; *why says what. */
bool torch_read_shape(const struct torch_archive *a, const struct pickle_value *v,
                      struct torch_shape *t, const char **why);

/* The values of a contiguous tensor; with `checked`, the checksum of its whole storage is
 * verified. */
bool torch_values(const struct torch_archive *a, const struct torch_shape *t, bool checked,
                  struct bytes *out, struct err *e);

#endif
