/* ranking.h - the step that ranks the RoPE pairs, and rankings read back. */
#ifndef TRAIN_RANKING_H
#define TRAIN_RANKING_H

#include "convert/rank.h"
#include "train/run.h"

/* The file of the ranking below the run's directory, or of the basis: of the recipe that is taken,
 * or RANKS_PATH, BASIS_PATH (train/basis.h). */
#define RANKS_PATH "rank/rank.h5"
const char *ranks_path(const struct config *c);

/* The ranking of the base model's pairs, or the basis of its keys, into that file, where one is
 * measured: of every recipe. */
bool step_rank(struct run *r, struct err *e);

/* Whether rank.file, if the ranking comes from it, fits m. */
bool rank_check_given(const struct run *r, const struct model *m, struct err *e);

/* Ranks [L, G, dh/2]: new memory for them; read from rank.file; read as measured before, from
 * `path`. */
int32_t *ranks_new(const struct rank_dims *n, struct err *e);
bool ranks_read_given(const struct run *r, const struct rank_dims *n, int32_t *rank, struct err *e);
bool ranks_read_measured(const struct run *r, const char *path, const struct rank_dims *n,
                         int32_t *rank, struct err *e);

/* Whether the ranking, or the basis, is measured from calibration samples. */
bool rank_is_measured(const struct config *c);

/* A batch's angles as rank.h takes them, and one of its samples in a layer. */
struct rank_table {
    float *cs; /* [2, T, P]: cos, then sin */
    size_t cap;
};
struct layer_look;
bool rank_table_fill(struct rank_table *k, const struct tensor *table, struct err *e);
void rank_table_free(struct rank_table *k);
struct rank_sample rank_sample_of(const struct layer_look *look, const struct rank_table *table,
                                  const struct rank_dims *n, double scale, int64_t s);

#endif
