/* forward.h - the model as a graph on a tape. */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "data/batch.h"
#include "model/cache_rotation.h"

/* Tensors that conversion needs, per layer, kept readable: x, the input of the k/v projections
 * [T, d]; q [T, H*dh], k [T, G*dh] before rotation (FULL only); the heads' output a [T, H*dh], and
 * the residual stream mid [T, d] behind o_proj (of both or of neither). NULL lists are not filled.
 * attention: what it is computed from, with q and k as rotated. The rope table [T, dh] (cos, then
 * sin) is always set. */
struct taps {
    struct tensor **x, **q, **k, **a, **mid; /* [L] */
    struct attention *attention;             /* [L] */
    struct tensor *table;
};

/* The KV cache of several sequences of up to `capacity` tokens each. Per layer it holds
 * exactly what the state of attention needs: the rotated keys, the unrotated keys or their
 * latents, and the values or their latents (joint: they have none of their own). The widths
 * are listed in kv_cache.c. */
struct kv_cache {
    const struct cache_how *how; /* borrowed; NULL: reals */
    int64_t sequences, capacity, layers;
    int64_t (*width)[CACHE_ROWS]; /* [layers] values of a token's rows (enum cache_row) */
    /* [layers + 1]: bytes of a token's rows in the layers before one; and of what each sequence
     * needs beside its rows (row_form_window) */
    int64_t (*before)[CACHE_ROWS], (*more)[CACHE_ROWS];
    char
        *data[CACHE_ROWS]; /* of each layer [sequences]: [capacity, bytes of its rows], then more */
    int64_t *length;       /* [sequences] tokens held */
    int64_t *dropped;      /* [sequences] tokens that were held and are gone */
    int32_t *next;         /* [sequences] position of the token after these */
    struct span **spans;   /* [sequences] modalities of the tokens held */
    int64_t *n_spans, *cap_spans;
    struct cache_fault fault; /* of the rows written */
    struct eviction *evict;   /* NULL: every token stays (model/evict.h) */
};
/* Of a model, held as `how` says (NULL: as reals), which must outlive it. */
bool kv_cache_new(struct kv_cache *c, const struct model *m, const struct cache_how *how,
                  int64_t sequences, int64_t capacity, struct err *e);
void kv_cache_free(struct kv_cache *c); /* fine on a zeroed struct */
/* Takes sequence s back to its first `length` tokens; `next` is the position of
 * the token after them. */
void kv_cache_rewind(struct kv_cache *c, int64_t s, int64_t length, int32_t next);
/* Copies what sequence `from` holds to sequence `to`, which is to be empty. */
bool kv_cache_fork(struct kv_cache *c, int64_t from, int64_t to, struct err *e);
/* Makes room for sequences of `capacity` tokens, keeping what is held; unchanged on failure. This,
 * kv_cache_rewind and kv_cache_fork are not for kinds of which newest rows wait (cache_kind_waits),
 * and this and kv_cache_fork not for those that tokens are taken out of. */
bool kv_cache_reserve(struct kv_cache *c, int64_t capacity, struct err *e);
/* Tokens that sequence s was given, held or not. */
static inline int64_t kv_cache_given(const struct kv_cache *c, int64_t s)
{
    return c->length[s] + c->dropped[s];
}
/* Bytes of the tokens currently held, counted from the rows in use. */
size_t kv_cache_bytes(const struct kv_cache *c);
size_t kv_cache_sequence_bytes(const struct kv_cache *c, int64_t s); /* of one sequence's */
/* False: a value was written that the cache cannot hold; *e says of which layer and token. */
bool kv_cache_check(const struct kv_cache *c, struct err *e);

struct forward {
    const struct batch *batch;
    /* of the batch's pictures [rows of their shapes, feature width]; NULL without any */
    struct tensor *features;
    int64_t recompute; /* how many of the first layers to recompute in the backward pass */
    struct taps *taps; /* or NULL */
    /* Of whole samples: a kind of cache without runs or eviction, as whose rows attention reads the
     * tokens, with straight-through gradients (op_as_cached); NULL: as they are. */
    const struct cache_how *held;
    struct cache_fault *held_fault; /* of rows that cannot be held so, as of a kv_cache; or NULL */
    /* Of model_extend: the cache, and for each sample of the batch the sequence it continues. */
    struct kv_cache *cache;
    const int64_t *seq; /* [samples] */
};

/* scale * the sum of the cross entropies of the batch's labels: [1, 1]. */
struct tensor *model_loss(struct model *m, struct tape *t, const struct forward *f, double scale);

/* The same with what is learnt from a teacher's distributions at these labels,
 * and with d->scale. */
struct tensor *model_distill(struct model *m, struct tape *t, const struct forward *f,
                             const struct distill *d);
/* Hidden states: the residual stream behind all layers but the last, [layers - 1][tokens, d]. */
struct hidden {
    const real *to;       /* the teacher's; borrowed, read when the tape runs */
    double weight, scale; /* scale: of a row and layer */
    struct distill_terms *terms;
};
/* (1 - h->weight) * model_loss + h->weight * h->scale * the sum of the distances from the teacher's
 * hidden states, of each token and layer relative to their size (op_row_distance). */
struct tensor *model_hidden_loss(struct model *m, struct tape *t, const struct forward *f,
                                 double scale, const struct hidden *h);
/* The teacher's part: fills the caller's states when the tape runs. */
void model_hidden(struct model *m, struct tape *t, const struct forward *f, real *to);

/* The teacher's part: fills the caller's lists, of the batch's labels, when the tape runs. Returns
 * the probability of what is not in them: [labels, 1]. */
struct tensor *model_top_logits(struct model *m, struct tape *t, const struct forward *f,
                                const struct top_logits *to);

/* Logits of the given rows [n, V], in order, kept; rows NULL: of all rows, and n is ignored. */
struct tensor *model_logits(struct model *m, struct tape *t, const struct forward *f,
                            const int32_t *rows, int64_t n);

/* The decoder one layer at a time, for looking at one layer of many samples: the input of the first
 * layer [T, d], and the output of layer l [T, d]; both are kept. With only_taps just f->taps'
 * entries l are computed, and NULL is returned. */
struct tensor *model_embeddings(struct model *m, struct tape *t, const struct forward *f);
struct tensor *model_layer(struct model *m, struct tape *t, const struct forward *f, int64_t l,
                           struct tensor *x, bool only_taps);

/* model_loss from the last layer's output x [T, d] on. */
struct tensor *model_head_loss(struct model *m, struct tape *t, const struct batch *b,
                               struct tensor *x, double scale);

/* Features of n pictures [sum of shapes[i].rows, feature width] from pixels [sum of
 * shapes[i].inputs, input width]; not kept. */
struct tensor *model_vision(struct model *m, struct tape *t, struct tensor *pixels,
                            const struct picture_shape *shapes, int64_t n);

/* Appends the batch's samples to the sequences f->seq of f->cache and returns the logits of each
 * sample's last token [samples, V], kept. Positions are the batch's; its spans give the modality
 * of what is added. */
struct tensor *model_extend(struct model *m, struct tape *t, const struct forward *f,
                            struct err *e);

/* The same append; returns the sum of the cross entropies of the batch's labels [1, 1], and fills
 * the caller's each [labels] when the tape runs. */
struct tensor *model_extend_scores(struct model *m, struct tape *t, const struct forward *f,
                                   struct token_score *each, struct err *e);

/* inv_freq[head_dim/2], in radians per position, of the config's RoPE for sequences of up
 * to `length` tokens. */
void model_inv_freq(const struct text_config *c, int64_t length, float *inv_freq);

#endif
