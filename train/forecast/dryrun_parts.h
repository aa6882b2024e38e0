/* dryrun_parts.h - internal to the dry run: samples, and the graphs of outlined models. */
#ifndef TRAIN_FORECAST_DRYRUN_PARTS_H
#define TRAIN_FORECAST_DRYRUN_PARTS_H

#include "model/outline.h"
#include "train/run.h"

/* Shows the first `count` training samples, token by token. */
bool dry_samples(const struct run *r, int64_t count, struct err *e);

/* Bytes of the graph of the `n` longest training samples (repeated if there are fewer, as in
 * training), and how many of its layers are recomputed to stay within `room`; with `pixels` the
 * tower is part of it. `teacher`: the phase that has one; NULL: none. */
struct dry_graph {
    int64_t n;
    bool pixels;
    const struct config_phase *teacher;
    size_t room;
};
/* And its products, recomputed layers' among them, for each of its tokens. */
struct dry_cost {
    size_t bytes;
    double flop;
};
bool dry_activations(struct run *r, struct model *shape, const struct dry_graph *g,
                     struct dry_cost *c, int64_t *recomputed, struct err *e);

/* The teacher's graph of the same samples (teacher.h). */
bool dry_teacher(struct run *r, struct model *shape, const struct dry_graph *g, struct dry_cost *c,
                 struct err *e);

/* Bytes of the graph that scores the largest batch of a set (train/score/batches.h), and the most
 * tokens that the KV cache of one has room for: at most, for what samples
 * share is computed once. */
bool dry_answers(struct run *r, struct model *shape, const struct eval_set *set, size_t *graph,
                 int64_t *cached, struct err *e);

/* Bytes of the graph that takes the longest calibration samples through one layer
 * (looks: layerwise.h); *tokens: the tokens in it. */
bool dry_layer(struct run *r, struct model *shape, unsigned looks, size_t *bytes, int64_t *tokens,
               struct err *e);

/* Bytes of the graph that computes the features of one picture. */
size_t dry_picture(struct run *r, struct model *shape, const struct picture_shape *picture);

#endif
