/* moments.h - second moments of activations per modality: S_text = sum x x^T over the text tokens,
 * S_image over the image tokens (docs/method.md, section 3). x is the input of the k/v projection,
 * or, if W has fewer rows than columns, y = W x itself (without bias): the sum of y y^T is W S W^T,
 * which is all that mdsvd_factor needs (mdsvd_in.m), and is far smaller for GQA.
 *
 * Precision: rows are gathered in blocks of 256, a block's x x^T is an fp32 matrix product, and the
 * blocks are summed in double. The fp32 products within a block cost a relative error of at worst
 * about 1e-6 of sum |x_i x_j| (256 roundings of 6e-8, which mostly cancel), and it does not grow
 * with the number of tokens, whereas an fp32 sum over a million tokens would lose half its digits.
 * This takes half the time of products in double. */
#ifndef CONVERT_MOMENTS_H
#define CONVERT_MOMENTS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { MOMENTS_TEXT, MOMENTS_IMAGE };

struct moments {
    int64_t d, extra;
    int sets;
    /* [d,d] per modality, the LOWER triangle (column <= row); the rest stays 0. Below it [extra,d],
     * whole. */
    double *s[2];
    int64_t tokens[2], samples;
    float *block[2]; /* [256, d + extra]: rows of the block being filled */
    int64_t waiting[2];
    int threads;
    float *gram;  /* [threads, 128, d] */
    bool borrows; /* gram is another's */
};

/* Takes 16 d^2 + (2048 + 512 threads) d bytes (310 MB for d = 4096, 16 threads). On
 * failure *m is zeroed. */
bool moments_init(struct moments *m, int64_t d, struct err *e);

/* For rows [x, y] of d + extra values, all of one modality: besides the moments of x the products
 * of y with it, sum y x^T, in s[0] below them; and the bytes that this takes. */
bool moments_init_cross(struct moments *m, int64_t d, int64_t extra, struct err *e);
size_t moments_cross_bytes(int64_t d, int64_t extra);
/* As another one, in whose gram it works, one of them at a time; the other must outlive it. */
bool moments_init_like(struct moments *m, const struct moments *other, struct err *e);
void moments_free(struct moments *m); /* fine on a zeroed struct */

/* Adds rows x[T, d + extra] of `samples` samples; modality[T] is 0 (text) or 1 (image), or NULL:
 * all are text. */
void moments_add(struct moments *m, const float *x, const uint8_t *modality, int64_t T,
                 int64_t samples);

/* Moves pending rows into s. Must be called before s is read; more rows may be added afterwards.
 * Fails if the sums are not finite. Afterwards processes can add up s, tokens and samples. */
bool moments_finish(struct moments *m, struct err *e);

/* The published code's scale, 1 / (tokens of that modality * samples); 0 if there were none. */
double moments_scale(const struct moments *m, int modality);

/* For factors shared by both modalities: adds the image moments to the text moments and counts
 * all tokens as text. */
void moments_merge(struct moments *m);

#endif
