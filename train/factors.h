/* factors.h - MD-SVD factors, made once for all points of a sweep that keep the same pairs rotated.
 * The components of a smaller latent are the first ones of a larger one, so that the factors are
 * made for the largest latent, and each point uses as many as it has. With svd.statistics "blocks"
 * they are not (convert/blocks.h): the statistics are gathered once, and give
 * factors for each point. */
#ifndef TRAIN_FACTORS_H
#define TRAIN_FACTORS_H

#include "convert/mdsvd.h"
#include "convert/mdsvd_plan.h"
#include "train/run.h"

struct layer_factors {
    struct mdsvd_out out[MODALITIES][2]; /* by part of the plan */
};
/* How a layer's inputs are narrowed: how many there are, how many are kept (0: all, as struct
 * kv_how has it), and the latents of the widest point. */
struct factors_narrow {
    int64_t inputs, kept, latents;
};
struct made_factors {
    int64_t layers;
    int sets; /* MODALITIES, or 1 if they share their factors */
    enum kv_method method;
    int64_t groups; /* kv heads */
    bool by_point;  /* each point has its own */
    struct factors_narrow narrow;
    int64_t *latents; /* [layers]: of the next point's layers (train/ranks.h); NULL: all alike */
    int64_t
        points; /* that have widths of their own; behind these the same ones widened, if `uneven` */
    int64_t dividing; /* of these: the one that train/ranks.c divides */
    int64_t widths;
    struct factor_width {
        double low_rank;
        struct mdsvd_plan plan;
        int64_t *latents;        /* [layers]: each layer's, in place of the plan's; NULL: those */
    } * width;                   /* of the point with the largest latent, or of each */
    struct layer_factors *layer; /* [layers, widths] */
};

/* The latent dims of a point for a model with m's settings, and the parts to factor; fails if the
 * point is impossible. */
bool point_plan(const struct run *r, const struct model *m, const struct point *p, int64_t *latent,
                struct mdsvd_plan *plan, struct err *e);

/* The point with the largest latent of those that share p's rotated pairs. */
struct point factors_widest(const struct run *r, const struct point *p);

/* The points, which share their rotated pairs, that factors are made for, and the number of
 * calibration samples. room: bytes for the sums of svd.statistics "blocks"; where a layer's take
 * more, its inputs are narrowed (convert/kv_stats.h). 0: FACTORS_ROOM. It does not depend on the
 * machine, so that results do not. */
struct factors_for {
    struct point *point; /* [n] */
    int64_t n, samples;
    double room;
    bool uneven; /* layers may get latents of up to one and a half times the point's (svd.ranks) */
    int64_t **latents; /* [n], not its own: each layer's of a point, or NULL; NULL: not divided */
};
#define FACTORS_ROOM 2147483648.0

/* All of the sweep that share p's pairs (`alone`: p alone, if each has factors of its own), in new
 * memory, which the caller frees. */
bool factors_points(const struct run *r, const struct point *p, bool alone,
                    struct factors_for *what, struct err *e);

/* Bytes that these points need, in addition to the partial model m, with graphs of `tokens` tokens.
 * made: the peak while factors are made, without the graphs; copied: while they are copied into a
 * point's model. */
struct factors_size {
    double made, copied;
    struct factors_narrow narrow;
};
bool factors_size(struct factors_size *s, const struct run *r, const struct model *m,
                  const struct factors_for *what, int64_t tokens, struct err *e);

/* What narrowing means for the choice of svd.statistics, in out[]. */
enum { FACTORS_NARROW_TEXT = 200 };
const char *factors_say_narrow(const struct factors_narrow *n, char out[FACTORS_NARROW_TEXT]);

/* Makes the factors for the points, from their partial model m; runs the calibration. base: the
 * original, where m has only been split up: attention is its; or NULL, if stage 1 has trained m.
 * Where tokens count alike, it is not looked at. */
bool factors_make(struct made_factors *f, struct run *r, struct model *m, struct model *base,
                  const struct factors_for *what, struct err *e);
void factors_free(struct made_factors *f); /* fine on a zeroed struct */

/* Turns the partial model m into the point's MLA model. With `last`, for the last point that needs
 * f, each layer's factors are freed as soon as the model has its copy. */
bool factors_apply(struct made_factors *f, const struct run *r, const struct point *p, bool last,
                   struct model *m, struct err *e);

#endif
