/* cached_parts.h - shared by the two ways to attend to a cache: any number of queries
 * (cached_attention.c), and one query a sequence (cached_single.c). */
#ifndef AUTOGRAD_CACHED_PARTS_H
#define AUTOGRAD_CACHED_PARTS_H

#include "autograd/gemm.h"
#include "autograd/ops.h"
#include "autograd/row_form.h"

/* The modality of key `at`; *end is the end of its run, at most `limit`. */
enum modality cached_run(const struct cached_sequence *s, int64_t at, int64_t limit, int64_t *end);

/* What is read of a cache, and instead of the newest rows (NULL: nothing). */
struct cached_source {
    const struct tensor *cache, *fresh;
};
/* Columns [c0, c1) of keys [from, end) of a sequence as reals: the cache's own, or unpacked to
 * `tile`, whose rows are ld apart. */
struct mat cached_rows(const struct cached_attention *a, const struct cached_source *from,
                       const struct cached_sequence *s, const struct row_part *p, real *tile);

/* Whether each sequence has one query, and nobody asks what keys receive. */
bool cached_is_single(const struct cached_attention *a);
/* Reals of scratch for that many threads; the attention itself. */
int64_t cached_single_scratch(const struct cached_attention *a, int threads);
void cached_single(const struct cached_attention *a, int threads, real *scratch,
                   struct tensor *out);

#endif
