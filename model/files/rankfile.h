/* rankfile.h - a ranking of RoPE pairs on disk. A rank array holds, per layer and kv head, a
 * permutation of the pairs (i, i + dh/2) of a head: 0 is the most important. As HDF5, ours:
 *     /rank    int32   [L, G, dh]    rank of each dim: a permutation of 0..dh/2-1 over the first
 *                                    half of the head, repeated on the second half
 *     /scores  float64 [L, G, dh/2]  what the ranks were made from; absent where there is nothing
 *     attributes of /: strategy (text), samples, tokens (int64)
 * Only `rank` is needed to read one, so a file can be made by hand. A file that ends in
 * .safetensors holds `rank` as its only tensor, one that ends in .pth or .pt holds it as torch.save
 * writes it (model/files/torchfile.h): the form of the published rankings. */
#ifndef MODEL_FILES_RANKFILE_H
#define MODEL_FILES_RANKFILE_H

#include "base/err.h"

#include <stdint.h>

struct rank_dims {
    int64_t L, H, G, dh;
};

struct rankfile_info {
    char strategy[32];       /* "" where the file does not say */
    int64_t samples, tokens; /* calibration; 0 where the file does not say */
};

/* Fills rank[L,G,dh/2]. Fails where the file is not such a file, or is for other dims, or where a
 * head is no mirrored permutation; the message names layer and head. info may be NULL. */
bool rankfile_read(const char *path, const struct rank_dims *n, int32_t *rank,
                   struct rankfile_info *info, struct err *e);

/* Writes rank[L,G,dh/2] and, where not NULL, scores[L,G,dh/2], as HDF5. The file appears complete
 * or not at all. */
bool rankfile_write(const char *path, const struct rank_dims *n, const int32_t *rank,
                    const double *scores, const struct rankfile_info *info, struct err *e);

/* kept[L,G,rope_dim/2]: the pairs with rank < rope_dim/2, ascending. */
void rank_select(int32_t *kept, const int32_t *rank, const struct rank_dims *n, int64_t rope_dim);

/* Writes a ranking that selects kept[L,G,rope_dim/2] at this rope_dim, as torch.save would: what
 * the published code reads. The pairs kept rank by their order, then the others. */
bool rankfile_write_kept(const char *path, const struct rank_dims *n, const int32_t *kept,
                         int64_t rope_dim, struct err *e);

#endif
