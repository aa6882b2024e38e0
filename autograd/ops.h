/* ops.h - the operations of the model. Each checks shapes (a mismatch is our bug: it aborts),
 * records a node on the tape and returns its output; the file named before each has forward and
 * backward side by side. Index lists are borrowed until the next tape_begin. T = tokens of the flat
 * stream: samples lie back to back, without padding.
 *
 * oplist.c has every op once; tests/test_gradients.c walks it. */
#ifndef AUTOGRAD_OPS_H
#define AUTOGRAD_OPS_H

#include "autograd/tape.h"
#include "base/modality.h"

/* The i-th op of the list; NULL behind the last. */
const struct op *op_at(int i);

/* linear.c: y[T,O] = x[T,I] w[O,I]^T + b[1,O] + residual[T,O]; b and residual may be NULL. */
struct tensor *op_linear(struct tape *t, struct tensor *x, struct tensor *w, struct tensor *b,
                         struct tensor *residual);

/* modal_linear.c: as op_linear, with the weight and bias of each row's modality. w[m] [O,I]; b[m]
 * may be NULL. The spans cover every row once, in order. For a modality without rows w[m] may be
 * NULL, and its gradient is left alone. */
struct tensor *op_modal_linear(struct tape *t, struct tensor *x, struct tensor *const w[MODALITIES],
                               struct tensor *const b[MODALITIES], const struct span *spans,
                               int64_t n_spans);

/* head_linear.c: for each head h: y_h = x_h w_g (or x_h w_g^T if `trans`), g = h / (heads/groups).
 *     not transposed: x [T, heads*a], w [groups*a, b]: y [T, heads*b]
 *     transposed:     x [T, heads*a], w [groups*b, a]: y [T, heads*b]
 * This is how up_k and up_v are absorbed. x may be a column range starting at column x_col. */
struct tensor *op_head_linear(struct tape *t, struct tensor *x, int64_t x_col, struct tensor *w,
                              int64_t heads, int64_t groups, bool trans);

/* patch_embed.c: a convolution with kernel and stride p: pixels [N, C*S*S] (channel, y, x), w
 * [d, C*p*p], b [1,d] or NULL: y [N*(S/p)^2, d], patches in row order. */
struct tensor *op_patch_embed(struct tape *t, struct tensor *pixels, struct tensor *w,
                              struct tensor *b, int64_t channels, int64_t size, int64_t patch);

/* rows.c: y[i] = w[ids[i]]: w [V,d] of any dtype. Row `pad` gets no gradient (-1: all rows do). */
struct tensor *op_embedding(struct tape *t, struct tensor *w, const int32_t *ids, int64_t n,
                            int64_t pad);
/* rows.c: y[i] = index[i] >= 0 ? a[index[i]] : b[-index[i] - 1]; b may be NULL. */
struct tensor *op_select_rows(struct tape *t, struct tensor *a, struct tensor *b,
                              const int32_t *index, int64_t n);
/* rows.c: y [T, A+B] = a [T,A] next to b [T,B]. */
struct tensor *op_join(struct tape *t, struct tensor *a, struct tensor *b);
/* rows.c: y = a + b; b is repeated for every b->rows rows of a. */
struct tensor *op_add(struct tape *t, struct tensor *a, struct tensor *b);

/* norm.c: y = x / sqrt(mean(x^2) + eps) * w. */
struct tensor *op_rmsnorm(struct tape *t, struct tensor *x, struct tensor *w, double eps);
/* norm.c: y = (x - mean) / sqrt(var + eps) * w + b. */
struct tensor *op_layernorm(struct tape *t, struct tensor *x, struct tensor *w, struct tensor *b,
                            double eps);

/* rope.c: cos and sin of position * inv_freq, times `scale`: out [n, 2*pairs], cos then sin.
 * positions [axes][n]; axis[p] is the axis that pair p follows (NULL: the first). inv_freq
 * [sets][pairs]; set[i] is the set that row i uses (NULL: the first). */
struct rope_table {
    const int32_t *positions;
    int64_t n;
    const float *inv_freq;
    const int32_t *set;
    int64_t pairs;
    const uint8_t *axis;
    double scale;
};
struct tensor *op_rope_table(struct tape *t, const struct rope_table *r);
/* rope.c: rotates the columns [col, col + heads*2*kept) of x in place: pair j of head
 * h is its columns (j, j + kept), and turns by the angle of pair index[h*kept + j] of
 * the table (NULL: j). */
struct tensor *op_rope(struct tape *t, struct tensor *x, struct tensor *table, int64_t col,
                       int64_t heads, int64_t kept, const int32_t *index);

/* attention.c: softmax(q k^T scale) v per sample and head, without ever storing all of q k^T. A
 * head's query and key consist of up to two parts (rotated and not), which are column ranges of
 * tensors: part p of head h is columns [q_col + h*width, +width) of q; of kv head g columns
 * [k_col + g*width, +width) of k. v: columns [g*v_width, +v_width). Output
 * [q rows, heads*v_width]. */
struct attention_part {
    struct tensor *q, *k; /* q may be the same tensor in both parts */
    int64_t q_col, k_col, width;
};
/* Queries [q_begin, q_end) see the keys [k_begin, k_end); if causal, query i sees the keys up to
 * and including k_begin + q_index[i] (q_index NULL: i - q_begin). */
struct attention_sample {
    int64_t q_begin, q_end, k_begin, k_end;
};
struct attention {
    struct attention_part part[2];
    int parts;
    struct tensor *v;
    int64_t heads, groups, v_width;
    const struct attention_sample *samples;
    int64_t n_samples;
    const int32_t *q_index;
    bool causal;
    double scale;
};
struct tensor *op_attention(struct tape *t, const struct attention *a);

/* rows.c: joins every `n` consecutive rows of x [R, C] into one: [R/n, n*C]. */
struct tensor *op_group_rows(struct tape *t, struct tensor *x, int64_t n);

/* rows.c: each row of x [R, C] n times side by side: [R, n*C]. */
struct tensor *op_repeat(struct tape *t, struct tensor *x, int64_t n);

/* activation.c: y = silu(gate) * up. */
struct tensor *op_swiglu(struct tape *t, struct tensor *gate, struct tensor *up);
enum activation { ACT_GELU, ACT_GELU_TANH, ACT_QUICK_GELU, ACT_SILU, ACT_RELU };
struct tensor *op_activation(struct tape *t, struct tensor *x, enum activation kind);

/* cross_entropy.c: scale * sum over rows i of -log softmax(h[i] w^T)[labels[i]]: [1,1]. h [rows, d]
 * holds only the rows that have a label, w [V,d]. Logits exist for a few rows at a time only. */
struct tensor *op_cross_entropy(struct tape *t, struct tensor *h, struct tensor *w,
                                const int32_t *labels, double scale);

/* The same with scale 1, for scoring: fills the caller's each [rows] when the tape runs forward. */
struct token_score {
    double loss; /* -log softmax */
    bool right;  /* no token is likelier than the label */
};
struct tensor *op_token_scores(struct tape *t, struct tensor *h, struct tensor *w,
                               const int32_t *labels, struct token_score *each);

/* top_logits.c, inference: what is kept of each row's distribution softmax(h[i] w^T / temperature),
 * for op_distill, in the caller's memory when the tape runs: the k <= V largest logits, by token,
 * and the log of the sum of exp(logit / temperature) over all others; -inf if there are none.
 * Returns the probability of the others: [rows,1]. */
struct top_logits {
    int64_t k;
    double temperature;
    int32_t *ids; /* [rows, k], ascending */
    real *logits; /* [rows, k] */
    real *rest;   /* [rows] */
};
struct tensor *op_top_logits(struct tape *t, struct tensor *h, struct tensor *w,
                             const struct top_logits *to);

/* distill.c: op_cross_entropy and the divergence from a teacher's distributions of the same rows:
 * scale * sum over rows of (1 - weight) * -log softmax(h[i] w^T)[labels[i]] + weight * T^2 * KL, T
 * the teacher's temperature. With weight 0 it is op_cross_entropy, bit for bit. */
struct distill_terms {
    double ce, distill; /* both times scale; of distill, T^2 * KL */
};
struct distill {
    const struct top_logits *teacher; /* borrowed with its lists, as labels are */
    double weight, scale;
    struct distill_terms *terms; /* filled when the tape runs forward; or NULL */
};
struct tensor *op_distill(struct tape *t, struct tensor *h, struct tensor *w, const int32_t *labels,
                          const struct distill *d);

/* hidden.c. Inference: x goes to the caller's memory when the tape runs; returns
 * [1,1] of no meaning. */
struct tensor *op_rows_out(struct tape *t, struct tensor *x, real *to);
/* keep * loss + weight * scale * sum over rows of |x[i] - to[i]|^2 / |to[i]|^2: [1,1]. */
struct row_distance {
    const real *to; /* as x; borrowed, read when the tape runs forward */
    double keep, weight, scale;
    /* When the tape runs forward, scale * the sum is added to the one, the loss to
     * the other; or NULL */
    double *term, *before;
};
struct tensor *op_row_distance(struct tape *t, struct tensor *x, struct tensor *loss,
                               const struct row_distance *d);

/* cache.c, inference: writes row i of src to row rows[i] of the caller's cache, whose `rows` rows
 * are as wide, in their form (NULL: reals). Returns the cache as a leaf-like tensor [rows,
 * src->cols], which is what attention must read. */
struct cache_fault {
    bool found;
    int64_t place, row; /* of the first row with a value that its form cannot hold */
    double value;
};
struct cache_store {
    void *data;
    int64_t rows, capacity; /* capacity: rows of each sequence, which come in order; not of reals */
    const struct row_form *form;
    struct cache_fault *fault; /* filled when the tape runs, unless found already */
    int64_t place;             /* what `fault` calls this cache */
};
struct tensor *op_cache_write(struct tape *t, struct tensor *src, const struct cache_store *to,
                              const int32_t *rows);

/* hadamard.c, inference: of each head's w columns of x [T, heads*w], from column x_col on, an
 * orthogonal transform but for a factor of each column: [T, heads*w]. With w / n = k blocks, y =
 * H_n D x for each block b of the columns i = b mod k, in order, which becomes columns [b*n,
 * (b+1)*n): D scales by `by`, H_n is the Walsh-Hadamard matrix over sqrt(n). `back`: the reverse, D
 * after H_n. The rows' modalities are those of the spans (NULL: all are TEXT). */
struct hadamard {
    int64_t x_col, heads, width, block; /* block: a power of two that divides width */
    const real *by[MODALITIES];         /* [width] */
    const struct span *spans;
    int64_t n_spans;
    bool back;
};
struct tensor *op_hadamard(struct tape *t, struct tensor *x, const struct hadamard *h);

/* as_cached.c: each row of x becomes, in place, what it is after being packed in a form without a
 * run; with a block, turned by op_hadamard with `by` before that, and back with `back` after it.
 * The gradient passes straight through. A row that cannot be held becomes NaN. */
struct as_cached {
    const struct row_form *form;
    int64_t block; /* 0: the row is packed as it is */
    const real *by[MODALITIES], *back[MODALITIES];
    const struct span *spans; /* as of op_hadamard */
    int64_t n_spans;
    struct cache_fault *fault; /* as of struct cache_store, or NULL */
    int64_t place;
};
struct tensor *op_as_cached(struct tape *t, struct tensor *x, const struct as_cached *how);

/* cached_attention.c, inference: queries over a cache, absorbed or not; see there. */
struct cached_part {
    struct tensor *q[MODALITIES];   /* by the KEY's modality; IMAGE NULL: q[TEXT] for all */
    struct tensor *k;               /* cache [cache rows, k_groups*width], reals or packed */
    int64_t q_col, width, k_groups; /* kv heads in the cache; 1 = a shared latent */
    struct tensor *fresh; /* [rows, k->cols]: what is read of the sequences' newest keys instead of
                           * their packed rows; or NULL */
};
struct cached_sequence {
    int64_t q_begin, q_end;   /* rows of q */
    int64_t k_begin;          /* first row of the sequence in the cache */
    int64_t position;         /* keys before the first query; query i sees position + i + 1 keys */
    const struct span *spans; /* modalities of its keys, from 0; NULL: all text */
    int64_t n_spans;
};
struct cached_attention {
    struct cached_part part[2];
    int parts;
    struct tensor *v; /* cache [cache rows, v_groups*v_width], reals or packed */
    struct tensor *v_fresh;
    int64_t capacity; /* of a sequence in a packed cache */
    int64_t heads, v_groups, v_width;
    bool split_modalities; /* output [rows, MODALITIES*heads*v_width]: one weighted sum of the
                            * values per modality, text first; else [rows, heads*v_width] */
    struct tensor *key_bias[MODALITIES]; /* [rows, heads] to add to q k, by modality; or NULL */
    bool weights; /* append to the sums, [rows, sums*heads], the total weight of each */
    /* The attention that each key receives, [heads, cache rows]: added to the caller's sums, that
     * of all queries, or of each sequence's last query alone. NULL: not wanted. */
    real *received;
    bool received_by_last;
    const struct cached_sequence *seq;
    int64_t n_seq;
    double scale;
};
struct tensor *op_cached_attention(struct tape *t, const struct cached_attention *a);

#endif
