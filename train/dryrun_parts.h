/* dryrun_parts.h - inside the dry run: the samples, and models that have shapes but no memory. */
#ifndef TRAIN_DRYRUN_PARTS_H
#define TRAIN_DRYRUN_PARTS_H

#include "train/run.h"

/* A line of "==== TITLE" that opens a section. */
void dry_title(const char *title);

/* The first `count` training samples, token by token. */
bool dry_samples(const struct run *r, int64_t count, struct err *e);

/* What a training or a cache is computed for. */
struct dry_state {
    enum attn_state state;
    int64_t rope_dim, latent;
    enum kv_method method;
    bool decoupled;
};

/* The model that m becomes in that state: every parameter with its shape, none with values, those
 * of `kinds` trained; made to be counted and to plan graphs with. It borrows m. */
bool dry_model(struct model *shape, const struct model *m, const struct dry_state *s,
               unsigned kinds, struct err *e);
void dry_model_free(struct model *shape);

/* Bytes that the graph of the `n` longest training samples needs (where there are fewer, they come
 * again, as in the training), and how many layers of it are
 * recomputed so that it stays within `room`; with `pixels` the tower is part of it. */
struct dry_graph {
    int64_t n;
    bool pixels;
    size_t room;
};
bool dry_activations(struct run *r, struct model *shape, const struct dry_graph *g, size_t *bytes,
                     int64_t *recomputed, struct err *e);

/* Bytes of the graph that answers the longest questions of d, and of the KV cache it fills. */
bool dry_answers(struct run *r, struct model *shape, const struct dataset *d, size_t *graph,
                 size_t *cache, struct err *e);

/* Bytes of the graph that takes calibration samples through one layer (looks: layerwise.h), for the
 * longest ones; *tokens: as many as are in it. */
bool dry_layer(struct run *r, struct model *shape, unsigned looks, size_t *bytes, int64_t *tokens,
               struct err *e);

/* Bytes of the graph that makes the features of n pictures. */
size_t dry_pictures(struct run *r, struct model *shape, int64_t n);

#endif
