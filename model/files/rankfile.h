/* rankfile.h - a ranking of RoPE pairs on disk. A rank array holds, per layer and kv head, a
 * permutation of the head's pairs (i, i + dh/2): rank 0 is the most important. Our HDF5 form:
 *     /rank    int32   [L, G, dh]    rank of each dim: a permutation of 0..dh/2-1 over the first
 *                                    half of the head, repeated in the second half
 *     /scores  float64 [L, G, dh/2]  what the ranks were made from; optional
 *     attributes of /: strategy (text), samples, tokens (int64)
 * Only `rank` is required, so a file can be made by hand. A file ending in .safetensors holds
 * `rank` as its only tensor; one ending in .pth or .pt holds it as written by torch.save
 * (model/files/torchfile.h), the form of the published rankings. */
#ifndef MODEL_FILES_RANKFILE_H
#define MODEL_FILES_RANKFILE_H

#include "base/err.h"

#include <stdint.h>

struct rank_dims {
    int64_t L, H, G, dh;
};

struct rankfile_info {
    char strategy[32];       /* "" if the file does not say */
    int64_t samples, tokens; /* of the calibration; 0 if the file does not say */
};

/* Fills rank[L,G,dh/2]. Fails if the file is not a rank file, is for other dims, or has a head that
 * is not a mirrored permutation; the message names layer and head. info may be NULL. */
bool rankfile_read(const char *path, const struct rank_dims *n, int32_t *rank,
                   struct rankfile_info *info, struct err *e);

/* Writes rank[L,G,dh/2] and, unless NULL, scores[L,G,dh/2], as HDF5, atomically. */
bool rankfile_write(const char *path, const struct rank_dims *n, const int32_t *rank,
                    const double *scores, const struct rankfile_info *info, struct err *e);

/* kept[L,G,rope_dim/2]: the pairs with rank < rope_dim/2, ascending. */
void rank_select(int32_t *kept, const int32_t *rank, const struct rank_dims *n, int64_t rope_dim);

/* Writes a ranking that selects kept[L,G,rope_dim/2] at this rope_dim, as torch.save would: the
 * form that the published code reads. The kept pairs rank in their order, then the others. */
bool rankfile_write_kept(const char *path, const struct rank_dims *n, const int32_t *kept,
                         int64_t rope_dim, struct err *e);

#endif
