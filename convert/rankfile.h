/* rankfile.h - a ranking of RoPE pairs on disk, as HDF5:
 *     /rank    int32   [L, G, dh]    rank of each dim: a permutation of 0..dh/2-1 over the first
 * half of the head, repeated on the second half /scores  float64 [L, G, dh/2]  what the ranks were
 * made from; absent where there is nothing attributes of /: strategy (text), samples, tokens
 * (int64) Only `rank` is needed to read one, so a file can be made by hand. */
#ifndef CONVERT_RANKFILE_H
#define CONVERT_RANKFILE_H

#include "convert/rank.h"

struct rankfile_info {
    char strategy[32];       /* "" where the file does not say */
    int64_t samples, tokens; /* calibration; 0 where the file does not say */
};

/* Fills rank[L,G,dh/2]. Fails where the file is not such a file, or is for other dims, or where a
 * head is no mirrored permutation; the message names layer and head. info may be NULL. */
bool rankfile_read(const char *path, const struct rank_dims *n, int32_t *rank,
                   struct rankfile_info *info, struct err *e);

/* Writes rank[L,G,dh/2] and, where not NULL, scores[L,G,dh/2]. The file appears complete or not at
 * all. */
bool rankfile_write(const char *path, const struct rank_dims *n, const int32_t *rank,
                    const double *scores, const struct rankfile_info *info, struct err *e);

#endif
