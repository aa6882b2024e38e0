/* dryrun_parts.h - internal to the dry run: samples, and models that have shapes but no memory. */
#ifndef TRAIN_FORECAST_DRYRUN_PARTS_H
#define TRAIN_FORECAST_DRYRUN_PARTS_H

#include "train/run.h"

/* Prints a line "==== TITLE" that opens a section. */
void dry_title(const char *title);

/* Shows the first `count` training samples, token by token. */
bool dry_samples(const struct run *r, int64_t count, struct err *e);

/* The state of a model for which a training or a cache is forecast. */
struct dry_state {
    enum attn_state state;
    int64_t rope_dim, latent;
    enum kv_method method;
    bool decoupled;
};

/* The model that m becomes in that state: every parameter with its shape, none with values, those
 * of `kinds` trained; for counting and for planning graphs. It borrows m. */
bool dry_model(struct model *shape, const struct model *m, const struct dry_state *s,
               unsigned kinds, struct err *e);
void dry_model_free(struct model *shape);

/* Bytes of the graph of the `n` longest training samples (where there are fewer, they come again, as
 * in the training), and how many of its layers are recomputed so that it stays within `room`; with
 * `pixels` the tower is part of it. */
struct dry_graph {
    int64_t n;
    bool pixels;
    size_t room;
};
bool dry_activations(struct run *r, struct model *shape, const struct dry_graph *g, size_t *bytes,
                     int64_t *recomputed, struct err *e);

/* Bytes of the graph that scores d's longest samples, and of the KV cache that it fills. */
bool dry_answers(struct run *r, struct model *shape, const struct dataset *d, size_t *graph,
                 size_t *cache, struct err *e);

/* Bytes of the graph that takes the longest calibration samples through one layer
 * (looks: layerwise.h); *tokens: the tokens in it. */
bool dry_layer(struct run *r, struct model *shape, unsigned looks, size_t *bytes, int64_t *tokens,
               struct err *e);

/* Bytes of the graph that computes the features of one picture. */
size_t dry_picture(struct run *r, struct model *shape, const struct picture_shape *picture);

#endif
