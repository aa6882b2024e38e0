/* forward.h - the model as a graph on a tape. */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "data/batch.h"
#include "model/model.h"

/* Tensors that conversion looks at, per layer, kept readable: x, the input of the k/v projections
 * [T, d], and q [T, H*dh], k [T, G*dh] before rotation (FULL only). Lists that are NULL are not
 * filled. The rope table [T, dh] (cos, then sin) is set in any case. */
struct taps {
    struct tensor **x, **q, **k; /* [L] */
    struct tensor *table;
};

struct forward {
    const struct batch *batch;
    /* Of the batch's pictures [rows of their shapes, feature width]; NULL without any. */
    struct tensor *features;
    int64_t recompute; /* how many of the first layers are made again in the backward pass */
    struct taps *taps; /* or NULL */
};

/* scale * the sum of the cross entropies of the batch's labels: [1, 1]. */
struct tensor *model_loss(struct model *m, struct tape *t, const struct forward *f, double scale);

/* Logits of the given rows [n, V], in order; all rows where rows is NULL. */
struct tensor *model_logits(struct model *m, struct tape *t, const struct forward *f,
                            const int32_t *rows, int64_t n);

/* The decoder a layer at a time, for whoever looks at one layer of many samples: what goes into the
 * first layer [T, d], and layer l of it [T, d]; both are kept. With only_taps nothing but f->taps'
 * entries l is computed, and the answer is NULL. */
struct tensor *model_embeddings(struct model *m, struct tape *t, const struct forward *f);
struct tensor *model_layer(struct model *m, struct tape *t, const struct forward *f, int64_t l,
                           struct tensor *x, bool only_taps);

/* Features of n pictures [rows of their shapes, feature width] from pixels [inputs of their shapes,
 * input width]. */
struct tensor *model_vision(struct model *m, struct tape *t, struct tensor *pixels,
                            const struct picture_shape *shapes, int64_t n);

/* The KV cache of n sequences of up to `capacity` tokens each. Per layer it holds what the state of
 * the attention needs and nothing else: the rotated keys, the unrotated keys or their latents, and
 * the values or their latents (joint: none of their own). */
struct kv_cache {
    int64_t sequences, capacity, layers;
    int64_t width[3];    /* values a token: rotated key, unrotated key, value */
    real *data[3];       /* [layers, sequences * capacity, width] */
    int64_t *length;     /* [sequences] tokens held */
    int32_t *next;       /* [sequences] the position of a token behind them */
    struct span **spans; /* [sequences] modalities of the tokens held */
    int64_t *n_spans, *cap_spans;
};
bool kv_cache_new(struct kv_cache *c, const struct model *m, int64_t sequences, int64_t capacity,
                  struct err *e);
void kv_cache_free(struct kv_cache *c); /* fine on a zeroed struct */
/* Bytes of the tokens held now, counted from the rows in use. */
size_t kv_cache_bytes(const struct kv_cache *c);

/* Appends the batch's samples to the sequences seq[s] of the cache and returns the logits of each
 * sample's last token [samples, V] (kept). The positions are the batch's; spans say
 * what is added. */
struct tensor *model_extend(struct model *m, struct tape *t, const struct forward *f,
                            struct kv_cache *c, const int64_t *seq, struct err *e);

/* The same append; returns the sum of the cross entropies of the batch's labels [1, 1], and fills
 * each [labels], the caller's, when the tape runs. */
struct tensor *model_extend_scores(struct model *m, struct tape *t, const struct forward *f,
                                   struct kv_cache *c, const int64_t *seq, struct token_score *each,
                                   struct err *e);

/* inv_freq [head_dim/2] of the config's RoPE for sequences of up to `length` tokens. */
void model_inv_freq(const struct text_config *c, int64_t length, float *inv_freq);

#endif
