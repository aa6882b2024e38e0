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

/* Bytes that the graph of the `n` longest training samples needs; with `pixels` the tower is part
 * of it. */
bool dry_activations(struct run *r, struct model *shape, int64_t n, bool pixels, size_t *bytes,
                     struct err *e);

/* Bytes that answering the longest questions of d needs: the KV cache, and the graph that fills it.
 */
bool dry_answers(struct run *r, struct model *shape, const struct dataset *d, size_t *bytes,
                 struct err *e);

#endif
